"""Two verbs on the same run, one of which stands still before each of its statements in turn while the other goes on.

So every order in which their statements can meet is played, on purpose and not by chance. What neither of them could
do without the other's end it waits for, in the server; then the first goes on. Afterwards the run must end by itself:
nothing is swept here, so a join that neither of the two opened stays closed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from uuid import UUID

from orchestrator.definitions.vocabulary import fan_out
from orchestrator.engine import Claimed, Engine, Pointer, Ready, Recorded, Refused
from schemas.errors import Conflict
from tests.chaos.engine.invariants import unfinished, violations
from tests.chaos.engine.scenarios.building import JOIN, A, B, C, new
from tests.chaos.engine.stage import Stage
from tests.integration.engine.bench import done

Verb = Callable[[Engine], Any]
Pair = Callable[[Stage], tuple[UUID, Verb, Verb]]
"""Prepares a run, and gives it with two verbs to be done by two engines at the same time."""

GAPS = fan_out(A, B, join=JOIN, require="any", within=3600) >> C


# --- pairs ------------------------------------------------------------------------------------------------


def two_last_branches(stage: Stage) -> tuple[UUID, Verb, Verb]:
    run = stage.submit(new(fan_out(A, B, join=JOIN) >> C))
    return run, _finishing(stage, run, "0/a"), _finishing(stage, run, "0/b")


def two_last_branches_of_a_nest(stage: Stage) -> tuple[UUID, Verb, Verb]:
    run = stage.submit(new(fan_out(x=fan_out(A, B), y=C, join=JOIN)))
    stage.finish(stage.claim(run, "0/x/a"))
    return run, _finishing(stage, run, "0/x/b"), _finishing(stage, run, "0/y")


def the_same_outcome_twice(stage: Stage) -> tuple[UUID, Verb, Verb]:
    run = stage.submit(new(A >> B))
    finishing = _finishing(stage, run, "0")
    return run, finishing, finishing


def the_same_claim_twice(stage: Stage) -> tuple[UUID, Verb, Verb]:
    run = stage.submit(new(A >> B))
    return run, _claiming(run, "0"), _claiming(run, "0")


def an_outcome_and_a_cancel(stage: Stage) -> tuple[UUID, Verb, Verb]:
    run = stage.submit(new(A >> B))
    return run, _finishing(stage, run, "0"), lambda engine: engine.cancel(run)


def a_claim_and_a_cancel(stage: Stage) -> tuple[UUID, Verb, Verb]:
    run = stage.submit(new(fan_out(A, B)))
    return run, _claiming(run, "0/a"), lambda engine: engine.cancel(run)


def an_outcome_and_a_pause(stage: Stage) -> tuple[UUID, Verb, Verb]:
    run = stage.submit(new(fan_out(A, more=B >> C)))
    return run, _finishing(stage, run, "0/a"), lambda engine: engine.pause(run)


def a_claim_and_a_pause(stage: Stage) -> tuple[UUID, Verb, Verb]:
    run = stage.submit(new(A >> B))
    return run, _claiming(run, "0"), lambda engine: engine.pause(run)


def the_last_branch_and_the_deadline_of_its_fan_out(stage: Stage) -> tuple[UUID, Verb, Verb]:
    run = stage.submit(new(GAPS))
    stage.finish(stage.claim(run, "0/a"))
    finishing = _finishing(stage, run, "0/b")
    stage.query("UPDATE steps SET due_at = now() WHERE run_id = %s AND path = '0'", run)
    return run, finishing, lambda engine: engine.expire()


def an_outcome_and_the_deadline_of_its_run(stage: Stage) -> tuple[UUID, Verb, Verb]:
    run = stage.submit(new(A >> B, timeout=3600))
    finishing = _finishing(stage, run, "0")
    stage.query("UPDATE runs SET due_at = now() WHERE id = %s", run)
    return run, finishing, lambda engine: engine.expire()


def an_outcome_and_a_loss(stage: Stage) -> tuple[UUID, Verb, Verb]:
    run = stage.submit(new(A >> B))
    finishing = _finishing(stage, run, "0")
    held = [one for one in stage.engine.holdings() if one.run_id == run]
    return run, finishing, lambda engine: engine.free(held)


def two_losses(stage: Stage) -> tuple[UUID, Verb, Verb]:
    run = stage.submit(new(A >> B))
    stage.claim(run, "0")
    held = [one for one in stage.engine.holdings() if one.run_id == run]
    return run, lambda engine: engine.free(held), lambda engine: engine.free(held)


def two_resumes(stage: Stage) -> tuple[UUID, Verb, Verb]:
    run = _failed(stage)
    return run, lambda engine: engine.resume(run), lambda engine: engine.resume(run)


def a_resume_and_a_cancel(stage: Stage) -> tuple[UUID, Verb, Verb]:
    run = _failed(stage)
    return run, lambda engine: engine.resume(run), lambda engine: engine.cancel(run)


def a_resume_and_a_fork(stage: Stage) -> tuple[UUID, Verb, Verb]:
    run, new_run = _failed(stage), UUID(int=_failed.calls)  # type: ignore[attr-defined]
    return run, lambda engine: engine.resume(run), lambda engine: engine.fork(run, "0/b", new_run)


def _failed(stage: Stage) -> UUID:
    _failed.calls = getattr(_failed, "calls", 0) + 1  # type: ignore[attr-defined]
    run = stage.submit(new(fan_out(A, B) >> C))
    stage.finish(stage.claim(run, "0/a"))
    stage.fail(stage.claim(run, "0/b"))
    return run


PAIRS: dict[str, Pair] = {
    pair.__name__.replace("_", " "): pair
    for pair in (
        two_last_branches,
        two_last_branches_of_a_nest,
        the_same_outcome_twice,
        the_same_claim_twice,
        an_outcome_and_a_cancel,
        a_claim_and_a_cancel,
        an_outcome_and_a_pause,
        a_claim_and_a_pause,
        the_last_branch_and_the_deadline_of_its_fan_out,
        an_outcome_and_the_deadline_of_its_run,
        an_outcome_and_a_loss,
        two_losses,
        two_resumes,
        a_resume_and_a_cancel,
        a_resume_and_a_fork,
    )
}


def _finishing(stage: Stage, run: UUID, path: str) -> Verb:
    """Record an attempt that has begun."""
    claimed = stage.claim(run, path)
    return lambda engine: engine.record_all([done(claimed, 1)])


def _claiming(run: UUID, path: str) -> Verb:
    return lambda engine: engine.claim_all([Pointer(run, path)])


# --- playing them -----------------------------------------------------------------------------------------


def play(stage: Stage, pair: Pair) -> int:
    """Play a pair in every order; how many there were. Raises `AssertionError` when one of them ends badly."""
    orders = 0
    for swap in (False, True):
        index = 0
        while _meets(stage, pair, index, swap=swap):
            index += 1
        orders += index
    return orders


def _meets(stage: Stage, pair: Pair, index: int, *, swap: bool) -> bool:
    """One order: False if the verb that stands still has no such statement."""
    stage.clear()
    _, *verbs = pair(stage)
    stage.messages.clear()
    still, other = reversed(verbs) if swap else verbs
    with ThreadPoolExecutor(2) as threads:
        with stage.faults.held(index) as hold:
            first = threads.submit(still, stage.engines[0])
            met = _stands(hold, first)
            second = threads.submit(other, stage.engines[1])
            _until_it_ends_or_waits(stage, second)
        answers = [_answer(one) for one in (first, second)]
    for answer in answers:
        _follow(stage, answer)
    _ends(stage, f"{pair.__name__}, at statement {index} of {'the second' if swap else 'the first'}")
    return met


def _stands(hold: Any, verb: Future[Any]) -> bool:
    """Whether the verb has come to where it is held, rather than to its end."""
    ended = threading.Event()
    verb.add_done_callback(lambda _: ended.set())
    while not hold.reached.wait(0.001):
        if ended.is_set():
            return bool(hold.reached.is_set())
    return True


def _until_it_ends_or_waits(stage: Stage, verb: Future[Any]) -> None:
    """Return when this verb is over, or can only go on after the other one."""
    ended = threading.Event()
    verb.add_done_callback(lambda _: ended.set())
    waiting = """SELECT 1 FROM pg_stat_activity
                 WHERE datname = current_database() AND wait_event_type = 'Lock' AND state = 'active'"""
    while not ended.wait(0.002):
        if stage.query(waiting):
            return


def _answer(verb: Future[Any]) -> Any:
    try:
        return verb.result(30)
    except Conflict:
        return None  # the other one was first


def _follow(stage: Stage, answer: Any) -> None:
    """Do what the caller of a verb does with its answer."""
    for one in answer or ():
        match one:
            case Ready():
                stage.send([one])
            case Recorded(ready=ready):
                stage.send(ready)
            case Claimed():
                stage.finish(one)
            case Refused():
                pass


def _ends(stage: Stage, order: str) -> None:
    """Everything that was sent is worked off, and paused runs go on; then nothing is left."""
    stage.drain()
    for (run,) in stage.query("SELECT id FROM runs WHERE state = 'paused'"):
        stage.send(stage.engine.resume(run))
    stage.drain()
    with stage.sound.connection() as conn:
        wrong = unfinished(conn) + violations(conn)
    assert not wrong, f"{order}: {'; '.join(wrong)}"
