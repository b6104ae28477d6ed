"""Steps wait for people, who decide, or do not; agents ask, and keep what they have done."""

from __future__ import annotations

from uuid import UUID

from orchestrator.definitions.vocabulary import approve, fan_out
from orchestrator.engine import Finished
from orchestrator.engine.journals import Entry
from orchestrator.engine.values import error_text
from orchestrator.engine.waits import WaitEnd
from orchestrator.people.notices import Notifier
from schemas.notices import Notice
from schemas.outcomes import Waiting
from schemas.waits import Asking, Expiry, WaitKind
from tests.chaos.engine.scenarios.building import A, B, Scenario, Story, do, new
from tests.chaos.engine.stage import Stage


def deciding(decision: str) -> Scenario:
    def scenario(stage: Stage) -> Story:
        run = stage.submit(new(A >> fan_out(ask=approve("ask").optional(), b=B) >> A))
        do(stage, run, "0", "1/b")
        stage.messages.clear()
        ((wait,),) = stage.query("SELECT id FROM waits WHERE run_id = %s", run)
        error = error_text("Rejected", "no") if decision == "rejected" else None
        end = WaitEnd(wait, decision, "ann", "failed" if error else "done", error=error, told={"by": "ann"})
        answer = yield lambda: stage.engine.end_waits([end])
        # Whoever saw an error decides again, and may hear that it was decided already.
        again = stage.engine.end_waits([end]) if isinstance(answer, Exception) else answer
        stage.send(again.ready)
        return [run]

    return scenario


def a_wait_is_late(stage: Stage) -> list[UUID]:
    body = approve("ask", expires=3600, default="approve", escalate_to=["boss"], escalate_after=60)
    runs = [stage.submit(new(body >> A)) for _ in range(2)]
    stage.query("UPDATE steps SET due_at = clock_timestamp() WHERE state = 'waiting'")
    stage.query("UPDATE waits SET escalated_at = now() WHERE run_id = %s", runs[0])
    return runs


def asking(stage: Stage) -> Story:
    run = stage.submit(new(A >> B))
    finished = _asks(stage, run)
    stage.messages.clear()
    yield lambda: stage.engine.record_all([finished])
    # Delivered twice, it is heard once; then the default answer lets it go on.
    stage.engine.record_all([finished])
    return [run]


def answering(stage: Stage) -> Story:
    run = stage.submit(new(A >> B))
    stage.engine.record_all([_asks(stage, run)])
    stage.messages.clear()
    ((wait,),) = stage.query("SELECT id FROM waits WHERE run_id = %s", run)
    end = WaitEnd(wait, "answered", "ann", "ready", output='{"answer": 4, "decision": "answered"}')
    answer = yield lambda: stage.engine.end_waits([end])
    again = stage.engine.end_waits([end]) if isinstance(answer, Exception) else answer
    stage.send(again.ready)
    assert stage.query("SELECT value -> 'answer' FROM journal WHERE run_id = %s", run) == [(4,)]
    return [run]


def keeping(stage: Stage) -> Story:
    run = stage.submit(new(A >> B))
    claimed = stage.claim(run, "0")
    entry = Entry("once x", "1")
    answer = yield lambda: stage.engine.write_journal(claimed, 0, entry)
    if isinstance(answer, Exception):
        assert stage.engine.write_journal(claimed, 0, entry)
    assert stage.engine.read_journal(claimed) == {0: entry}
    assert stage.finish(claimed).accepted
    return [run]


class _Deaf:
    name = "deaf"

    def tell(self, notice: Notice) -> None:
        raise ConnectionError


def telling(stage: Stage) -> Story:
    run = stage.submit(new(approve("ask", expires=3600) >> A))
    notifier = Notifier(stage.pool, [_Deaf()])
    yield notifier.look
    stage.query("UPDATE notices SET due_at = now() WHERE run_id = %s", run)
    assert notifier.look() == 1
    return [run]


def _asks(stage: Stage, run: UUID) -> Finished:
    """The agent of the first stage has asked, and would go on without an answer."""
    claimed = stage.claim(run, "0")
    kept = {"answer": 3, "decision": "answered"}
    expiry = Expiry(decision="answered", state="ready", reason="late", output=kept, gives_output=True)
    asking = Asking(
        kind=WaitKind.QUESTION,
        key="Well?",
        request={"position": 0, "name": "ask human"},
        expires=3600,
        expiry=expiry,
    )
    return Finished(run, "0", claimed.attempt, Waiting(asking=asking))
