"""A Celery pool in which a waiting async agent holds no thread.

Sync agents run in Celery's own thread pool. The steps of async agents take another way through the same stations:
messages that arrive together are claimed in one transaction, their agents wait on the process's event loop, those
that end together are recorded in one transaction, and only then does Celery's task run, on a few threads: it finds
the work done, publishes what follows and lets Celery acknowledge. So 500 waiting model calls are 500 coroutines.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from celery.concurrency.base import apply_target
from celery.concurrency.thread import TaskPool

from orchestrator.engine import Claimed, Finished, Onward, Pointer, Recorded, Refused
from orchestrator.messaging.canvas import step_of, task_id
from workers.endings import Superseded
from workers.handover import HandOver
from workers.process import WorkerProcess
from workers.step import Prepared, StepTask

log = logging.getLogger(__name__)
T = TypeVar("T")

BATCH = 256
"""Steps of one transaction."""

FINISHERS = 4
"""Threads that publish and acknowledge."""


@dataclass(eq=False)
class Job:
    """One message on its way through the stations."""

    task: StepTask
    task_id: str
    pointer: Pointer
    accept: Callable[[int, float], object]
    conclude: Callable[[float], object]
    """Run Celery's task, which finds the work prepared; takes the seconds since the step was accepted."""
    request: Any
    """Celery's request for this message."""
    accepted_at: float = field(default=0.0)


