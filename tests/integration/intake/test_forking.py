"""What a producer is told of forks and of moments that have passed."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest

from orchestrator.client import Client
from orchestrator.definitions.vocabulary import each, fan_out, workflow
from orchestrator.engine.values import WorkerBeat
from schemas.errors import Conflict, InputError, NotFound
from schemas.runs import RunState, StepState
from tests.integration.engine.bench import Bench, Boom, named

TEXT = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
A, B = named("a"), named("b", takes=TEXT)
LINE = workflow("line", A >> each(B))


@pytest.fixture
def bench(bench: Bench, client: Client) -> Bench:
    """It works off what the client submits: messages go to the broker, and from there to nobody."""
    bench.messages = []
    return bench


def work(bench: Bench) -> None:
    bench.query("UPDATE steps SET due_at = clock_timestamp() WHERE state = 'ready'")  # let the timers send it
    bench.drain(lambda agent, value, _: [{"text": "x"}, {"text": "y"}] if agent == "a" else value["text"])


def test_a_fork_with_a_fitting_input_is_a_run(client: Client, bench: Bench) -> None:
    origin = client.submit(LINE)
    work(bench)

    fork = client.fork(origin.id, from_step="/1/0/", input={"text": "z"})
    work(bench)

    assert fork.result(5) == {"results": ["z", "y"], "gaps": []}
    assert client.fork(fork.id, from_step="1").view().forked_from == fork.id


@pytest.mark.parametrize(
    ("step", "value", "fault"),
    [
        ("1/0", {"txt": 1}, '"text" is a required property'),
        ("1/0", {"text": 1}, 'text: 1 is not of type "string"'),
        ("1/0", None, 'null is not of type "object"'),
        ("1", [{"text": "x"}, {}, {}], '1: "text" is a required property; 2: "text" is a required property'),
        ("1", {"text": "x"}, 'is not of type "array"'),
        ("1/0", {"text": "a\0b"}, "a NUL character"),
    ],
)
def test_an_input_that_does_not_fit_the_step_is_refused_with_every_fault(
    client: Client, bench: Bench, step: str, value: object, fault: str
) -> None:
    origin = client.submit(LINE)
    work(bench)

    with pytest.raises(InputError) as refused:
        client.fork(origin.id, from_step=step, input=value)

    assert f"step '{step}'" in str(refused.value)
    assert fault in str(refused.value)
    assert bench.query("SELECT count(*) FROM runs") == [(1,)]


def test_what_cannot_be_forked_is_refused_before_its_input_is_looked_at(client: Client, bench: Bench) -> None:
    origin = client.submit(LINE)

    with pytest.raises(NotFound, match="has no step '7'"):
        client.fork(origin.id, from_step="7", input={"text": 1})
    with pytest.raises(Conflict, match="has not reached step 1/0"):
        client.fork(origin.id, from_step="1/0", input={"text": "x"})
    with pytest.raises(NotFound, match="there is no run"):
        client.fork(uuid4(), from_step="0")


def test_a_run_is_told_as_it_was_after_each_of_its_events(client: Client, bench: Bench) -> None:
    bench.engine.beat(WorkerBeat(bench.engine.me, (), 1, "threads", lease=60), 0)
    body = A >> fan_out(left=A, right=named("weak"), require="any") >> A

    def failing(agent: str, value: object, _: object) -> object:
        if agent == "weak":
            raise Boom("too weak")
        return value

    run = client.submit(workflow("w", body), "x", labels={"team": "legal"}).id
    bench.query("UPDATE steps SET due_at = clock_timestamp()")
    bench.drain(failing)
    events = client.events(run)

    moments = [client.run_at(run, event.number) for event in events]

    first, last = moments[0], moments[-1]
    assert (first.state, [step.path for step in first.steps]) == (RunState.QUEUED, ["0"])
    assert (first.labels, first.input, first.output, first.outputs) == ({"team": "legal"}, "x", None, {})
    assert (first.event, first.events) == (events[0], len(events))
    # The last moment is the present, apart from what no event tells
    now = client.run(run)
    assert last.output == now.output
    assert last.outputs == {"0": "x", "1/left": "x", "2": last.output}
    assert (last.state, last.degraded, last.error) == (now.state, now.degraded, now.error)
    for told, found in zip(last.steps, now.steps, strict=True):
        timeless = {"ready_at": None, "started_at": None, "finished_at": None, "error": None, "totals": None}
        assert told.model_copy(update=timeless) == found.model_copy(update=timeless)
        assert (told.error and told.error.message) == (found.error and found.error.message)
        assert (told.started_at is None) == (found.started_at is None)
    # In between, steps come to be, and gaps appear when the fan-out closes
    opened = next(one for one in moments if any(step.path == "1/left" for step in one.steps))
    assert {step.path: step.state for step in opened.steps} == {
        "0": StepState.DONE, "1": StepState.OPEN, "1/left": StepState.READY, "1/right": StepState.READY,
    }  # fmt: skip
    closed = next(one for one in moments if one.event.path == "1")
    assert [gap.branch for gap in closed.steps[1].gaps] == ["right"]
    assert closed.outputs == {"0": "x", "1/left": "x"}


def test_a_moment_can_be_named_by_a_time(client: Client, bench: Bench) -> None:
    run = client.submit(LINE).id
    work(bench)
    events = client.events(run)

    exact = client.run_at(run, events[4].at)
    assert exact.event.at <= events[4].at
    assert client.run_at(run, events[-1].at + timedelta(days=1)).event == events[-1]
    with pytest.raises(NotFound, match="it began at") as refused:
        client.run_at(run, events[0].at - timedelta(seconds=1))
    assert refused.value.next_step == f"baton runs events {run}"


def test_moments_that_do_not_exist_are_refused(client: Client) -> None:
    run = client.submit(LINE).id

    for number in (0, 2, 99):
        with pytest.raises(NotFound, match=f"it has no event {number}, its events have the numbers 1 to 1"):
            client.run_at(run, number)
    with pytest.raises(NotFound, match="there is no run"):
        client.run_at(uuid4(), 1)


def test_a_moment_knows_whether_its_run_was_paused_then(client: Client, bench: Bench) -> None:
    run = client.submit(LINE).id
    client.pause(run, "lunch")
    client.resume(run)

    before, paused, after = (client.run_at(run, number) for number in (1, 2, 3))

    assert [one.state for one in (before, paused, after)] == ["queued", "paused", "queued"]
    assert [one.pause_reason for one in (before, paused, after)] == [None, "lunch", None]
    assert paused.paused_at == paused.event.at
