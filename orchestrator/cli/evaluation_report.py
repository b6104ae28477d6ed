"""Evaluations as tables for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from orchestrator.cli.output import print_table, took

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from schemas.evaluations import CaseResult, Change, Evaluation, Measured, RouteEvaluation

_SILENT = "none told"  # agents say what they consume, or nobody knows
_SHOWN = 20
"""Cases of a kind that are shown one by one; --json has them all."""


def show(told: Evaluation) -> None:
    """Print what all cases say together, what changed, and the cases that are not as they should be."""
    arms = [told.measured] if told.against is None else [told.measured, told.against]
    typer.secho(f"evaluation {told.name}", bold=True)
    print_table(["", *(_arm(told, one) for one in arms)], _figures(arms), empty="")
    if told.comparison is not None:
        better, worse = len(told.comparison.better), len(told.comparison.worse)
        typer.echo(f"\n{better} better, {worse} worse, {told.comparison.same} the same")
        _changes("WORSE", told.comparison.worse)
        _changes("BETTER", told.comparison.better)
    poor = sorted((one for one in told.measured.results if one.score < 1), key=lambda one: one.score)
    if poor:
        typer.echo()
        rows = [(one.id, f"{one.score:.3f}", one.ending, one.run or "", _why(one)) for one in poor[:_SHOWN]]
        print_table(["CASE", "SCORE", "ENDING", "RUN", "WHY"], rows, empty="")
        _more(len(poor))
    typer.secho(f"\nits runs:  baton runs ls --label evaluation={told.name}", fg="cyan", err=True)


def show_route(told: RouteEvaluation) -> None:
    """Print how often it was right, who decided, what was taken for what, and the cases that went wrong."""
    number = len(told.results)
    typer.secho(f"{told.workflow}, version {told.version}, router {told.step}: {number} cases", bold=True)
    shares = (
        ("accuracy", told.accuracy),
        ("left open by the rules", told.left_open),
        ("unsure", told.unsure),
    )
    print_table(
        ["", ""], [(what, f"{share:.3f}") for what, share in (*shares, ("fallback", told.fallback))], empty=""
    )
    typer.echo()
    rows = [
        (one.name, one.decided, f"{one.decided / number:.3f}", one.right, f"{one.right / one.decided:.3f}")
        for one in told.deciders
    ]
    print_table(["DECIDED BY", "CASES", "SHARE", "RIGHT", "PRECISION"], rows, empty="")
    typer.echo()
    went = [way for way in (*told.choices, "nowhere") if any(way in row for row in told.confusion.values())]
    print_table(
        ["EXPECTED \\ WENT TO", *went],
        [
            (way, *(told.confusion[way].get(one, "·") for one in went))
            for way in told.choices
            if way in told.confusion
        ],
        empty="",
    )
    wrong = [one for one in told.results if not one.right]
    if wrong:
        typer.echo()
        print_table(
            ["CASE", "EXPECTED", "WENT TO", "BY", "WHY"],
            [
                (one.id, one.expected, one.choice or "", one.rule or one.by, one.reason)
                for one in wrong[:_SHOWN]
            ],
            empty="",
        )
        _more(len(wrong))


def _arm(told: Evaluation, one: Measured) -> str:
    against = "against " if one is told.against else ""
    return f"{against}{one.workflow} v{one.version} ({one.definition[:8]})"


def _figures(arms: Sequence[Measured]) -> Iterator[tuple[str, ...]]:
    def row(name: str, values: Iterable[str]) -> tuple[str, ...]:
        return (name, *values)

    yield row("cases", (f"{len(one.results):,}" for one in arms))
    yield row("quality", (f"{one.quality:.3f}" for one in arms))
    names = dict.fromkeys(name for one in arms for name in one.scores)
    if set(names) != {"score"}:
        for name in names:
            yield row(f"  {name}", (f"{one.scores[name]:.3f}" if name in one.scores else "" for one in arms))
    for ending, what in (
        ("failed", "failed runs"),
        ("check_error", "check errors"),
        ("unfinished", "unfinished"),
    ):
        yield row(what, (f"{one.endings[ending]:,}" for one in arms))
    yield row("degraded", (f"{sum(result.degraded for result in one.results):,}" for one in arms))
    yield row("cost", (f"{one.usage.usd:.4g} USD" if one.usage.usd else _SILENT for one in arms))
    yield row("tokens", (f"{one.usage.tokens:,}" if one.usage.tokens else _SILENT for one in arms))
    yield row(
        "model calls", (f"{one.usage.model_calls:,}" if one.usage.model_calls else _SILENT for one in arms)
    )
    yield row("latency p50", (_time(one.p50) for one in arms))
    yield row("latency p95", (_time(one.p95) for one in arms))


def _changes(kind: str, changes: Sequence[Change]) -> None:
    if changes:
        rows = [
            (one.id, f"{one.before:.3f}", f"{one.after:.3f}", one.run_before or "", one.run_after or "")
            for one in changes[:_SHOWN]
        ]
        print_table([kind, "BEFORE", "AFTER", "RUN BEFORE", "RUN AFTER"], rows, empty="")
        _more(len(changes))


def _why(one: CaseResult) -> str:
    if one.reason:
        return one.reason.partition("\n")[0][:120]
    low = [f"{name} {score:.3g}" for name, score in one.scores.items() if score < 1 and name != "score"]
    return ", ".join(low)


def _more(number: int) -> None:
    if number > _SHOWN:
        typer.echo(f"and {number - _SHOWN:,} more: --json has them all")


def _time(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1_000:.0f} ms" if seconds < 1 else took(seconds)
