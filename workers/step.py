"""The one task: claim, run, record, continue."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from billiard.exceptions import WorkerLostError
from celery import Task
from celery.exceptions import Ignore, Retry
from kombu.exceptions import EncodeError

from orchestrator.engine import Claimed, Finished, Pointer, Ready, Recorded, Refused, Wanted
from orchestrator.messaging.canvas import pointer_of, task_id
from orchestrator.messaging.dispatch import UNREACHABLE
from orchestrator.outages import BROKER
from schemas.errors import BatonError
from schemas.outcomes import ErrorInfo, Failed, Limited, Waiting
from workers.agent import Agent
from workers.endings import Ended, Superseded
from workers.outcomes import retry_in
from workers.process import WorkerProcess
from workers.requests import NOT_TOLD, Unquoted

log = logging.getLogger(__name__)


class Prepared(NamedTuple):
    """A step that the pool has run and recorded; the task goes on from here."""

    finished: Finished
    recorded: Recorded


class StepFailed(BatonError):
    """The agent failed for good; the run knows, this tells Celery and Flower."""


class StepRequest(Unquoted):
    """Tells Postgres what only the consuming process sees: that the child that ran a step is gone."""

    @property
    def argsrepr(self) -> str:
        return NOT_TOLD if pointer_of({"args": self.args}) is None else repr(tuple(self.args[:3]))

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        lost = exc_info.exception
        if isinstance(getattr(lost, "exc", lost), WorkerLostError):
            if self.task.process.closed:
                return (
                    self.acknowledge()
                )  # killed with its worker, which gives back and sends all that it holds
            self.task.child_lost(self.args)
        return super().on_failure(exc_info, send_failed_event, return_ok)

    def on_timeout(self, soft: bool, timeout: float) -> Any:
        if not soft:
            self.task.child_lost(self.args, timed_out=timeout)
        return super().on_timeout(soft, timeout)


class StepTask(Task):
    """Runs the steps of one agent. Its arguments are a pointer; everything else is in Postgres."""

    abstract = True
    Request = "workers.step:StepRequest"
    acks_late = True
    reject_on_worker_lost = True
    ignore_result = True
    max_retries = None
    trail = False
    throws = (StepFailed,)

    agent: Agent
    process: WorkerProcess

    def apply_async(self, args: Any = None, kwargs: Any = None, *others: Any, **options: Any) -> Any:
        """Publish one step. When it is Celery that does, for a chain or a chord, a broker that is away is no failure.

        The step that Celery continues from has ended well, and the timers send the next one.
        """
        if self.process.dispatcher.is_sending:
            return super().apply_async(args, kwargs, *others, **options)
        if BROKER.worth_a_try():
            try:
                return super().apply_async(args, kwargs, *others, **options)
            except EncodeError:
                raise
            except UNREACHABLE as error:
                BROKER.noticed(error)
        self.process.dispatcher.left([_pointer(args)])
        return self.AsyncResult(options.get("task_id") or task_id(_pointer(args)))

    def run(self, *args: Any, **kwargs: Any) -> dict[str, str]:
        """Run the step that the message points to, unless Postgres says that there is nothing to do."""
        try:
            pointer = _pointer(args)
        except ValueError as error:
            self.process.set_aside(self.name, str(error), {"args": args, "kwargs": kwargs})
            raise Ignore(str(error)) from None
        match self.process.take_prepared(self.request.id) or self._claim(pointer):
            case Claimed() as claimed:
                return self._work(claimed)
            case Prepared(finished, recorded) if (finished.run_id, finished.path) == pointer:
                return self._continue(finished, recorded)
            case Superseded():
                raise Ignore("superseded")
            case Refused(done=True):
                # Its worker died between the commit and the next message: the chain goes on from here.
                return {"run": str(pointer.run_id), "step": pointer.path}
            case Refused(reason=reason):
                log.info("nothing to do for step %s of run %s: %s", pointer.path, pointer.run_id, reason)
                raise Ignore(reason)
        raise Ignore("its id and its arguments point to different steps")

    def _claim(self, pointer: Pointer) -> Claimed | Refused:
        if self.request.id in self.process.returned:
            return Refused("its message went back to the queue: this worker ends")
        wanted = self.wanted(pointer)
        return (
            self.process.engine.claim(pointer) if wanted is None else self.process.engine.claim_within(wanted)
        )

    def wanted(self, pointer: Pointer) -> Wanted | None:
        """What to ask for a step of an agent that has limits of the cluster."""
        spec = self.agent.spec
        return Wanted(pointer, spec.name, spec.limits) if spec.limits else None

    def _work(self, claimed: Claimed) -> dict[str, str]:
        ended = self._execute(claimed)
        finished = Finished(claimed.run.id, claimed.path, claimed.attempt, *ended)
        return self._continue(finished, self.process.engine.record(finished))

    def _execute(self, claimed: Claimed) -> Ended:
        try:
            return self.process.runner.run(self.agent, claimed)
        except Superseded:
            log.info("stopped step %s of run %s: its outcome is not wanted", claimed.path, claimed.run.id)
            raise Ignore("superseded") from None

    def _continue(self, finished: Finished, recorded: Recorded) -> dict[str, str]:
        if not recorded.accepted:
            log.info("the outcome of step %s of run %s came too late", finished.path, finished.run_id)
            attempt = (finished.run_id, finished.path, finished.attempt)
            self.process.dispatcher.send(self.process.engine.take_forgotten([attempt]))
            raise Ignore("superseded")
        self.process.dispatcher.announce(recorded.ended)
        self.process.dispatcher.send(self._not_carried(recorded.ready))
        if any(limit.concurrency is not None for limit in self.agent.spec.limits):
            room = self.process.engine.make_room(Pointer(finished.run_id, finished.path))
            self.process.dispatcher.send(room)
        match finished.outcome:
            case Failed(retry_in=float() as wait, error=error):
                # Not `self.retry`, which would publish: Celery and Flower hear of a retry, the timers send it.
                raise Retry(exc=_failure(error), when=wait)
            case Failed(error=error):
                raise _failure(error)
            case Waiting():
                raise Ignore("it waits for an answer")
            case Limited(limit=limit):
                raise Ignore(f"it waits for a limit: {limit}")
        return {"run": str(finished.run_id), "step": finished.path}

    def _not_carried(self, ready: Sequence[Ready]) -> list[Ready]:
        """The ready steps that the canvas of this very message will not publish.

        A canvas is a promise made before the outcome was known: what it would publish although it is not
        ready (the next stage after a cancel, a join that others complete) is taken out of it.
        """
        request = self.request
        paths: dict[Pointer | None, Ready] = {Pointer(one.run.id, one.path): one for one in ready}
        if request.chain and paths.pop(pointer_of(request.chain[-1]), None) is None:
            request.chain = None
        if request.chord:
            request.join_ready = paths.pop(pointer_of(request.chord), None) is not None
        return list(paths.values())

    def child_lost(self, args: Sequence[Any], timed_out: float | None = None) -> None:
        """A prefork child died over a step, or was killed for its time limit (seconds)."""
        try:
            pointer = _pointer(args)
        except ValueError:
            return
        try:
            self._child_lost(pointer, timed_out)
        except psycopg.Error as error:
            # Celery has to go on with its request; then the heart finds that nobody runs the step.
            log.warning("a child process was lost, but Postgres cannot be told: %s", error)

    def _child_lost(self, pointer: Pointer, timed_out: float | None) -> None:
        engine = self.process.engine
        if timed_out is None:
            freed = engine.release(pointer)
            # Its own message goes back to the queue; others may have waited for what was set aside for it.
            others = [one for one in freed if Pointer(one.run.id, one.path) != pointer]
            self.process.dispatcher.send(others)
            return
        held = engine.held(pointer)
        if held is not None:
            told = f"the step took longer than {self.agent.spec.timeout:g} s, and was killed"
            error = ErrorInfo(type="AttemptTimeout", message=told)
            wait = retry_in(self.agent, held.retries, True)
            failed = Failed(error=error, retry_in=wait)
            recorded = engine.record(Finished(held.run_id, held.path, held.attempt, failed))
            self.process.dispatcher.send(recorded.ready)


def _failure(error: ErrorInfo) -> StepFailed:
    return StepFailed(f"{error.type}: {error.message}")


def _pointer(args: Sequence[Any]) -> Pointer:
    """The step that a message points to. Raises `ValueError` for anything but a pointer."""
    match args:
        case [str(run_id), str(path), *_]:
            return Pointer(UUID(run_id), path)
    raise ValueError("its arguments are not (run id, step path, attempt)")
