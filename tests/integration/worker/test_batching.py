"""Steps of an agent share a call of it, and nothing else."""

from __future__ import annotations

import pytest

from orchestrator.client import RunHandle
from schemas.errors import DefinitionError, RunFailed
from schemas.runs import RunState
from schemas.workflows import Workflow
from tests.agents import batching
from tests.integration.worker.stack import Stack
from tests.support import eventually
from workers import Batch, agent


def failure(run: RunHandle) -> str:
    with pytest.raises(RunFailed) as refused:
        run.result(20)
    return str(refused.value)


@pytest.mark.parametrize("given", [batching.batched, batching.batched_thread], ids=lambda one: one.name)
def test_runs_share_calls_of_at_most_the_size(shared: Stack, given: Workflow) -> None:
    handles = shared.client.submit_many(given, range(20))

    results = [handle.result(20) for handle in handles]

    assert [number for number, _ in results] == list(range(20))
    sizes = [size for _, size in results]
    assert max(sizes) == 8
    assert sum(1 / size for size in sizes) <= 5  # calls


def test_one_waits_no_longer_than_it_says(shared: Stack) -> None:
    assert shared.run(batching.batched, 7) == [7, 1]


def test_usage_counts_for_each_step(shared: Stack) -> None:
    handles = shared.client.submit_many(batching.batched_thread, range(4))

    for handle in handles:
        handle.result(20)

    assert [shared.client.run(handle.id).totals.usage.tokens for handle in handles] == [10] * 4


def test_a_failure_among_the_outputs_is_that_of_one_step(shared: Stack) -> None:
    run = shared.submit(batching.batched_picky, [1, 2, 3, 4])

    assert run.result(20)["results"] == [1, 2, 4]
    view = shared.client.run(run.id)
    (failed,) = [step for step in view.steps if step.error is not None]
    assert failed.error is not None
    assert (failed.error.type, failed.error.message, failed.attempt) == ("Permanent", "not 3", 1)


def test_an_input_with_which_the_call_fails_is_alone_in_the_end(shared: Stack) -> None:
    run = shared.submit(batching.batched_picky, [0, 1, 2, 4, 5, 6, 7, 8])

    assert run.result(20)["results"] == [0, 1, 2, 4, 6, 7, 8]
    (failed,) = [step for step in shared.client.run(run.id).steps if step.error is not None]
    assert failed.error is not None
    assert failed.error.message == "5 is among 1"


def test_each_step_keeps_its_timeout_and_an_unwanted_call_is_stopped(alone: Stack) -> None:
    process = alone.worker("endless", concurrency=16)
    runs = alone.client.submit_many(batching.batched_endless, range(3))

    assert all("took longer than 1 s" in failure(run) for run in runs)

    def stopped() -> None:
        assert "batch of 3 stopped" in process.text()

    eventually(stopped)


def test_a_cancelled_run_leaves_the_others_their_call(shared: Stack) -> None:
    runs = shared.client.submit_many(batching.batched_endless, range(2))

    def runs_both() -> None:
        assert all(shared.client.run(run.id).steps[0].state == "running" for run in runs)

    eventually(runs_both)
    runs[0].cancel()

    assert "took longer than 1 s" in failure(runs[1])
    assert shared.client.run(runs[0].id).state is RunState.CANCELLED


@pytest.mark.parametrize(
    ("value", "said"), [(4, "called for 1 inputs and returned 0 results"), (0, "tried to end its process")]
)
def test_what_a_call_does_wrong_its_steps_say(shared: Stack, value: int, said: str) -> None:
    assert said in failure(shared.submit(batching.batched_miscounting, value))
    assert shared.run(batching.batched, 1) == [1, 1]


def test_nobody_asks_in_the_name_of_others(shared: Stack) -> None:
    assert "cannot ask" in failure(shared.submit(batching.batched_curious, 1))


def test_prefork_children_call_for_one_step_each(alone: Stack) -> None:
    alone.worker("shared", pool="prefork", concurrency=2)

    assert alone.run(batching.batched_each, [1, 2])["results"] == [[1, 1], [2, 1]]


def test_a_batch_wants_lists() -> None:
    with pytest.raises(DefinitionError) as refused:

        @agent(batch=Batch(size=2))
        async def single(number: int) -> list[int]:
            return [number]

    assert "number: with batch=... it must be a list" in str(refused.value)


def test_what_is_seen_from_outside_is_one_step() -> None:
    assert batching.picky.spec.input_schema == {"type": "integer"}
    assert batching.picky.spec.output_schema == {"type": "integer"}
    assert batching.picky.spec.concurrency == 16
