"""What an attempt had paid for that never told: it is told of its step and its run, once, whatever follows."""

from __future__ import annotations

from uuid import UUID

import pytest

from orchestrator.definitions.vocabulary import workflow
from orchestrator.engine import Claimed, Finished, Pointer
from schemas import RunState, Usage
from schemas.outcomes import ErrorInfo, Failed
from tests.integration.worker.test_asking import Desk
from tests.integration.worker.test_thinking import Question, provided, writer
from tests.integration.worker.test_thinking import desk as desk
from workers import Agent, Context, agent
from workers.endings import Superseded
from workers.scripted import ScriptedProvider, answer, call

SCRIPT = [call("look"), answer({"lines": ["ok"]})]


def paid(provider: ScriptedProvider) -> Usage:
    return Usage(
        tokens=provider.input_tokens + provider.output_tokens, usd=provider.usd, model_calls=len(provider.log)
    )


def about(usage: Usage) -> tuple[int, float, int]:
    return usage.tokens, round(usage.usd, 12), usage.model_calls


def totals(desk: Desk, run: UUID) -> list[tuple[int, float, int]]:
    view = desk.view(run)
    return [
        about(usage)
        for usage in (
            view.totals.usage,
            next(step.totals.usage for step in view.steps if step.path == "0"),
            desk.views.figures([view.id])[0].usage,
        )
    ]


def begun(desk: Desk, model: Agent) -> tuple[UUID, Claimed]:
    """A run whose first attempt is under way."""
    desk.agents[model.name] = model
    run = desk.submit(workflow("w", model.part), {"about": "tides"})
    desk.messages.pop(0)
    claimed = desk.engine.claim(Pointer(run, "0"))
    assert isinstance(claimed, Claimed)
    return run, claimed


def losing(desk: Desk, provider: ScriptedProvider) -> Agent:
    """A model agent whose worker is taken for dead in its first call of a tool."""
    lost: list[bool] = []

    def look() -> str:
        if not lost:
            lost.append(True)
            (row,) = desk.query("SELECT run_id FROM steps WHERE state = 'running'")
            desk.messages += desk.engine.release(Pointer(row[0], "0"))
        return "seen"

    return writer(provider, tools=[look])


def test_it_is_told_while_nobody_goes_on_and_once_when_somebody_does(desk: Desk) -> None:
    with provided(SCRIPT) as provider:
        run, claimed = begun(desk, losing(desk, provider))
        with pytest.raises(Superseded):
            desk.attempt(claimed)

        assert len(provider.log) == 1
        assert totals(desk, run) == 3 * [about(paid(provider))]

        desk.work()

        assert desk.end(run).output == {"lines": ["ok"]}
        assert len(provider.log) == 2
        assert totals(desk, run) == 3 * [about(paid(provider))]


def test_it_is_told_of_a_run_that_is_cancelled_before_anybody_goes_on(desk: Desk) -> None:
    with provided(SCRIPT) as provider:
        run, claimed = begun(desk, losing(desk, provider))
        with pytest.raises(Superseded):
            desk.attempt(claimed)
        desk.engine.cancel(run)

        assert desk.view(run).state is RunState.CANCELLED
        assert totals(desk, run) == 3 * [about(paid(provider))]


def test_an_attempt_that_was_killed_for_its_time_has_told_of_nothing(desk: Desk) -> None:
    with provided(SCRIPT) as provider:
        run, claimed = begun(desk, losing(desk, provider))
        with pytest.raises(Superseded):
            desk.attempt(claimed)
        # The next one is killed with its process before it has read the journal, and others say so for it.
        desk.messages.clear()
        again = desk.engine.claim(Pointer(claimed.run.id, "0"))
        assert isinstance(again, Claimed)
        late = Failed(error=ErrorInfo(type="AttemptTimeout", message="it was killed"), retry_in=0.0)
        desk.messages += desk.engine.record(Finished(claimed.run.id, "0", again.attempt, late)).ready

        assert totals(desk, run) == 3 * [about(paid(provider))]
        desk.work()

        assert desk.end(run).output == {"lines": ["ok"]}
        assert totals(desk, run) == 3 * [about(paid(provider))]


def test_what_an_agent_keeps_for_itself_is_no_usage(desk: Desk) -> None:
    @agent
    async def teller(ctx: Context, value: Question) -> int:
        await ctx.once("model", lambda: {"usage": {"tokens": 5, "usd": 1, "model_calls": 1}})
        return 1

    run = desk.start(teller, value={"about": "tides"})

    assert totals(desk, run) == 3 * [(0, 0.0, 0)]
