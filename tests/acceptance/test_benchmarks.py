"""The benchmarks run, whatever the numbers: each scenario in its smallest form, on both sides."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import commits, report
from benchmarks.__main__ import NAMES, measure
from benchmarks.compare import Servers
from benchmarks.scenarios import SCENARIOS, TINY


@pytest.mark.timeout(600)
def test_every_scenario_runs_and_its_report_can_be_read(
    database: str, broker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commits.count_commits, "__defaults__", (0.1,))
    base = broker.rsplit("/", 1)[0]

    made = measure(Servers(database, f"{base}/0", f"{base}/1"), replace(TINY), NAMES, tmp_path)

    assert len(made.comparisons) == len(SCENARIOS)
    assert [growth.cpu > 0 for growth in made.growth] == [True, True, True, True]
    assert made.commits[0].writes > 0
    assert [one.timers for one in made.lateness] == [2] * 8
    assert all(0 <= one.p50 <= one.most for one in made.lateness)
    assert made.looks is not None
    assert made.looks.pages > 0
    ((plain, baton),) = [(one.plain, one.baton) for one in made.recovery]
    assert plain is not None
    assert (plain.seconds, baton.lost) == ([], 0)
    assert len(made.rounds) == 8
    assert all(one.milliseconds > 0 for one in made.rounds)
    assert len(made.thoughts) == 5
    assert made.thoughts[3].baton >= 1  # the model takes a second
    assert len(made.remembered) == 4
    assert made.found_by_index == 1.0  # of so few memories all are compared
    assert made.deploy is not None
    assert (made.deploy.roll.lost, made.deploy.roll.failed, made.deploy.losses) == (0, 0, 0)
    assert '"slow_disk": false' in report.as_json(made)
    assert "| pipeline of 5, many at a time |" in report.as_markdown(made)
    report.show(made, Console())
