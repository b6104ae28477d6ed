"""What people decide about steps that were set aside: once each, and the run goes on as it should."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest

from orchestrator.dead_letters import DeadLetters
from orchestrator.definitions.vocabulary import each, fan_out, workflow
from orchestrator.engine import Pointer
from schemas.errors import Conflict, NotFound
from tests.integration.engine.bench import Bench, named

A, B, C = (named(name) for name in "abc")


@pytest.fixture
def letters(bench: Bench) -> DeadLetters:
    """The dead letters of the bench, whose messages go where all of its messages go."""
    return DeadLetters(bench.pool, bench.engine, bench)  # type: ignore[arg-type]


def dies(bench: Bench, run: UUID, path: str, at: int = 3) -> None:
    """A step costs as many workers as it may, the last one while its run goes on."""
    for _ in range(at):
        bench.claim(run, path)
        bench.engine.release(Pointer(run, path))
    assert bench.states(run)[path] == "dead"
    bench.messages = []


def letter_of(letters: DeadLetters, path: str) -> int:
    (found,) = [one.id for one in letters.list() if one.path == path]
    return found


def test_a_retried_step_starts_afresh_and_its_run_goes_on(bench: Bench, letters: DeadLetters) -> None:
    # Given a run that was paused because of one of its steps, beside which another one waits
    run = bench.submit(workflow("w", fan_out(A, B, join=C)))
    dies(bench, run, "0/a")
    letter = letter_of(letters, "0/a")

    # When that is retried
    letters.retry(letter)

    # Then both are sent, its losses are forgotten, and nothing is left to decide
    assert sorted(message.path for message in bench.messages) == ["0/a", "0/b"]
    assert letters.list() == []
    assert [one.settled for one in letters.list(all=True)] == ["retried"]
    (step,) = [one for one in bench.view(run).steps if one.path == "0/a"]
    assert (step.state, step.losses, step.attempt) == ("ready", 0, 3)
    assert bench.events(run)[-1].kind == "run.resumed"
    bench.drain()
    assert bench.end(run).state == "completed"

    # and the history is kept
    history = letters.show(letter)
    assert [(one.attempt, one.state) for one in history.attempts] == [
        (1, "lost"), (2, "lost"), (3, "lost"), (4, "done"),
    ]  # fmt: skip


def test_a_retried_step_may_cost_as_many_workers_again(bench: Bench, letters: DeadLetters) -> None:
    run = bench.submit(workflow("w", A))
    dies(bench, run, "0")
    letters.retry(letter_of(letters, "0"))
    dies(bench, run, "0")

    assert len(letters.list()) == 1
    assert len(letters.list(all=True)) == 2
    assert bench.view(run).state == "paused"


def test_a_run_goes_on_with_the_last_of_its_dead_steps(bench: Bench, letters: DeadLetters) -> None:
    # Given a run with two dead steps: the second one was running when the first one paused the run
    run = bench.submit(workflow("w", fan_out(A, B, C)))
    for _ in range(2):
        bench.claim(run, "0/b")
        bench.engine.release(Pointer(run, "0/b"))
    bench.claim(run, "0/b")
    dies(bench, run, "0/a")
    bench.engine.release(Pointer(run, "0/b"))
    assert len(letters.list()) == 2

    # When the first one is decided, then nothing starts yet; with the second one everything does
    letters.retry(letter_of(letters, "0/a"))
    assert bench.messages == []
    assert bench.sweep() == 0
    letters.retry(letter_of(letters, "0/b"))
    assert sorted(message.path for message in bench.messages) == ["0/a", "0/b", "0/c"]
    bench.drain()
    assert bench.end(run).state == "completed"


def test_a_run_that_was_paused_by_hand_stays_so(bench: Bench, letters: DeadLetters) -> None:
    # Given a run that somebody paused while a step was costing its last worker
    run = bench.submit(workflow("w", fan_out(A, B)))
    for _ in range(2):
        bench.claim(run, "0/a")
        bench.engine.release(Pointer(run, "0/a"))
    bench.claim(run, "0/a")
    bench.engine.pause(run, "maintenance")
    bench.engine.release(Pointer(run, "0/a"))
    bench.messages = []

    # When the step is retried, then its run stays paused until it is resumed
    letters.retry(letter_of(letters, "0/a"))
    assert bench.messages == []
    assert bench.view(run).pause_reason == "maintenance"
    bench.messages = bench.engine.resume(run)
    bench.drain()
    assert bench.end(run).state == "completed"


@pytest.mark.parametrize(
    ("body", "path", "end"),
    [
        (fan_out(A, B, require="any") >> C, "0/a", "completed"),
        (fan_out(A, B, join=C, require="any"), "0/a", "completed"),
        (fan_out(A, B), "0/a", "failed"),
        (A >> B, "0", "failed"),
        (each(A, require="any", parallel=1) >> B, "0/0", "completed"),
        (fan_out(a=A >> C, b=B, require="any") >> C, "0/a/0", "completed"),
    ],
    ids=["gap", "gap and join", "all are required", "stage", "next of an each", "stage of a branch"],
)
def test_a_run_goes_on_without_a_dropped_step_as_its_definition_says(
    bench: Bench, letters: DeadLetters, body: Any, path: str, end: str
) -> None:
    run = bench.submit(workflow("w", body), [1, 2])
    dies(bench, run, path)

    letters.drop(letter_of(letters, path))
    bench.drain()

    assert bench.end(run).state == end
    (step,) = [one for one in bench.view(run).steps if one.path == path]
    assert step.error is not None
    assert (step.state, step.error.type) == ("failed", "Dropped")
    assert [one.settled for one in letters.list(all=True)] == ["dropped"]
    assert bench.view(run).degraded


def test_what_follows_a_dropped_step_is_held_while_another_one_is_set_aside(
    bench: Bench, letters: DeadLetters
) -> None:
    run = bench.submit(workflow("w", fan_out(A, b=fan_out(B, C, require="any") >> C, require="any")))
    bench.finish(bench.claim(run, "0/b/0/c"))
    for _ in range(2):
        bench.claim(run, "0/b/0/b")
        bench.engine.release(Pointer(run, "0/b/0/b"))
    bench.claim(run, "0/b/0/b")
    dies(bench, run, "0/a")
    bench.engine.release(Pointer(run, "0/b/0/b"))

    letters.drop(letter_of(letters, "0/b/0/b"))

    assert bench.messages == []
    assert bench.states(run)["0/b/1"] == "ready"
    assert bench.view(run).state == "paused"
    letters.drop(letter_of(letters, "0/a"))
    bench.drain()
    assert bench.end(run).state == "completed"


def test_a_run_that_failed_for_a_dropped_step_can_be_resumed(bench: Bench, letters: DeadLetters) -> None:
    run = bench.submit(workflow("w", A))
    dies(bench, run, "0")
    letters.drop(letter_of(letters, "0"))
    assert bench.end(run).state == "failed"

    bench.messages = bench.engine.resume(run)

    assert [step.losses for step in bench.view(run).steps] == [0]
    bench.drain()
    assert bench.end(run).state == "completed"


def test_a_message_that_had_a_credential_is_kept_without_it_and_not_sent_again(
    bench: Bench, letters: DeadLetters
) -> None:
    token = f"gh{'p'}_{'16C7e42F292c6912' * 3}"
    sent = {"args": ["w"], "kwargs": {"input": {"login": "ann", "password": token}}}
    came = {"headers": {"task": "baton.submit"}, "body": json.dumps([["w", token, "x" * 20_000], {}, {}])}
    for one in (sent, came, f"no message, but {token}"):
        bench.engine.set_aside("baton.submit", f"it has {token}", json.dumps(one))

    kept = [letters.show(one.id) for one in letters.list()]

    assert token not in str(kept)
    assert {one.reason for one in kept} == {"it has <secret:github>"}
    text, unknown, submitted = [one.message for one in kept]
    assert text == "no message, but <secret:github>"
    assert (submitted["kwargs"]["input"], len(unknown["body"])) == (
        {"login": "ann", "password": "<secret:named>"}, 10_000
    )  # fmt: skip
    for one, why in zip(
        kept, ("it is no message of a task", "secret:github", "secret:named in"), strict=True
    ):
        with pytest.raises(Conflict, match=f"cannot be sent again: .*{why}"):
            letters.retry(one.id)
    assert bench.messages == []


def test_of_two_who_decide_at_once_one_is_heard(bench: Bench, letters: DeadLetters) -> None:
    together = threading.Barrier(4)

    def decide(letter: int, how: str) -> str:
        together.wait()
        try:
            getattr(letters, how)(letter)
        except Conflict:
            return "refused"
        return how

    with ThreadPoolExecutor(4) as threads:
        for _ in range(8):
            run = bench.submit(workflow("w", fan_out(A, B, require="any")))
            dies(bench, run, "0/a")
            letter = letter_of(letters, "0/a")
            answers = list(threads.map(lambda how: decide(letter, how), ["retry", "drop"] * 2))  # noqa: B023
            assert answers.count("refused") == 3
            assert len([m for m in bench.messages if m.path == "0/a"]) == answers.count("retry")
            bench.drain()
            assert bench.end(run).state == "completed"
            assert [kind for kind in bench.kinds(run) if kind == "run.resumed"] == ["run.resumed"]


def test_what_is_settled_or_was_never_there_is_refused(bench: Bench, letters: DeadLetters) -> None:
    run = bench.submit(workflow("w", A))
    dies(bench, run, "0")
    letter = letter_of(letters, "0")
    letters.drop(letter)

    with pytest.raises(Conflict, match=f"dead letter {letter} was dropped already"):
        letters.retry(letter)
    with pytest.raises(NotFound, match="there is no dead letter 4711"):
        letters.drop(4711)


def test_a_run_says_what_was_set_aside_and_what_to_do(bench: Bench, letters: DeadLetters) -> None:
    run = bench.submit(workflow("w", A))
    dies(bench, run, "0")
    letter = letter_of(letters, "0")

    paused, aside = bench.view(run).notes

    assert paused == f"paused: step 0 lost its worker 3 times; see: baton dead show {letter}"
    assert f"try it again: baton dead retry {letter}" in aside
    assert f"go on without it: baton dead drop {letter}" in aside


def test_a_paused_run_says_why_and_what_to_do(bench: Bench) -> None:
    run = bench.submit(workflow("w", A))
    bench.engine.pause(run, "the provider is down")

    assert bench.view(run).notes == (
        "paused: the provider is down",
        f"let it go on: baton runs resume {run}",
    )
