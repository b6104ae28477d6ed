"""What stands around the calls of models and tools: limits, budgets, fences, the cache, the log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

from orchestrator.definitions.vocabulary import fan_out
from orchestrator.engine import Claimed, Finished
from orchestrator.engine.call_limits import CallBefore
from orchestrator.engine.gates import bars
from orchestrator.engine.reserving import Busy, Granted, Wish
from orchestrator.engine.settling import Paid
from orchestrator.standing_budgets import StandingBudgets
from orchestrator.tool_calls.cache import Hit, Mine, ToolCache
from orchestrator.tool_calls.fences import Behind, Fences, Holder, Open
from orchestrator.tool_calls.log import CallLog, EndedCall
from schemas.limits import Limit
from schemas.outcomes import Done, Limited
from schemas.usage import Budget, Usage
from tests.chaos.engine.scenarios.building import A, B, C, Scenario, Story, new
from tests.chaos.engine.stage import Stage
from tests.integration.engine.bench import done

NOTHING = Usage()
LEAST = Usage(tokens=30, usd=0.03, model_calls=1)
PAID = Usage(tokens=90, usd=0.09, model_calls=1)
WORST = Usage(tokens=100, usd=0.1, model_calls=1)
LIMITS = (Limit(concurrency=1, rate="1000/s", burst=10),)


def _claimed(stage: Stage, **options: Any) -> tuple[UUID, Claimed]:
    """An attempt that runs, beside a branch that is ready."""
    run = stage.submit(new(fan_out(A, B) >> C, **options), tenant=f"t{uuid4().hex}")
    return run, stage.claim(run, "0/a")


def _before(claimed: Claimed) -> CallBefore:
    gates = tuple(bars(f"tool of {claimed.tenant}", LIMITS, claimed.tenant, None, "calls"))
    return CallBefore(claimed.run.id, claimed.path, claimed.attempt, 0, gates)


def _places(stage: Stage, run: UUID) -> int:
    return int(stage.query("SELECT count(*) FROM permits WHERE run_id = %s", run)[0][0])


def admitting(stage: Stage) -> Story:
    """A call asks for a place, which it holds once, however often it had to ask; another one finds it taken."""
    run, claimed = _claimed(stage)
    call = _before(claimed)
    answer = yield lambda: stage.engine.admit_calls([call])
    if isinstance(answer, Exception):
        answer = stage.engine.admit_calls([call])
    assert answer[0][0].passes
    assert _places(stage, run) == 1
    other = _before(stage.claim(run, "0/b"))
    assert not stage.engine.admit_calls([other])[0][0].passes
    stage.engine.give_back([call])
    assert stage.engine.admit_calls([other])[0][0].passes
    return [run]


def giving_back(stage: Stage) -> Story:
    """A call has ended for whose place another step waits."""
    run, claimed = _claimed(stage)
    call = _before(claimed)
    assert stage.engine.admit_calls([call])[0][0].passes
    waits = stage.claim(run, "0/b")
    limited = Limited(limit=call.bars[0].key, due_in=3600)
    stage.engine.record_all([Finished(run, waits.path, waits.attempt, limited)])
    stage.messages.clear()
    answer = yield lambda: stage.engine.give_back([call])
    # Nobody else gives it back: whoever saw an error ends, and its place with it.
    if isinstance(answer, Exception):
        assert stage.finish(claimed).accepted
    else:
        stage.send(answer)
        assert _places(stage, run) == 0
        assert stage.finish(claimed).accepted
    return [run]


def _budgeted(stage: Stage, usd: float = 0.15) -> tuple[UUID, Claimed]:
    """An attempt whose calls count in a budget of its run, and in one of its tenant."""
    run, claimed = _claimed(stage, budget=Budget(usd=10))
    StandingBudgets(stage.sound).put("tenant", claimed.tenant, Budget(usd=usd))
    return run, claimed


def _wish(claimed: Claimed, least: Usage = NOTHING) -> Wish:
    return Wish(uuid4(), claimed.run.id, claimed.path, claimed.attempt, "a", "openai:x", WORST, least)


def _paid(wish: Wish) -> Paid:
    return Paid(wish.id, wish.run_id, wish.path, wish.attempt, wish.agent, wish.name, PAID, 50)


def _aside(stage: Stage, run: UUID) -> int:
    return int(stage.query("SELECT count(*) FROM reservations WHERE run_id = %s", run)[0][0])


def _counted(stage: Stage, claimed: Claimed) -> tuple[Any, ...]:
    """Calls that were paid; dollars in the account of the run, and in that of the tenant."""
    return stage.query(
        "SELECT (SELECT count(*) FROM costs WHERE run_id = %s),"
        " (SELECT sum(usd)::float8 FROM spendings WHERE run_id = %s),"
        " (SELECT sum(usd)::float8 FROM budget_windows WHERE account = %s)",
        claimed.run.id,
        claimed.run.id,
        f"day:tenant:{claimed.tenant}",
    )[0]


def reserving(stage: Stage) -> Story:
    """Something is set aside for a call, once in each account; the next one does not fit beside it."""
    run, claimed = _budgeted(stage)
    wish = _wish(claimed)
    answer = yield lambda: stage.engine.reserve([wish])
    if isinstance(answer, Exception):
        answer = stage.engine.reserve([wish])
    assert answer == [Granted()]
    assert _aside(stage, run) == 2
    assert stage.engine.reserve([_wish(claimed)]) != [Granted()]
    stage.engine.settle_calls([_paid(wish)])
    assert _counted(stage, claimed) == (1, 0.09, 0.09)
    stage.query(
        "DELETE FROM costs WHERE run_id = %s", run
    )  # its attempt tells nothing, so it would be too much
    return [run]


def reserving_after_the_dead(stage: Stage) -> Story:
    """What was set aside for an attempt that is over is put away."""
    run, claimed = _budgeted(stage)
    assert stage.engine.reserve([_wish(claimed)]) == [Granted()]
    stage.send(stage.engine.free(stage.engine.holdings()))
    wish = _wish(stage.claim(run, "0/a"))
    answer = yield lambda: stage.engine.reserve([wish])
    if isinstance(answer, Exception):
        answer = stage.engine.reserve([wish])
    assert answer == [Granted()]
    assert _aside(stage, run) == 2
    return [run]


def _waiting(stage: Stage, claimed: Claimed) -> None:
    """A step beside this one waits for what is set aside for it."""
    other = stage.claim(claimed.run.id, "0/b")
    (busy,) = stage.engine.reserve([_wish(other)])
    assert isinstance(busy, Busy)
    limited = Limited(limit=busy.budget, due_in=3600)
    stage.engine.record_all([Finished(claimed.run.id, other.path, other.attempt, limited)])


def taking_back(stage: Stage) -> Story:
    """A worker is gone in the middle of a call: its least is booked, once, with the step that others get."""
    run, claimed = _budgeted(stage)
    assert stage.engine.reserve([_wish(claimed, LEAST)]) == [Granted()]
    _waiting(stage, claimed)
    answer = yield lambda: stage.engine.free(stage.engine.holdings())
    stage.send(stage.engine.free(stage.engine.holdings()) if isinstance(answer, Exception) else answer)
    assert _aside(stage, run) == 0
    assert _counted(stage, claimed) == (1, 0.03, 0.03)
    return [run]


def settling_what_was_taken_back(stage: Stage) -> Story:
    """It was only stopped, and tells what the call has cost: that counts, once."""
    run, claimed = _budgeted(stage)
    wish = _wish(claimed, LEAST)
    assert stage.engine.reserve([wish]) == [Granted()]
    stage.send(stage.engine.free(stage.engine.holdings()))
    answer = yield lambda: stage.engine.settle_calls([_paid(wish)])
    if isinstance(answer, Exception):
        stage.engine.settle_calls([_paid(wish)])
    assert _counted(stage, claimed) == (1, 0.09, 0.09)
    return [run]


def putting_away(stage: Stage) -> Story:
    """A call whose attempt was ended by others, and of which nobody tells."""
    run, claimed = _budgeted(stage)
    assert stage.engine.reserve([_wish(claimed, LEAST)]) == [Granted()]
    assert stage.finish(claimed).accepted
    answer = yield lambda: stage.engine.lapse_ended()
    if isinstance(answer, Exception):
        stage.engine.lapse_ended()
    assert _aside(stage, run) == 0
    assert _counted(stage, claimed) == (1, 0.03, 0.03)
    return [run]


def ending_a_hold(stage: Stage) -> Story:
    """An attempt tells what it has consumed of what was set aside for it as a whole, for which another one waits."""
    run, claimed = _budgeted(stage)
    assert stage.engine.reserve([_wish(claimed)._replace(name="")]) == [Granted()]
    _waiting(stage, claimed)
    finished = replace(done(claimed), outcome=Done(usage=PAID), holds=True)
    answer = yield lambda: stage.engine.record_all([finished])
    again = stage.engine.record_all([finished])
    stage.send((again if isinstance(answer, Exception) else answer)[0].ready)
    assert _aside(stage, run) == 0
    assert _counted(stage, claimed) == (1, 0.09, 0.09)
    return [run]


def settling(stage: Stage) -> Story:
    """A call is paid for, once, and most of its budget is used up, which is told."""
    run, claimed = _budgeted(stage, usd=0.1)
    wish = _wish(claimed)
    assert stage.engine.reserve([wish]) == [Granted()]
    answer = yield lambda: stage.engine.settle_calls([_paid(wish)])
    if isinstance(answer, Exception):
        stage.engine.settle_calls([_paid(wish)])
    assert _counted(stage, claimed) == (1, 0.09, 0.09)
    assert _aside(stage, run) == 0
    told = "SELECT count(*) FROM events WHERE run_id = %s AND kind = 'run.budget_warning'"
    assert stage.query(told, run) == [(1,)]
    return [run]


def releasing(stage: Stage) -> Story:
    """A call came to nothing."""
    run, claimed = _budgeted(stage)
    wish = _wish(claimed)
    assert stage.engine.reserve([wish]) == [Granted()]
    answer = yield lambda: stage.engine.release_calls([wish.id])
    if isinstance(answer, Exception):
        stage.engine.release_calls([wish.id])
    assert _aside(stage, run) == 0
    assert stage.engine.reserve([_wish(claimed)]) == [Granted()]
    return [run]


def recording_usage(stage: Stage) -> Story:
    """An attempt tells what it has consumed besides its calls, which is counted with its outcome, or not at all."""
    run, claimed = _budgeted(stage)
    finished = replace(done(claimed), outcome=Done(usage=PAID))
    answer = yield lambda: stage.engine.record_all([finished])
    again = stage.engine.record_all([finished])
    stage.send((again if isinstance(answer, Exception) else answer)[0].ready)
    assert _counted(stage, claimed) == (1, 0.09, 0.09)
    return [run]


def declaring_a_budget(stage: Stage) -> Story:
    run, claimed = _claimed(stage)
    answer = yield lambda: stage.engine.declare_budget(claimed.tenant, Budget(usd=1))
    if isinstance(answer, Exception):
        stage.engine.declare_budget(claimed.tenant, Budget(usd=1))
    assert stage.query("SELECT count(*) FROM budgets WHERE name = %s", claimed.tenant) == [(1,)]
    return [run]


def fencing(verb: str) -> Scenario:
    """An effect is fenced off (`put`), has been had (`end`), or was not (`drop`)."""

    def scenario(stage: Stage) -> Story:
        run, claimed = _claimed(stage)
        fences, key, token = Fences(stage.pool), uuid4().hex, uuid4()
        holder = Holder(run, claimed.path, claimed.attempt)
        acts: dict[str, Callable[[], Any]] = {
            "put": lambda: fences.put(holder, key, token),
            "end": lambda: fences.end(key, token, "1"),
            "drop": lambda: fences.drop(key, token),
        }
        if verb != "put":
            assert acts["put"]() == Open()
        answer = yield acts[verb]
        # Whoever saw an error has not had its effect; another attempt looks what is there.
        found = fences.put(holder, key, uuid4())
        if verb == "put":
            assert answer == Open() or isinstance(answer, Exception)
            assert isinstance(answer, Exception) or found == Behind(None)
        elif not isinstance(answer, Exception):
            assert found == (Behind("1") if verb == "end" else Open())
        return [run]

    return scenario


def caching(verb: str) -> Scenario:
    """A key is taken (`look`), held on to (`renew`), and what it stands for kept (`keep`)."""

    def scenario(stage: Stage) -> Story:
        run, _ = _claimed(stage)
        cache, mine = ToolCache(stage.pool), Mine(uuid4().hex, uuid4())
        acts: dict[str, Callable[[], Any]] = {
            "look": lambda: cache.look(mine.key, mine.holder),
            "renew": lambda: cache.renew(mine),
            "keep": lambda: cache.keep(mine, "1", 60.0),
        }
        if verb != "look":
            assert acts["look"]() == mine
        answer = yield acts[verb]
        if isinstance(answer, Exception):
            acts[verb]()
        if verb == "keep":
            assert cache.look(mine.key, uuid4()) == Hit("1")
        else:
            assert cache.look(mine.key, mine.holder) == mine
        return [run]

    return scenario


def logging(stage: Stage) -> Story:
    """A call of a tool is written down, once."""
    run, claimed = _claimed(stage)
    log = CallLog(stage.pool)
    ended = EndedCall(run, claimed.path, claimed.attempt, 0, "a", "x", None, "key", {}, result=1)
    answer = yield lambda: log.write(ended)
    written = stage.query("SELECT count(*) FROM tool_calls WHERE run_id = %s", run)[0][0]
    assert written == 1 or (isinstance(answer, Exception) and written == 0)
    return [run]
