"""`baton breakers`, as it is typed, on a real Redis."""

from __future__ import annotations

import pytest

from orchestrator.breakers import Circuits, End
from schemas.breakers import Breaker
from schemas.settings import settings
from tests.integration.cli.test_moving_runs import Baton, told
from tests.integration.cli.test_moving_runs import baton as baton


@pytest.fixture
def opened(broker: str) -> None:
    """The circuit of a tool is open."""
    circuits = Circuits(broker)
    for _ in range(2):
        circuits.tell([End(circuits.ask([("tool search", Breaker(minimum=2))])[0], "bad")])
    circuits.close()


@pytest.mark.usefixtures("opened")
def test_circuits_are_listed_and_reset(baton: Baton) -> None:
    (found,) = told(baton("breakers", "ls", "--json"))
    assert (found["name"], found["state"], found["breaker"]["open"]) == ("tool search", "open", 30.0)
    assert (found["failed"], found["ended"]) == (2, 2)
    shown = baton("breakers", "ls").stdout
    assert "tool search  open for " in shown
    assert "2 of 2 in 60 s" in shown

    assert baton("breakers", "reset", "tool search").stdout == "The circuit of tool search is closed.\n"

    assert "No circuit is known" in baton("breakers", "ls").stdout
    refused = baton("breakers", "reset", "tool search", code=1).stderr
    assert "there is no circuit 'tool search'" in refused
    assert "next:  baton breakers ls" in refused


@pytest.mark.usefixtures("opened")
def test_they_stand_in_a_redis_of_their_own_where_the_broker_is_none(
    baton: Baton, broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATON_BROKER_URL", "amqp://127.0.0.1:1//")
    monkeypatch.setenv("BATON_BREAKERS_URL", broker)
    settings.cache_clear()

    assert [one["name"] for one in told(baton("breakers", "ls", "--json"))] == ["tool search"]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("amqp://127.0.0.1:1//", "circuit breakers need a Redis, and the broker is none"),
        ("redis://127.0.0.1:1/0", "Redis cannot be reached"),
    ],
)
def test_without_redis_it_says_so(baton: Baton, url: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATON_BROKER_URL", url)
    settings.cache_clear()

    assert said in baton("breakers", "ls", code=1).stderr
