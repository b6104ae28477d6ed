"""Any nesting of patterns, worked off in any order, with duplicates and losses, means what it says."""

from __future__ import annotations

from typing import Any
from zlib import crc32

import pytest

from orchestrator.definitions.vocabulary import each, fan_out, workflow
from orchestrator.engine import Claimed
from orchestrator.incoming.inbox import Inbox
from schemas import workflows
from tests.integration.engine.bench import Bench, Boom, named
from tests.integration.engine.reference import AGENTS, TOLD, Generator, act, decide, meaning, nameless

RUNS = 40


def flaky(agent: str, value: Any, claimed: Claimed) -> Any:
    """As the reference, but a first attempt may fail for the moment."""
    if claimed.attempt == 1 and crc32(claimed.path.encode()) % 5 == 0:
        raise Boom("for the moment", retry_in=0.0)
    return act(agent, value)


@pytest.mark.parametrize("seed", range(6))
def test_random_workflows_end_as_the_reference_says(
    crowd: Bench, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given many random workflows, with a small window of branches every other time
    if seed % 2:
        monkeypatch.setattr(workflows, "WINDOW", 2)
    crowd.rng.seed(seed)
    crowd.people, crowd.news = decide, TOLD
    generator = Generator(seed)
    runs = {}
    for number in range(RUNS):
        definition, value = generator.workflow(f"random-{number}"), ["x", number][number % 2]
        runs[crowd.submit(definition, value)] = (definition, value)

    # When messages come in any order, twice, or not at all, and events before anybody waits for them
    for key in ("k", None, "l"):
        Inbox(crowd.pool).emit("told", TOLD, key=key)
    crowd.drain(flaky, chaos=0.2)

    # Then each run ends as its definition means, and no step has two outcomes
    for run, (definition, value) in runs.items():
        state, expected = meaning(definition, value)
        end = crowd.end(run)
        found = end.error.message if end.error is not None else end.output
        assert (end.state, nameless(found)) == (state, expected), definition.model_dump_json(indent=1)
    assert set(crowd.executed.values()) <= {1}
    # And nothing is left to do, though people were asked
    unfinished = "('pending', 'ready', 'running', 'open', 'waiting')"
    assert crowd.query(f"SELECT path, state FROM steps WHERE state IN {unfinished}") == []  # noqa: S608
    assert crowd.query("SELECT count(*) > 0 FROM waits WHERE settled_by = 'ann'") == [(True,)]
    assert crowd.query("SELECT count(*) > 0 FROM waits WHERE settled_by LIKE 'event%%'") == [(True,)]


@pytest.mark.parametrize("seed", range(3))
def test_random_runs_that_failed_end_again_when_they_are_resumed(crowd: Bench, seed: int) -> None:
    # Given random runs, some of which have failed
    crowd.rng.seed(seed)
    crowd.people, crowd.news = decide, TOLD
    generator = Generator(seed)
    runs = {}
    for number in range(RUNS):
        definition = generator.workflow(f"random-{number}")
        runs[crowd.submit(definition, number)] = (definition, number)
    crowd.drain(flaky, chaos=0.2)
    failed = [run for run in runs if crowd.end(run).error is not None]
    assert failed

    # When they are resumed, and everybody does again what he did before
    for run in failed:
        crowd.messages += crowd.engine.resume(run)
    crowd.drain(flaky, chaos=0.2)

    # Then none of them hangs, and each fails as its definition means
    for run in failed:
        definition, value = runs[run]
        error = crowd.end(run).error
        assert error is not None
        assert ("failed", nameless(error.message)) == meaning(definition, value), definition.model_dump_json(
            indent=1
        )


def test_results_of_a_fan_out_can_be_taken_in_four_shapes(bench: Bench) -> None:
    seen: dict[str, Any] = {}

    def look(agent: str, value: Any, claimed: Claimed) -> Any:
        if agent == "weak" and claimed.path.endswith("weak"):
            raise Boom("too weak")
        if agent in ("mark", "listing", "gathering", "noticing"):
            seen[agent] = value
        return agent

    solid, shaky = (fan_out(named("a"), named("b")), fan_out(named("a"), AGENTS["weak"], require="any"))
    for name, body in {
        "mark": shaky >> AGENTS["mark"],
        "noticing": shaky >> AGENTS["noticing"],
        "gathering": shaky >> AGENTS["gathering"],
        "listing": solid >> AGENTS["listing"],
    }.items():
        bench.submit(workflow(name, body))
    bench.drain(look)

    gap = {"branch": "weak", "state": "failed", "reason": "too weak"}
    assert seen == {
        "mark": {"a": "a", "weak": None},
        "noticing": {"a": "a", "weak": None, "gaps": [gap]},
        "gathering": {"results": ["a"], "gaps": [gap]},
        "listing": ["a", "b"],
    }


def test_each_takes_its_list_from_a_field(bench: Bench) -> None:
    run = bench.submit(
        workflow("w", named("a") >> each(named("b"), items="parts")), {"parts": [1, None, "x"]}
    )

    bench.drain()

    assert bench.end(run).output == {"results": [1, None, "x"], "gaps": []}


def test_each_takes_its_list_from_one_branch_of_a_fan_out(bench: Bench) -> None:
    run = bench.submit(workflow("w", fan_out(named("a"), named("b")) >> each(named("c"), items="b")))

    bench.drain(lambda agent, value, _: {"a": "alone", "b": [1, 2]}.get(agent, value))

    assert bench.end(run).output == {"results": [1, 2], "gaps": []}


def test_each_over_nothing_is_joined_at_once(bench: Bench) -> None:
    plain = bench.submit(workflow("plain", each(named("a"))), [])
    joined = bench.submit(workflow("joined", each(named("a"), join=named("j"), require="any")), [])

    bench.drain()

    assert bench.end(plain).output == {"results": [], "gaps": []}
    assert bench.end(joined).output == {"results": [], "gaps": []}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"parts": "abc"}, "each needs a list, but its field 'parts' is string"),
        ({}, "each needs a list, but its field 'parts' is missing"),
        ({"parts": None}, "each needs a list, but its field 'parts' is null"),
        ({"parts": [1, 2, 3, 4]}, "its field 'parts' has 4 items, more than max_items=3"),
    ],
)
def test_each_over_what_is_no_list_or_too_long_fails_with_the_reason(
    bench: Bench, value: Any, message: str
) -> None:
    run = bench.submit(workflow("w", named("a") >> each(named("b"), items="parts", max_items=3)), value)

    bench.drain()

    end = bench.end(run)
    assert end.state == "failed"
    assert end.error is not None
    assert end.error.message == message


def test_each_over_branches_that_are_too_many_fails_with_the_reason(bench: Bench) -> None:
    body = each(named("a"), max_items=3) >> each(named("b"), max_items=2)
    run = bench.submit(workflow("w", body), [1, 2, 3])

    bench.drain()

    end = bench.end(run)
    assert end.error is not None
    assert end.error.message == "its input has 3 items, more than max_items=2"


def test_every_agent_is_given_the_original_intent(bench: Bench) -> None:
    intents = []

    def look(agent: str, value: Any, claimed: Claimed) -> Any:
        intents.append(claimed.intent)
        return [value]

    bench.submit(workflow("w", named("a") >> each(named("b"), join=named("c")) >> named("d")), "the question")
    bench.drain(look)

    assert intents == ['"the question"'] * 4
