"""The picture of a workflow: well formed, complete, and nothing on top of something else."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from itertools import pairwise

import pytest

from examples.dependency_review import dependency_review
from examples.support_triage import triage
from orchestrator import approve, debate, fan_out, loop, route, rule, supervise, workflow
from orchestrator.planning.svg import svg
from schemas import Assignments, Brief, Case, Review, Verdict
from schemas.tree import walk
from schemas.workflows import Approve, Leaf, Workflow
from tests.integration.engine.bench import named
from tests.integration.engine.reference import Generator
from tests.unit.cli import apps

NESTED = workflow(
    "nested",
    apps.draft
    >> fan_out(
        apps.check, deep=loop(apps.draft >> apps.check, until="output.text == '<a & b>'"), join=apps.merge
    )
    >> approve("publish").optional(),
)
_BRIEF, _CASE = Brief.model_json_schema(), Case.model_json_schema()
SUPERVISED = workflow(
    "supervised",
    supervise(
        apps.check,
        writer=apps.draft,
        planner=named("planner", takes=_BRIEF, gives=Assignments.model_json_schema()),
        reviewer=named("reviewer", takes=_BRIEF, gives=Review.model_json_schema()),
        within=30,
    )
    >> debate(
        *(named("left"), named("right")),
        rubric={"evidence": 1.0},
        judge=named("judge", takes=_CASE, gives=Verdict.model_json_schema()),
    ),
)
ALL = [SUPERVISED, apps.line, apps.wide, apps.many, apps.plain, triage, dependency_review, NESTED]
SPACE = "{http://www.w3.org/2000/svg}"


def drawn(workflow: Workflow) -> ElementTree.Element:
    return ElementTree.fromstring(svg(workflow))  # noqa: S314  our own


def words(picture: ElementTree.Element) -> list[str]:
    return [text.text or "" for text in picture.iter(f"{SPACE}text")]


def boxes(picture: ElementTree.Element, kind: str) -> Iterator[tuple[float, float, float, float]]:
    """Left, top, right, bottom of each rectangle or polygon of this class."""
    for element in picture.iter():
        if kind not in element.get("class", "").split():
            continue
        if element.tag == f"{SPACE}rect":
            x, y, w, h = (float(element.get(name, "0")) for name in ("x", "y", "width", "height"))
            yield x, y, x + w, y + h
        elif element.tag == f"{SPACE}polygon":
            points = [tuple(map(float, pair.split(","))) for pair in element.get("points", "").split()]
            yield (*map(min, zip(*points, strict=True)), *map(max, zip(*points, strict=True)))  # type: ignore[misc]


@pytest.mark.parametrize("workflow", ALL, ids=lambda one: one.name)
def test_every_part_is_in_the_picture(workflow: Workflow) -> None:
    shown = words(drawn(workflow))

    nodes = [node for _, node in walk(workflow.body)]
    agents = [node.agent for node in nodes if isinstance(node, Leaf)]
    assert sorted(word for word in shown if word in set(agents)) == sorted(agents)
    for node in nodes:
        if isinstance(node, Approve):
            assert f"approve {node.name}" in shown
    assert {"input", "output"} <= set(shown)
    assert ("results" in shown) == (workflow.name == "triage")


def test_a_way_that_is_not_called_like_its_agent_has_its_name_beside_it() -> None:
    ways = route(apps.check, quick=apps.draft, rules=[rule("r", go="quick", when="true")], fallback="quick")
    shown = words(drawn(workflow("ways", ways)))
    assert shown.count("check") == 1
    assert shown.count("quick") == 1


_GENERATOR = Generator(7)
RANDOM = [_GENERATOR.workflow(f"random-{number}") for number in range(60)]


@pytest.mark.parametrize("workflow", [*ALL, *RANDOM], ids=lambda one: one.name)
def test_no_box_lies_on_another_or_outside(workflow: Workflow) -> None:
    picture = drawn(workflow)
    found = list(boxes(picture, "box"))
    wide, high = (float(picture.get(name, "0")) for name in ("width", "height"))

    for number, (left, top, right, bottom) in enumerate(found):
        assert left >= 0
        assert top >= 0
        assert right <= wide + 1
        assert bottom <= high + 1
        for other in found[number + 1 :]:
            assert right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top


def test_frames_lie_inside_each_other_or_apart() -> None:
    frames = sorted(boxes(drawn(NESTED), "frame"))
    assert len(frames) == 3
    for one, other in pairwise(frames):
        inside = one[1] < other[1] and other[3] < one[3] and other[2] < one[2]
        apart = one[3] <= other[1] or other[3] <= one[1] or one[2] <= other[0]
        assert inside or apart


def test_every_stage_is_entered_by_an_arrow() -> None:
    arrows = [one for one in drawn(apps.line).iter(f"{SPACE}path") if "arrow" in one.get("class", "")]
    assert len(arrows) == 3  # input, draft, check, output


def test_names_cannot_break_the_picture() -> None:
    assert "output.text == '<a & b>'" in " ".join(words(drawn(NESTED)))
