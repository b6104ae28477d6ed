"""`on(...)` refuses what could not work, with every fault at once, and an app's reactions are found."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.definitions.reactions import on
from orchestrator.definitions.vocabulary import workflow
from orchestrator.loading import _Search
from schemas.errors import DefinitionError
from schemas.subscriptions import Debounce
from tests.integration.engine.bench import named

FLOW = workflow("flow", named("a"))


@pytest.mark.parametrize(
    ("said", "faults"),
    [
        pytest.param({"when": "ticket.x"}, ["when"], id="a name that is not there"),
        pytest.param({"when": "event.x ==", "key": "events", "input": "1 +"}, ["when", "key", "input"], id="all"),
        pytest.param({"input": "events"}, ["input"], id="events without take=all"),
        pytest.param({"take": "all"}, ["take"], id="take of nothing held"),
        pytest.param({"take": "some", "debounce": 1}, ["take"], id="an unknown take"),
        pytest.param({"debounce": 0}, ["quiet", "longest"], id="no time"),
        pytest.param({"throttle": -1}, ["throttle"], id="a negative time"),
        pytest.param({"debounce": Debounce(quiet=5, longest=1)}, ["debounce"], id="a debounce that cannot be"),
        pytest.param({"name": "a b", "priority": 10}, ["name", "priority"], id="fields"),
    ],
)  # fmt: skip
def test_a_subscription_that_could_not_work_is_refused(said: dict[str, Any], faults: list[str]) -> None:
    with pytest.raises(DefinitionError) as refused:
        on("ticket.created", start=FLOW, **said)

    assert [fault.path for fault in refused.value.faults] == faults


@pytest.mark.parametrize("type", ["", "a b", "*", "a*", ".*", "a..b"])
def test_a_type_that_no_event_can_have_is_refused(type: str) -> None:
    with pytest.raises(DefinitionError):
        on(type, start=FLOW)


def test_a_subscription_is_named_for_what_it_does() -> None:
    assert on("ticket.created", start=FLOW).name == "flow.ticket.created"
    assert on("ticket.*", start=FLOW).name == "flow.ticket"
    assert on("ticket.*", start=FLOW, name="other").name == "other"


def test_reactions_are_found_and_two_of_one_name_must_agree() -> None:
    search = _Search()
    search._look_at(on("a", start=FLOW), "here")
    search._look_at(on("a", start=FLOW), "there")
    assert (list(search.reactions), search.faults) == (["flow.a"], [])

    search._look_at(on("a", start=FLOW, when="event.x"), "elsewhere")

    assert [str(fault) for fault in search.faults] == [
        "elsewhere: reaction 'flow.a' differs from the one of this name in here"
    ]