class StepPool(TaskPool):
    """Threads for sync agents, one event loop for async ones."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._claims = Station("claims", self._claim)
        self._records = Station("records", self._record)
        self._finishers = ThreadPoolExecutor(FINISHERS, thread_name_prefix="finisher")
        self.hand_over = HandOver(self.app)
        self._handed: dict[str, Claimed] = {}
        self._open = 0
        self._changed = threading.Condition()

    @property
    def _process(self) -> WorkerProcess:
        process: WorkerProcess = self.app.baton
        return process

    def on_apply(
        self,
        target: Callable[..., Any],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        callback: Callable[..., Any] | None = None,
        accept_callback: Callable[..., Any] | None = None,
        **options: Any,
    ) -> Any:
        task, pointer = self.app.tasks.get(args[0]), step_of(args[1])
        if pointer is None or not isinstance(task, StepTask) or not task.agent.spec.is_async:
            return super().on_apply(target, args, kwargs, callback, accept_callback, **options)

        def conclude(seconds: float) -> None:
            def told(ended: tuple[Any, Any, Any]) -> None:
                if callback is not None:
                    callback((ended[0], ended[1], seconds) if isinstance(ended, tuple) else ended)

            apply_target(target, args, kwargs, told)

        request = getattr(callback, "__self__", None)
        job = Job(task, args[1], pointer, accept_callback or (lambda pid, at: None), conclude, request)
        with self._changed:
            self._open += 1
        claimed = self._handed.pop(job.task_id, None)
        if claimed is None:
            self._claims.put(job)
        else:
            self._accept(job)
            self._process.loop.start_all([self._run(job, claimed)])
        return job

    def on_stop(self) -> None:
        """Wait until every step that was taken has been recorded and acknowledged."""
        with self._changed:
            self._changed.wait_for(lambda: self._open == 0)
        self._claims.stop()
        self._records.stop()
        self._finishers.shutdown()
        super().on_stop()

    # --- stations -----------------------------------------------------------------------------------------

    def _claim(self, jobs: Sequence[Job]) -> None:
        jobs = [job for job in jobs if not self._went_back(job)]
        for job in jobs:
            self._accept(job)
        works = []
        for job, answer in zip(jobs, self._answers(jobs), strict=True):
            if isinstance(answer, Claimed):
                works.append(self._run(job, answer))
            else:
                self._finish(job, answer)
        if works:
            self._process.loop.start_all(works)

    def _accept(self, job: Job) -> None:
        job.accepted_at = time.monotonic()
        job.accept(os.getpid(), job.accepted_at)

    def _went_back(self, job: Job) -> bool:
        """Whether the message of a job was given back, since the worker ends; then nothing is left to conclude."""
        if job.task_id not in self._process.returned:
            return False
        self._forget_job()
        return True

    def _answers(self, jobs: Sequence[Job]) -> Sequence[Claimed | Refused]:
        try:
            return self._claimed(jobs)
        except Exception as error:
            log.exception("could not claim %d steps", len(jobs))
            return [Refused(f"it could not be claimed: {error}")] * len(jobs)

    def _claimed(self, jobs: Sequence[Job]) -> Sequence[Claimed | Refused]:
        engine = self._process.engine
        wanted = {index: one for index, job in enumerate(jobs) if (one := job.task.wanted(job.pointer))}
        if not wanted:
            return engine.claim_all([job.pointer for job in jobs])
        free = [index for index in range(len(jobs)) if index not in wanted]
        answers = dict(zip(wanted, engine.claim_all_within(list(wanted.values())), strict=True))
        if free:
            answers |= zip(free, engine.claim_all([jobs[index].pointer for index in free]), strict=True)
        return [answers[index] for index in range(len(jobs))]

    async def _run(self, job: Job, claimed: Claimed) -> None:
        try:
            ended = await self._process.runner.attempt(job.task.agent, claimed)
        except Superseded as superseded:
            self._finish(job, superseded)
        else:
            onward = Onward(claimed, self.hand_over.agents(self._process.concurrency))
            finished = Finished(claimed.run.id, claimed.path, claimed.attempt, *ended, onward=onward)
            self._records.put((job, finished))

    def _record(self, ended: Sequence[tuple[Job, Finished]]) -> None:
        try:
            answers = self._process.engine.record_all([finished for _, finished in ended])
        except Exception:
            log.exception("could not record %d steps", len(ended))
            answers = [Recorded(accepted=False)] * len(ended)
        for (job, finished), recorded in zip(ended, answers, strict=True):
            self._process.prepare(job.task_id, Prepared(finished, recorded))
            if recorded.next is not None:
                self._go_on(job, recorded.next)
            if len(ended) == 1:
                self._conclude(job)  # nobody else waits: spare it the way to another thread
            else:
                self._finishers.submit(self._conclude, job)

    def _go_on(self, job: Job, claimed: Claimed) -> None:
        """Start the next stage before this one is concluded; what cannot start goes back to its queue."""
        pointer = Pointer(claimed.run.id, claimed.path)
        self._handed[task_id(pointer)] = claimed
        if not self.hand_over.deliver(job.request, claimed):
            del self._handed[task_id(pointer)]
            self._process.dispatcher.send(self._process.engine.release(pointer, claimed.attempt, lost=False))

    def _finish(self, job: Job, prepared: object) -> None:
        self._process.prepare(job.task_id, prepared)
        self._finishers.submit(self._conclude, job)

    def _conclude(self, job: Job) -> None:
        try:
            job.conclude(time.monotonic() - job.accepted_at)
        except Exception:
            log.exception("could not conclude %s", job.task_id)
        finally:
            self._forget_job()

    def _forget_job(self) -> None:
        with self._changed:
            self._open -= 1
            self._changed.notify_all()


class Station(Generic[T]):
    """A thread that handles whatever has gathered since it last looked."""

    def __init__(self, name: str, handle: Callable[[Sequence[T]], object]) -> None:
        self._handle = handle
        self._queue: SimpleQueue[T | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._started = False

    def put(self, item: T) -> None:
        if not self._started:
            self._started = True
            self._thread.start()
        self._queue.put(item)

    def stop(self) -> None:
        """End the thread after what is queued; may be called before it ever started."""
        if self._started:
            self._queue.put(None)
            self._thread.join()

    def _run(self) -> None:
        going = True
        while going:
            batch = self._gather()
            going = batch[-1] is not None
            if items := [item for item in batch if item is not None]:
                self._handle(items)

    def _gather(self) -> list[T | None]:
        batch = [self._queue.get()]
        while len(batch) < BATCH and batch[-1] is not None:
            try:
                batch.append(self._queue.get_nowait())
            except Empty:
                break
        return batch
