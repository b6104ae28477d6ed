"""`python -m benchmarks`: measure, show, and on demand write down."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from benchmarks import report as reports
from benchmarks.commits import count_commits
from benchmarks.compare import Servers, both_sides, both_waiting, compare
from benchmarks.deploy import measure_deploy
from benchmarks.gates import measure_gates
from benchmarks.growth import measure_growth
from benchmarks.lateness import measure_lateness
from benchmarks.recovery import measure_recovery
from benchmarks.remembering import found_by_index, measure_remembering
from benchmarks.rounds import measure_rounds
from benchmarks.scenarios import FULL, QUICK, SCENARIOS, Sizes
from benchmarks.sides import Baton
from benchmarks.stage import embedded, folder
from benchmarks.thinking import measure_thinking

RESULTS = Path(__file__).parent / "RESULTS.md"
NAMES = [
    *(scenario.name for scenario in SCENARIOS),
    "commits",
    "growth",
    "timers",
    "rounds",
    "thinking",
    "memory",
    "gates",
    "deploy",
    "recovery",
]

say = Console(stderr=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the command line asks for."""
    options = _parser().parse_args(arguments)
    sizes = QUICK if options.quick else FULL
    if options.rounds:
        sizes = replace(sizes, rounds=options.rounds)
    wanted = options.only or NAMES
    with folder() as place, embedded(place, slow_disk=options.slow_disk) as servers:
        report = measure(servers, sizes, wanted, place)
    report.slow_disk = options.slow_disk
    if options.json:
        print(reports.as_json(report))
    else:
        reports.show(report, Console())
    if options.write:
        RESULTS.write_text(reports.as_markdown(report))


def measure(servers: Servers, sizes: Sizes, wanted: Sequence[str], place: Path) -> reports.Report:
    """All wanted scenarios, those that share workers together."""
    report = reports.Report(sizes)
    for waits, opened in ((False, both_sides), (True, both_waiting)):
        scenarios = [s for s in SCENARIOS if s.name in wanted and s.waits == waits]
        if scenarios:
            with opened(servers, sizes, place) as sides:
                for scenario in scenarios:
                    say.print(f"measuring {scenario.name} ...", style="dim")
                    report.comparisons.append(compare(scenario, sides, sizes))
    if {"commits", "growth", "timers"} & set(wanted):
        with Baton(
            servers.database_url, servers.broker_url, concurrency=sizes.concurrency, folder=place
        ) as side:
            _measure_alone(report, side, servers.database_url, wanted)
    if "rounds" in wanted:
        say.print("measuring rounds ...", style="dim")
        with both_sides(servers, sizes, place) as (plain, baton):
            report.rounds = list(measure_rounds(baton, plain, sizes))
    if "thinking" in wanted:
        say.print("measuring thinking ...", style="dim")
        report.thoughts = measure_thinking(servers.database_url, servers.broker_url, sizes, place)
    if "memory" in wanted:
        say.print("measuring memory ...", style="dim")
        report.remembered = list(measure_remembering(servers.database_url, sizes))
        report.found_by_index = found_by_index(servers.database_url)
    if "gates" in wanted:
        say.print("measuring gates ...", style="dim")
        report.gates = measure_gates(servers.database_url, servers.broker_url, sizes)
    if "deploy" in wanted:
        say.print("measuring deploy ...", style="dim")
        report.deploy = measure_deploy(servers, sizes.load, place)
    if "recovery" in wanted:
        say.print("measuring recovery ...", style="dim")
        report.recovery = measure_recovery(sizes.outages, place / "recovery")
    return report


def _measure_alone(report: reports.Report, side: Baton, database_url: str, wanted: Sequence[str]) -> None:
    side.pipelines(1)
    if "commits" in wanted:
        say.print("measuring commits ...", style="dim")
        report.idle, report.commits = count_commits(side, report.sizes)
    if "timers" in wanted:
        say.print("measuring timers ...", style="dim")
        report.lateness, report.looks = measure_lateness(side, report.sizes, database_url)
    if "growth" in wanted:
        say.print("measuring growth ...", style="dim")
        report.growth = list(measure_growth(side, report.sizes, database_url))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Baton against plain Celery.")
    parser.add_argument("--quick", action="store_true", help="less of everything: about a minute")
    parser.add_argument("--rounds", type=int, metavar="N", help="alternating rounds of each scenario")
    parser.add_argument("--only", action="append", choices=NAMES, metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--slow-disk", action="store_true", help="Postgres's flushes take 2 ms longer")
    parser.add_argument("--json", action="store_true", help="print JSON with every value")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    return parser


if __name__ == "__main__":
    main()
