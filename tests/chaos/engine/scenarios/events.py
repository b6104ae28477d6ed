"""Events come from outside: they start runs, at once or when it has been quiet, and wake steps."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from orchestrator.definitions.reactions import on
from orchestrator.definitions.vocabulary import wait_for
from orchestrator.incoming.inbox import Inbox
from orchestrator.incoming.subscriptions import Subscriptions
from tests.chaos.engine.scenarios.building import A, B, Scenario, Story, new
from tests.chaos.engine.stage import Stage


def starting(*reactions: dict[str, Any]) -> Scenario:
    """What was held back is started, and what comes now."""

    def scenario(stage: Stage) -> Story:
        inbox = Inbox(stage.sound)
        made = [on(**said, start=new(A)) for said in reactions]
        Subscriptions(stage.sound, stage.engines[1].plans).deploy(made)
        inbox.emit("calmed", [1])
        stage.fire()
        stage.query("UPDATE event_gates SET due_at = now() WHERE held > 0")
        for number in (1, 2):
            inbox.emit("came", number)
        yield stage.fire
        stage.fire()  # whoever saw an error looks again
        found = stage.query(
            "SELECT id FROM runs WHERE labels ? 'subscription' ORDER BY labels ->> 'subscription', input"
        )
        return [run for (run,) in found]

    return scenario


at_once = starting({"type": "came", "name": "a"}, {"type": "came", "name": "b", "when": "event > 7"})
at_a_pace = starting(
    {"type": "came", "name": "a", "throttle": 3600, "take": "first"},
    {"type": "calmed", "name": "b", "debounce": 3600, "take": "all"},
)


def steps_wait(stage: Stage) -> list[UUID]:
    """One that is new, for an event that has come, and one that has waited."""
    inbox = Inbox(stage.sound)
    runs = [stage.submit(new(wait_for("came", when="event == 2") >> B))]
    inbox.emit("came", 1)
    stage.fire()
    inbox.emit("came", 2)
    return [*runs, stage.submit(new(wait_for("came") >> B))]
