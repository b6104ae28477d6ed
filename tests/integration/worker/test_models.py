"""Several models behind one agent: tiers, stand-ins, and how long each may take."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from orchestrator.definitions.vocabulary import workflow
from orchestrator.store.schema import upgrade
from schemas import Price, RunState
from schemas.errors import DefinitionError
from schemas.events import EventKind
from schemas.outcomes import Failed
from tests.integration.worker.test_asking import Desk
from tests.integration.worker.test_thinking import ask, provided, spent, writer
from tests.support import Databases
from workers import AgentError, Model, Retry, agent, execute, llm_agent
from workers.models.standing_in import StandIns
from workers.scripted import Asked, Refusal, Reply, ScriptedProvider, answer, call, refuse, text

FREE = Price(input=0, output=0)


class Verdict(BaseModel):
    text: str
    sure: float


class Unsure(BaseModel):
    text: str
    sure: float | None


@pytest.fixture
def desk(databases: Databases) -> Iterator[Desk]:
    url = databases.create(databases.template("migrated", upgrade))
    made = Desk(url)
    yield made
    made.close()
    databases.drop(url)


def cheap(provider: ScriptedProvider) -> Model:
    return Model("openai:cheap", provider.base_url, price=Price(input=1, output=10))


def strong(provider: ScriptedProvider) -> Model:
    return Model("openai:strong", provider.base_url, price=Price(input=10, output=100))


def nowhere() -> Model:
    """A model on a server that is not there."""
    with socket.create_server(("127.0.0.1", 0)) as gone:
        return Model("openai:dead", f"http://127.0.0.1:{gone.getsockname()[1]}/v1", price=FREE)


def tiers(provider: ScriptedProvider, **options: Any) -> Any:
    models = [cheap(provider), strong(provider)]
    given = {"models": models, "model": None, "base_url": None, "price": None, "output": Verdict}
    return writer(provider, **(given | options))


def decided(desk: Desk, run: UUID) -> dict[str, Any]:
    (found,) = [event.data for event in desk.events(run) if event.kind is EventKind.STEP_DECIDED]
    return found


def warned(desk: Desk, run: UUID) -> list[dict[str, Any]]:
    return [event.data for event in desk.events(run) if event.kind is EventKind.STEP_WARNING]


def asked(provider: ScriptedProvider) -> list[str]:
    return [one.model for one in provider.log]


# --- tiers ------------------------------------------------------------------------------------------------


def test_a_cheap_model_that_is_sure_is_enough(desk: Desk) -> None:
    with provided([answer({"text": "yes", "sure": 0.7})]) as provider:
        run = ask(desk, tiers(provider, confidence="output.sure"))

    assert desk.end(run).output == {"text": "yes", "sure": 0.7}
    assert asked(provider) == ["cheap"]
    assert decided(desk, run) == {
        "choice": "openai:cheap", "by": "step", "reason": "", "alternatives": {"openai:strong": None}
    }  # fmt: skip


def test_one_that_is_not_sure_is_followed_by_a_better_one(desk: Desk) -> None:
    def said(asked: Asked) -> Reply:
        return answer({"text": asked.model, "sure": 0.4}, tokens=(100, 10))

    with provided(said) as provider:
        run = ask(desk, tiers(provider, confidence="output.sure", threshold=0.5))

    # The last one counts, however sure it is
    assert desk.end(run).output == {"text": "strong", "sure": 0.4}
    assert decided(desk, run)["choice"] == "openai:strong"
    assert decided(desk, run)["reason"] == "openai:cheap: output.sure is 0.4, less than 0.5"
    # And both are paid for, each at its price
    paid = spent(desk, run)
    assert (paid.tokens, paid.model_calls, round(paid.usd, 6)) == (220, 2, 0.0022)


def test_confidence_that_cannot_be_told_is_none(desk: Desk) -> None:
    with provided([answer({"text": "yes", "sure": None})]) as provider:
        run = ask(desk, tiers(provider, output=Unsure, confidence="output.sure"))

    assert asked(provider) == ["cheap", "strong"]
    assert "gave None instead of a number" in decided(desk, run)["reason"]


def test_one_that_gives_nothing_that_fits_is_followed_by_a_better_one(desk: Desk) -> None:
    def said(asked: Asked) -> Reply:
        return answer({"text": "ok", "sure": 1 if asked.model == "strong" else "very"})

    with provided(said) as provider:
        run = ask(desk, tiers(provider, corrections=1))

    assert desk.end(run).output == {"text": "ok", "sure": 1}
    assert asked(provider) == ["cheap", "cheap", "strong"]
    assert "cheap gave no answer that fits" in decided(desk, run)["reason"]
    # The better one is not shown what was wrong
    assert "very" not in provider.log[2].said


def test_one_that_goes_round_in_circles_too_and_the_last_one_fails_for_good(desk: Desk) -> None:
    looked: list[str] = []

    def look() -> str:
        looked.append("once more")
        return f"nothing, {len(looked)} times"

    with provided(lambda asked: call("look")) as provider:
        run = ask(desk, tiers(provider, tools=[look], max_calls=2, retry=Retry(max=3)))

    end = desk.end(run)
    assert (end.state, asked(provider)) == (RunState.FAILED, ["cheap", "cheap", "strong", "strong"])
    assert "strong was called 2 times without giving an answer" in str(end.error)
    # The better one is shown all that was done, that after the last call of the other too
    assert "nothing, 2 times" in provider.log[2].said


def test_a_better_model_goes_on_from_what_tools_have_done(desk: Desk) -> None:
    bought: list[str] = []

    def buy(what: str) -> str:
        bought.append(what)
        return f"bought {what}"

    def said(asked: Asked) -> Reply:
        if asked.turn == 0:
            return call("buy", what="tea")
        return answer({"text": "bought", "sure": 0.9 if asked.model == "strong" else 0.1})

    with provided(said) as provider:
        run = ask(desk, tiers(provider, tools=[buy], confidence="output.sure"))

    assert desk.end(run).output == {"text": "bought", "sure": 0.9}
    assert (bought, asked(provider)) == (["tea"], ["cheap", "cheap", "strong"])
    # It is told what to do and what was done, and not what the other one made of it
    assert "Write a report." in provider.log[2].said
    assert "tides" in provider.log[2].said
    assert "bought tea" in provider.log[2].said
    assert provider.log[2].turn == 1


def test_a_retry_asks_no_tier_again(desk: Desk) -> None:
    # Given a better model that breaks down once, after a cheap one that was not sure
    def said(asked: Asked) -> Reply | Refusal:
        if asked.model == "strong":
            return answer({"text": "ok", "sure": 1}) if seen(asked) else refuse(500, "hm", retry_after=9)
        return answer({"text": "ok", "sure": 0.1})

    def seen(asked: Asked) -> bool:
        return sum(one.model == asked.model for one in provider.log) > 1

    with provided(said) as provider:
        agent = tiers(provider, confidence="output.sure", retry=Retry(max=1, base=0.01))
        run = desk.start(agent, value={"about": "tides"})
        desk.query("UPDATE steps SET due_at = clock_timestamp() WHERE run_id = %s", run)
        desk.work()

    assert desk.end(run).output == {"text": "ok", "sure": 1}
    assert asked(provider) == ["cheap", "strong", "strong"]
    assert decided(desk, run)["choice"] == "openai:strong"
    assert spent(desk, run).model_calls == 2


def test_faults_of_tiers_are_named_at_once() -> None:
    def refused(**options: Any) -> str:
        with pytest.raises(DefinitionError) as caught:
            llm_agent("writer", input=str, output=Verdict, instructions="", **options)
        return str(caught.value)

    assert "no other model" in refused(model="openai:gpt-5", confidence="output.sure")
    assert "is no condition" in refused(models=["openai:gpt-5-nano", "openai:gpt-5"], confidence="output.")
    assert "name one model" in refused()
    assert "name one model" in refused(model="openai:gpt-5", models=["openai:gpt-5"])
    assert "say it in each" in refused(models=["openai:a", "openai:b"], price=FREE)
    assert "fallbacks/price" in refused(model="openai:gpt-5", fallbacks=[Model("openai:x", "http://x/v1")])


# --- stand-ins --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trouble",
    [refuse(500), refuse(429, retry_after=30), refuse(401), text("", wrong="cut")],
    ids=["broken", "limited", "unauthorized", "cut"],
)
def test_another_model_stands_in_for_one_that_does_not_answer(
    desk: Desk, trouble: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.models.requests.STAND_INS", StandIns())

    def said(asked: Asked) -> Any:
        return trouble if asked.model == "cheap" else answer({"lines": ["ok"]})

    with provided(said) as provider:
        options = {"model": cheap(provider), "fallbacks": [strong(provider)], "base_url": None, "price": None}
        run = ask(desk, writer(provider, **options))
        ask(desk, writer(provider, **options))

    assert desk.end(run).output == {"lines": ["ok"]}
    assert asked(provider) == 2 * ["cheap", "strong"]
    logged = [
        line for line in caplog.messages if line.startswith("agent writer: openai:strong answers instead")
    ]
    assert len(logged) == 1, "the second run has its event, the log has said it"
    assert "scripted" not in logged[0]
    (told,) = warned(desk, run)
    assert told["message"].startswith("openai:strong answered instead of openai:cheap: cheap at ")
    # What was cut off may have to be paid.
    assert spent(desk, run).model_calls == (2 if isinstance(trouble, Reply) else 1)


def test_a_server_that_is_not_there_has_a_stand_in_and_a_bad_request_has_none(desk: Desk) -> None:
    with provided([[answer({"lines": ["ok"]}), refuse(400, "too long")]]) as provider:
        options = {"fallbacks": [strong(provider)], "base_url": None, "price": None}
        run = ask(desk, writer(provider, model=nowhere(), **options))
        other = ask(desk, writer(provider, model=cheap(provider), **options))

    assert desk.end(run).output == {"lines": ["ok"]}
    assert "too long" in str(desk.end(other).error)
    assert asked(provider) == ["strong", "cheap"]


def test_a_retry_has_the_answer_of_the_stand_in_and_tells_of_it_once(desk: Desk) -> None:
    did: list[str] = []

    def look() -> str:
        did.append("look")
        if len(did) == 1:
            raise OSError("the disk is full")
        return "seen"

    def said(asked: Asked) -> Any:
        return [call("look"), answer({"lines": ["ok"]})][asked.turn]

    with provided(said) as provider:
        options = {"fallbacks": [strong(provider)], "base_url": None, "price": None, "tools": [look]}
        run = ask(desk, writer(provider, model=nowhere(), retry=Retry(max=1, base=0.01), **options))

    assert desk.end(run).output == {"lines": ["ok"]}
    assert [one.turn for one in provider.log] == [0, 1]
    # Once for each call
    assert len(warned(desk, run)) == 2
    assert spent(desk, run).model_calls == 2


def test_if_no_model_answers_all_of_it_is_told(desk: Desk) -> None:
    with provided(lambda asked: refuse(401, f"no {asked.model}")) as provider:
        options = {"fallbacks": [strong(provider)], "base_url": None, "price": None, "retry": Retry(max=3)}
        run = ask(desk, writer(provider, model=cheap(provider), **options))

    # For good, since none of them may answer next time
    assert asked(provider) == ["cheap", "strong"]
    assert "no cheap" in str(desk.end(run).error)
    assert "no strong" in str(desk.end(run).error)


# --- time -------------------------------------------------------------------------------------------------


def due_in(desk: Desk, run: UUID) -> float:
    ((seconds,),) = desk.query(
        "SELECT extract(epoch FROM due_at - clock_timestamp())::float FROM steps WHERE run_id = %s", run
    )
    return float(seconds)


def test_a_retry_waits_as_long_as_its_provider_asks_and_holds_no_worker(desk: Desk) -> None:
    with provided([[refuse(429, retry_after=300), answer({"lines": []})]]) as provider:
        run = desk.start(writer(provider, retry=Retry(max=1, base=0.01)), value={"about": "tides"})
        assert 290 < due_in(desk, run) <= 300
        assert len(provider.log) == 1


def test_an_agent_may_say_when_to_try_again(desk: Desk) -> None:
    @agent(retry=Retry(max=1, base=0.01))
    async def busy(value: int) -> int:
        raise AgentError("the service is busy", retry_after=1e12)

    run = desk.start(busy, value=1)

    # But not for ever
    assert 86_000 < due_in(desk, run) <= 86_400


def test_a_model_has_its_time_and_the_error_names_it(desk: Desk) -> None:
    with provided([text("", delay=5)]) as provider:
        run = ask(desk, writer(provider, call_timeout=0.1))

    assert "model call openai:scripted took longer than 0.1 s" in str(desk.end(run).error)
    assert len(provider.log) == 1


def test_the_step_is_named_where_its_time_is_over_first(desk: Desk) -> None:
    with provided([text("", delay=5)]) as provider:
        run = ask(desk, writer(provider, timeout=0.1))

    assert "the step took longer than 0.1 s" in str(desk.end(run).error)


def test_and_the_run_where_nobody_has_told_of_its_end(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a worker that does not hear that the time of its run is over
    monkeypatch.setattr(execute, "UNHEARD", 0.0)
    with provided([text("", delay=5)]) as provider:
        desk.agents["writer"] = writer(provider)
        run = desk.submit(workflow("w", desk.agents["writer"], timeout=0.3), {"about": "tides"})
        ended = desk.runner.run(desk.agents["writer"], desk.claim(run, "0"))

    assert isinstance(ended.outcome, Failed)
    assert ended.outcome.error.message == "the run was out of time before the step had ended"


def test_a_slow_model_has_a_stand_in(desk: Desk) -> None:
    def said(asked: Asked) -> Any:
        return text("", delay=5) if asked.model == "cheap" else answer({"lines": ["ok"]})

    with provided(said) as provider:
        options = {"fallbacks": [strong(provider)], "base_url": None, "price": None}
        run = ask(desk, writer(provider, model=cheap(provider), call_timeout=0.2, **options))

    assert desk.end(run).output == {"lines": ["ok"]}


def test_an_answer_whose_counts_contradict_each_other_is_paid_and_kept() -> None:
    from pydantic_ai.messages import ModelResponse
    from pydantic_ai.usage import RequestUsage

    from workers.models.clients import usage_of

    model = Model("openai:gpt-5-mini")

    def cost(cached: int) -> float:
        counts = RequestUsage(input_tokens=1000, output_tokens=10, cache_read_tokens=cached)
        return usage_of(model, [], ModelResponse(parts=[], usage=counts)).usd

    assert cost(2000) == cost(0) > cost(900)
