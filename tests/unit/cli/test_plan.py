"""Bounds calculated by hand, and the chart."""

from __future__ import annotations

import re

import pytest

from orchestrator import each, fan_out, workflow
from orchestrator.planning.bounds import WorstCase, bounds, longest_attempts
from orchestrator.planning.mermaid import mermaid
from schemas.workflows import WINDOW, Workflow
from tests.unit.cli import apps

DRAFT = 3 * 10 + 1 + 2  # three attempts of 10 s, waits of 1 s and 2 s
CHECK = 20
MERGE = 2 * 5 + 3
SPLIT = 30


def test_an_agent_takes_all_attempts_and_the_longest_waits() -> None:
    assert longest_attempts(apps.draft.spec) == DRAFT


def test_a_pipeline_adds_up() -> None:
    assert bounds(apps.line) == WorstCase(
        steps=2, calls=2, attempts=4, parallel=1, depth=1, seconds=DRAFT + CHECK
    )


def test_a_fan_out_with_two_slots_takes_two_rounds_at_most() -> None:
    # Branches of 33, 20 and 53 s on two slots: Graham's bound (106 - 53) / 2 + 53, then the join.
    assert bounds(apps.wide) == WorstCase(
        steps=1 + 2 + 3 + 1,
        calls=5,
        attempts=3 + 1 + 4 + 2,
        parallel=2,
        depth=3,
        seconds=53 / 2 + 53 + MERGE,
    )


def test_an_each_counts_as_many_branches_as_it_admits() -> None:
    # 100 items, 10 at a time, would take 10 x 33 s, but the join goes on after 60 s.
    assert bounds(apps.many) == WorstCase(
        steps=1 + 1 + 100 + 1,
        calls=102,
        attempts=1 + 300 + 2,
        parallel=10,
        depth=2,
        seconds=SPLIT + 60 + MERGE,
    )


def test_full_rounds_are_the_bound_of_equal_branches() -> None:
    equal = workflow("equal", each(apps.check, max_items=5, parallel=2))
    assert bounds(equal).seconds == 3 * CHECK


def test_without_a_bound_of_its_own_a_window_of_branches_runs_at_a_time() -> None:
    worst = bounds(workflow("wide", each(apps.check, max_items=10 * WINDOW)))
    assert (worst.parallel, worst.seconds) == (WINDOW, 10 * CHECK)


def test_the_timeout_of_the_run_bounds_everything() -> None:
    assert bounds(workflow("short", apps.draft >> apps.check, timeout=7)).seconds == 7


def test_nested_fan_outs_multiply() -> None:
    inner = each(apps.check, max_items=10)
    nested = workflow("nested", fan_out(a=inner, b=inner, parallel=1))
    assert bounds(nested) == WorstCase(steps=23, calls=20, attempts=20, parallel=10, depth=3, seconds=40)


NODE = re.compile(r'    +(n\d+)(\(\[".*"\]\)|\[".*"\]|\(\(".*"\)\))')
FRAME = re.compile(r'    +subgraph (n\d+)\[".*"\]')
ARROW = re.compile(r"    +(n\d+) --> (n\d+)")


@pytest.mark.parametrize("name", ["line", "wide", "many", "plain"])
def test_the_chart_has_only_lines_that_mermaid_knows(name: str) -> None:
    known: set[str] = set()
    used: set[str] = set()
    open_frames = 0
    head, *lines = mermaid(getattr(apps, name)).splitlines()

    for line in lines:
        if found := NODE.fullmatch(line) or FRAME.fullmatch(line):
            assert found[1] not in known
            known.add(found[1])
            open_frames += "subgraph" in line
        elif arrow := ARROW.fullmatch(line):
            used |= {arrow[1], arrow[2]}
        else:
            assert line.strip() == "end"
            open_frames -= 1

    assert head == "flowchart TD"
    assert open_frames == 0
    assert used <= known


def test_the_chart_of_a_fan_out() -> None:
    assert mermaid(apps.wide) == (
        "flowchart TD\n"
        '    n1(["input"])\n'
        '    subgraph n2["fan-out, require 2, 2 at a time"]\n'
        '        n3["draft"]\n'
        '        n4["check"]\n'
        '        n5["draft"]\n'
        '        n6["check"]\n'
        "        n5 --> n6\n"
        "    end\n"
        "    n1 --> n2\n"
        '    n7["merge"]\n'
        "    n2 --> n7\n"
        '    n8(["output"])\n'
        "    n7 --> n8\n"
    )


def test_results_that_nobody_joins_meet_in_a_point() -> None:
    chart = mermaid(workflow("unjoined", fan_out(apps.draft, apps.check)))
    assert '(("results"))' in chart


def test_a_name_cannot_break_the_chart() -> None:
    field = 'a"]; evil<b>'
    odd = Workflow.model_validate_json(
        apps.many.model_dump_json().replace('"items":null', '"items":"a\\"]; evil<b>"')
    )
    assert field not in mermaid(odd)
    assert "a#quot;]; evil#lt;b#gt;" in mermaid(odd)
