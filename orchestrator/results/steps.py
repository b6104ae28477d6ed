"""Steps in the result backend: their rows are their results, and their joins are counted by the engine.

`celery.AsyncResult(task_id)` of a step reads the step itself. A chord of steps needs no rows of its own: the engine
counts its headers in the transaction that records each outcome, and tells the step task with the last one that the
join is ready; this backend then publishes the chord's body. Every other task is handled as by `Backend`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from celery import maybe_signature, states
from celery.exceptions import TaskRevokedError

from orchestrator.engine.values import Pointer
from orchestrator.masking.masker import discreet_json
from orchestrator.messaging.canvas import step_of
from orchestrator.results.backend import Backend
from orchestrator.store import view_queries as sql
from schemas.errors import RunFailed

_STATES = {
    "pending": states.PENDING,
    "ready": states.PENDING,
    "open": states.STARTED,
    "running": states.STARTED,
    "waiting": states.STARTED,
    "dead": states.STARTED,
    "done": states.SUCCESS,
    "failed": states.FAILURE,
    "skipped": states.REVOKED,
    "cancelled": states.REVOKED,
}


class StepBackend(Backend):
    """The result backend of Baton's own workers and clients."""

    # --- joins --------------------------------------------------------------------------------------------

    def apply_chord(self, header_result_args: tuple[Any, ...], body: Any, **kwargs: Any) -> None:
        if step_of(str(header_result_args[0])) is None:
            super().apply_chord(header_result_args, body, **kwargs)

    def set_chord_size(self, group_id: str, chord_size: int) -> None:
        if step_of(str(group_id)) is None:
            super().set_chord_size(group_id, chord_size)

    def mark_as_done(
        self,
        task_id: str,
        result: Any,
        request: Any = None,
        store_result: bool = True,
        state: str = states.SUCCESS,
    ) -> None:
        if step_of(str(task_id)) is None:
            super().mark_as_done(task_id, result, request, store_result, state)
        else:
            self._publish_join(request)

    def mark_as_failure(
        self,
        task_id: str,
        exc: BaseException,
        traceback: Any = None,
        request: Any = None,
        store_result: bool = True,
        call_errbacks: bool = True,
        state: str = states.FAILURE,
    ) -> None:
        """A failed step was recorded by the engine; its join runs all the same, with a gap."""
        if step_of(str(task_id)) is None:
            super().mark_as_failure(task_id, exc, traceback, request, store_result, call_errbacks, state)
        else:
            self._publish_join(request)

    def mark_as_revoked(
        self,
        task_id: str,
        reason: str = "",
        request: Any = None,
        store_result: bool = True,
        state: str = states.REVOKED,
    ) -> None:
        """A revoked message of a step changes nothing: cancelling is for the run."""
        if step_of(str(task_id)) is None:
            super().mark_as_revoked(task_id, reason, request, store_result, state)

    def on_chord_part_return(self, request: Any, state: str, result: Any, *args: Any, **kwargs: Any) -> None:
        if step_of(str(request.id)) is None:
            super().on_chord_part_return(request, state, result, *args, **kwargs)

    def _publish_join(self, request: Any) -> None:
        if request is not None and request.chord and getattr(request, "join_ready", False):
            maybe_signature(request.chord, app=self.app).apply_async()

    # --- results ------------------------------------------------------------------------------------------

    def _store_result(
        self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None, **rest: Any
    ) -> Any:
        if step_of(str(task_id)) is not None:
            return result
        return super()._store_result(task_id, result, state, traceback, request, **rest)

    def encode_meta(self, *args: Any, **kwargs: Any) -> bytes:
        """Without credentials: what a submission fails with may repeat what it was given."""
        return discreet_json(super().encode_meta(*args, **kwargs).decode()).encode()

    def _get_task_meta_for(self, task_id: str) -> Any:
        step = step_of(str(task_id))
        return super()._get_task_meta_for(task_id) if step is None else self._step_meta(task_id, step)

    def read_ready(self, task_ids: Sequence[str]) -> dict[str, Any]:
        steps = {task_id: step for task_id in task_ids if (step := step_of(str(task_id))) is not None}
        metas = {task_id: self._step_meta(task_id, step) for task_id, step in steps.items()}
        ready = {task_id: meta for task_id, meta in metas.items() if meta["status"] in states.READY_STATES}
        others = [task_id for task_id in task_ids if task_id not in steps]
        return {**super().read_ready(others), **ready} if others else ready

    def _step_meta(self, task_id: str, step: Pointer) -> dict[str, Any]:
        keys = {"run": step.run_id, "path": step.path}
        row = self.with_connection(lambda conn: conn.execute(sql.SELECT_STEP_RESULT, keys).fetchone())
        if row is None:
            return {"status": states.PENDING, "result": None, "task_id": task_id}
        state, output, error = row
        status = _STATES[state]
        result: Any = output
        if status == states.FAILURE:
            result = RunFailed(error["message"], run_id=str(step.run_id), state=state)
        elif status == states.REVOKED:
            result = TaskRevokedError(state)
        return {"status": status, "result": result, "task_id": task_id, "traceback": None, "children": []}
