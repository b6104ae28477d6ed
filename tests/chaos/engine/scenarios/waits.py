"""Steps wait for people, who decide, or do not."""

from __future__ import annotations

from uuid import UUID

from orchestrator.engine.values import error_text
from orchestrator.engine.waits import WaitEnd
from orchestrator.vocabulary import approve, fan_out
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
