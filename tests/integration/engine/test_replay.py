"""What the events tell is what the tables hold: random runs with every kind of mishap, replayed event by event."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from queue import Empty, Queue
from uuid import UUID, uuid4

import pytest

from orchestrator.dead_letters import DeadLetters
from orchestrator.definitions.vocabulary import each, fan_out, workflow
from orchestrator.engine import Claimed, Engine, Pointer, Ready, WorkerId
from orchestrator.watching.feed import Feed
from orchestrator.watching.replay import Replay
from schemas import workflows
from schemas.errors import Conflict
from schemas.events import Event
from schemas.runs import RUN_MOVES, STEP_MOVES, RunState, StepState
from schemas.settings import settings
from tests.integration.engine.bench import Bench, done, named
from tests.integration.engine.reference import TOLD, Generator, decide
from tests.integration.engine.test_meaning import flaky
from tests.support import eventually

RUNS = 30
A, B, C, D = (named(name) for name in "abcd")


@pytest.fixture
def touchy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Steps are set aside when they lost two workers."""
    monkeypatch.setenv("BATON_LOSS_LIMIT", "2")
    settings.cache_clear()
    yield
    monkeypatch.undo()
    settings.cache_clear()


@pytest.mark.usefixtures("touchy")
@pytest.mark.parametrize("seed", range(6))
def test_replayed_events_tell_what_the_tables_hold(
    crowd: Bench, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given many random workflows, with a small window of branches every other time
    if seed % 2:
        monkeypatch.setattr(workflows, "WINDOW", 2)
    crowd.rng.seed(seed)
    crowd.people, crowd.news = decide, TOLD
    generator = Generator(seed)
    definitions = [
        generator.workflow(f"random-{n}").model_copy(update={"timeout": 3600.0}) for n in range(RUNS)
    ]
    runs = [crowd.submit(definition, n) for n, definition in enumerate(definitions)]

    # When they are worked off with mishaps, while whole runs are cancelled, resumed and out of time
    for _ in range(40):
        crowd.drain(flaky, chaos=0.2, rounds=crowd.rng.randint(1, 4))
        if goes_on := crowd.query(
            "SELECT id FROM runs WHERE state IN ('queued', 'running', 'failed') ORDER BY id"
        ):
            meddle(crowd, crowd.rng.choice(goes_on)[0])
        assert_told(crowd, crowd.rng.choice(runs))

    # Then the events of each run tell its states, and every move on the way there was a legal one
    for run in runs:
        assert_told(crowd, run)


def test_numbers_respect_what_a_replay_needs_while_many_work_and_many_read(crowd: Bench) -> None:
    # Given runs whose branches end together, in the hands of several workers
    body = each(A >> fan_out(b=B, c=C, join=D), parallel=6, join=D) >> A
    runs = [crowd.submit(workflow("w", body), list(range(12))) for _ in range(3)]
    messages: Queue[Ready] = Queue()
    for message in crowd.messages:
        messages.put(message)
    over = threading.Event()

    def work(number: int) -> None:
        engine = Engine(crowd.pool, WorkerId(uuid4(), f"w{number}"))
        while not over.is_set():
            with suppress(Empty):
                one = messages.get(timeout=0.02)
                claimed = engine.claim(Pointer(one.run.id, one.path))
                if isinstance(claimed, Claimed):
                    for ready in engine.record(done(claimed, one.path)).ready:
                        messages.put(ready)

    def follow(run: UUID) -> None:
        """Read on and on, so that events get their numbers while others are still being written."""
        feed, replay, seen = Feed(crowd.pool), Replay(crowd.plan(run)), 0
        while not over.is_set():
            for event in feed.read(run, after=seen):
                before = states(replay)
                replay.apply(event)
                assert_legal(event, before, states(replay))
                seen = event.number

    def meddle_now() -> None:
        for run in runs[1:]:
            crowd.engine.pause(run)
            for ready in crowd.engine.resume(run):
                messages.put(ready)
        crowd.engine.cancel(runs[2])

    # When they work, while others read, and while runs are paused, resumed and cancelled
    with ThreadPoolExecutor(8) as threads:
        hands = [threads.submit(work, n) for n in range(4)] + [threads.submit(follow, run) for run in runs]
        try:
            eventually(lambda: len(crowd.events(runs[2])) > 60, 30)
            meddle_now()
            eventually(lambda: all(crowd.views.end(run) is not None for run in runs), 30)
        finally:
            over.set()
        for hand in hands:
            hand.result()

    # Then every reader could follow, and the events tell what became of the runs
    assert [crowd.end(run).state for run in runs] == ["completed", "completed", "cancelled"]
    for run in runs:
        assert_told(crowd, run)


def meddle(bench: Bench, run: UUID) -> None:
    """Do something to a whole run."""
    match bench.view(run).state, bench.rng.randrange(8):
        case RunState.FAILED | RunState.PAUSED, chance:
            with suppress(Conflict):  # a step of it was set aside
                bench.messages += bench.engine.resume(run)
                return
            letters = DeadLetters(bench.pool, bench.engine, bench)  # type: ignore[arg-type]
            for letter in letters.list():
                if letter.run_id == run:
                    (letters.retry if chance % 2 else letters.drop)(letter.id)
        case _, 0:
            bench.engine.cancel(run, "for a test")
        case _, 1:
            bench.query("UPDATE runs SET due_at = now() WHERE id = %s AND due_at IS NOT NULL", run)
        case _, 2 | 3:
            late = "UPDATE steps SET due_at = now() WHERE run_id = %s AND state = 'open' AND due_at > now()"
            bench.query(late, run)
        case _, 4 | 5:
            bench.engine.pause(run, "for a test")
        case _, 6:
            bench.messages += bench.engine.hand_back()
    bench.fire()


def assert_told(bench: Bench, run: UUID) -> None:
    events = bench.events(run)
    replay = Replay(bench.plan(run))
    for event in events:
        before = states(replay)
        replay.apply(event)
        assert_legal(event, before, states(replay))
    found = {
        step.path: (
            step.state,
            step.attempt,
            step.losses,
            step.error and (step.error.type, step.error.message),
        )
        for step in bench.view(run).steps
    }
    told = {
        step.path: (
            step.state,
            step.attempt,
            step.losses,
            step.error and (step.error.type, step.error.message),
        )
        for step in replay.steps.values()
    }
    view = bench.view(run)
    assert told == found
    assert (replay.state, replay.degraded) == (view.state, view.degraded)
    assert (replay.error and replay.error.message) == (view.error and view.error.message)


def states(replay: Replay) -> tuple[RunState, dict[str, StepState]]:
    return replay.state, {path: step.state for path, step in replay.steps.items()}


def assert_legal(
    event: Event, before: tuple[RunState, dict[str, StepState]], after: tuple[RunState, dict[str, StepState]]
) -> None:
    run, steps = before
    assert after[0] == run or after[0] in RUN_MOVES[run], (run, event)
    for path, state in after[1].items():
        old = steps.get(path)
        if old is None and event.kind != "step.copied":
            assert state in (StepState.PENDING, StepState.READY, StepState.OPEN), (path, event)
        elif old is not None:
            assert state == old or state in STEP_MOVES[old], (path, old, state, event)
