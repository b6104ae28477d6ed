"""Everything that a producer may ask for, in one object."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Any
from uuid import UUID

from orchestrator.client.following import Follower
from orchestrator.client.handle import RunHandle
from orchestrator.clock.schedules import Schedules
from orchestrator.dead_letters import DeadLetters
from orchestrator.definitions.compile import compile_workflow
from orchestrator.engine import Engine, Submitted
from orchestrator.incoming.inbox import Inbox
from orchestrator.incoming.subscriptions import Subscriptions
from orchestrator.intake.bulk import Selection, move_each
from orchestrator.intake.forker import AS_IT_WAS, Forker
from orchestrator.intake.submitter import Submitter, Terms
from orchestrator.memory.long_term import LongMemory
from orchestrator.messaging.bell import Bell
from orchestrator.messaging.broker import shared_app
from orchestrator.messaging.dispatch import Dispatcher
from orchestrator.people.approvals import Approvals
from orchestrator.places import find
from orchestrator.shared_state import SharedState
from orchestrator.standing_budgets import StandingBudgets
from orchestrator.store.connect import Pool
from orchestrator.store.refusals import translated
from orchestrator.tool_calls.log import CallLog
from orchestrator.watching.costs import Costs
from orchestrator.watching.feed import Feed
from orchestrator.watching.replay import until
from orchestrator.watching.views import Views
from schemas.agents import JsonSchema
from schemas.budgets import By, Cost
from schemas.events import Event
from schemas.incoming import Emitted
from schemas.runs import RUN_LIVE, PoolView, RunFigures, RunMoment, RunState, RunSummary, RunView, WorkerView
from schemas.schedules import Missed, Overlap, Schedule, Timetable
from schemas.settings import settings
from schemas.tools import ToolRecord
from schemas.workflows import Workflow


class Client(Approvals):
    """Talks to one Postgres and one broker; safe to share between threads."""

    def __init__(self, database_url: str | None = None, broker_url: str | None = None) -> None:
        """Without URLs: those of the environment, else of the stack that runs on this machine.

        Raises `Unavailable` when there are none.
        """
        places = find(database_url, broker_url)
        self._pool = Pool(places.database_url, size=settings().pool_size)
        engine = Engine(self._pool)
        dispatcher = Dispatcher(shared_app(places), engine.leave_unsent)
        super().__init__(self._pool, engine, dispatcher, Views(self._pool, engine.plans))
        self._feed = Feed(self._pool)
        self._bell = Bell(places.broker_url)
        self._submitter = Submitter(self._engine, self._dispatcher)
        self._follower = Follower(self._pool, self._views, self._feed, self._bell, self)
        self._forker = Forker(self._engine, self._dispatcher)
        self.schedules = Schedules(self._engine, self._dispatcher, self._submitter)
        """What starts runs again and again; `schedule` sets one, `fire_schedule` starts a run of it now."""
        self.dead = DeadLetters(self._pool, self._engine, self._dispatcher)
        """What was set aside: steps that cost one worker after the other, and messages that nobody could run."""
        self.inbox = Inbox(self._pool)
        """Events from outside, and what became of them."""
        self.subscriptions = Subscriptions(self._pool, self._engine.plans)
        """What starts runs when events come in."""
        self._tool_calls = CallLog(self._pool)
        self.shared = SharedState(self._pool)
        """What agents share, to look at."""
        self.memory = LongMemory(self._pool)
        """What agents remember, to look at and to forget."""
        self.budgets = StandingBudgets(self._pool)
        """What tenants, agents and everybody may consume in an hour, a day or a month."""
        self._costs = Costs(self._pool)

    # --- producing ----------------------------------------------------------------------------------------

    def submit(
        self,
        workflow: Workflow | str,
        input: Any = None,
        *,
        idempotency_key: str | None = None,
        tenant: str | None = None,
        priority: int | None = None,
        labels: Mapping[str, str] | None = None,
        delay: float | None = None,
        connection: object = None,
        strict: bool = False,
    ) -> RunHandle:
        """Start a run; it is durable when this returns.

        `workflow` is a definition or the name of a stored one; `input` anything that Pydantic can serialise.
        `priority` goes from 0 (normal) to 9, `delay` is in seconds.

        With a `connection` (of psycopg 3, or a Connection or Session of SQLAlchemy on it) the run is part of the
        transaction that is open there: it exists if and only if that transaction commits. Nothing of it starts
        before; within a quarter of a second after the commit a worker finds it, or at once with `handle.send()`.

        With `strict`, a workflow that could exceed its budget or its timeout is refused (`BudgetTooSmall`).

        Raises `InputError`, `NotFound`, `IdempotencyConflict` (see `orchestrator.intake.submitter`), and `Unavailable`
        when Postgres cannot be reached: whether the run exists is then unknown, so repeat it with the same key.
        """
        terms = Terms(tenant, priority, labels, delay)
        (answer,) = self._submitter.submit(
            workflow, [input], terms, keys=[idempotency_key], connection=connection, strict=strict
        )
        return self._handle(answer)

    def submit_many(
        self,
        workflow: Workflow | str,
        inputs: Iterable[Any],
        *,
        idempotency_keys: Iterable[str | None] | None = None,
        tenant: str | None = None,
        priority: int | None = None,
        labels: Mapping[str, str] | None = None,
        delay: float | None = None,
        connection: object = None,
        strict: bool = False,
    ) -> list[RunHandle]:
        """Start many runs of one workflow, in transactions of a thousand; the handles in order.

        Everything is checked before the first run is created. What one transaction refuses (a key that an earlier
        run has) leaves the runs of those before it. With a `connection` all of them are in its one transaction.
        Otherwise as `submit`.
        """
        terms = Terms(tenant, priority, labels, delay)
        answers = self._submitter.submit(
            workflow, inputs, terms, keys=idempotency_keys, connection=connection, strict=strict
        )
        return [self._handle(answer) for answer in answers]

    def send(self, handles: Iterable[RunHandle]) -> int:
        """Send runs that were submitted on a `connection` at once, after its commit; how many steps were sent.

        Nobody needs to: workers find them. Before the commit it does nothing, and it may be repeated.
        """
        return self._submitter.send_unsent([handle.id for handle in handles])

    def emit(
        self,
        type: str,
        payload: Any = None,
        *,
        key: str | None = None,
        id: str | None = None,
        tenant: str | None = None,
        connection: object = None,
    ) -> Emitted:
        """Tell that something happened: starts what is subscribed to it, and wakes what waits for it.

        The event is durable when this returns, and stored once for each `id`, so it may be repeated. Workers find it
        within a quarter of a second. With a `connection` it is part of the transaction that is open there, as in
        `submit`. Raises `InputError`, `IdempotencyConflict` for an id that stands for another event, `Unavailable`.
        """
        return self.inbox.emit(type, payload, key=key, id=id, tenant=tenant, connection=connection)

    def register(self, workflow: Workflow) -> None:
        """Store a definition, so that it can be run by its name. Raises `Unavailable`."""
        with translated():
            self._engine.plans.save(compile_workflow(workflow), newest=True)

    @translated()
    def cancel(self, run_id: UUID, reason: str = "") -> None:
        """End a run. Raises `NotFound`, and `Conflict` if it has ended already."""
        self._dispatcher.send(self._engine.cancel(run_id, reason))

    @translated()
    def pause(self, run_id: UUID, reason: str = "") -> None:
        """Let nothing more of a run start; what runs may finish. Raises `NotFound` and `Conflict`."""
        self._engine.pause(run_id, reason)

    @translated()
    def fork(self, run_id: UUID, *, from_step: str, input: Any = AS_IT_WAS) -> RunHandle:
        """Start a new run of the same definition, input, tenant, labels and priority, which begins with what is done.

        `from_step` (a path, such as `0/review/2`) is executed again, and so is everything after it; `input` takes the
        place of its input. The other run may be in any state, and is not changed. Raises `NotFound` for a run or a
        step that does not exist, `Conflict` for a step that was not reached, and `InputError`.
        """
        return RunHandle(self, self._forker.fork(run_id, from_step.strip("/"), input))

    @translated()
    def step_input_schema(self, run_id: UUID, step: str) -> JsonSchema:
        """What a step of a run takes. Raises `NotFound`."""
        return self._forker.input_schema(run_id, step.strip("/"))

    @translated()
    def resume(self, run_id: UUID) -> None:
        """Let a paused run go on, or run what failed again; what is done stays done. Raises `NotFound`, `Conflict`."""
        self._dispatcher.send(self._engine.resume(run_id))

    @translated()
    def select(self, selection: Selection, states: Iterable[RunState]) -> list[UUID]:
        """The ids of the runs in one of these states that are meant, the oldest first. Raises `InputError`."""
        return self._views.select(selection, states)

    def cancel_many(
        self,
        *,
        workflow: str | None = None,
        labels: Mapping[str, str] | None = None,
        tenant: str | None = None,
        reason: str = "",
    ) -> list[UUID]:
        """End all runs of which everything named is true, each in its own transaction; those that were ended.

        Raises `InputError` when nothing is named: it would be all.
        """
        found = self.select(Selection(workflow, labels, tenant), RUN_LIVE)
        return _moved(found, partial(self.cancel, reason=reason))

    def pause_many(
        self,
        *,
        workflow: str | None = None,
        labels: Mapping[str, str] | None = None,
        tenant: str | None = None,
        reason: str = "",
    ) -> list[UUID]:
        """Pause all runs of which everything named is true; otherwise as `cancel_many`."""
        found = self.select(Selection(workflow, labels, tenant), RUN_LIVE - {RunState.PAUSED})
        return _moved(found, partial(self.pause, reason=reason))

    def resume_many(
        self,
        *,
        workflow: str | None = None,
        labels: Mapping[str, str] | None = None,
        tenant: str | None = None,
        state: RunState = RunState.PAUSED,
    ) -> list[UUID]:
        """Resume all paused runs (or all failed ones) of which everything named is true; else as `cancel_many`.

        A run with a step that was set aside stays paused.
        """
        return _moved(self.select(Selection(workflow, labels, tenant), [state]), self.resume)

    # --- schedules ----------------------------------------------------------------------------------------

    def schedule(
        self,
        name: str,
        workflow: Workflow | str,
        input: Any = None,
        *,
        cron: str | None = None,
        every: float | None = None,
        timezone: str = "UTC",
        missed: Missed | str = Missed.ONE,
        overlap: Overlap | str = Overlap.ALLOW,
        tenant: str | None = None,
        priority: int | None = None,
        labels: Mapping[str, str] | None = None,
        replace: bool = True,
    ) -> Schedule:
        """Start runs of a workflow again and again: at the times of `cron`, or `every` so many seconds.

        May be called whenever a program starts: a schedule with the same times keeps its next one, and one that
        was paused stays paused. Its runs keep this very definition until it is set again. Each has the label
        `schedule=NAME` and exists once, however many workers there are. With `overlap="skip"` a time that comes while
        the run before goes on is left out, and there is one run at a time. Raises `InputError`, `NotFound`,
        `Unavailable`, and without `replace` `Conflict` for a name that is taken.
        """
        times = Timetable(cron=cron, every=every, timezone=timezone)
        terms = Terms(tenant, priority, labels, None)
        return self.schedules.put(
            name, workflow, input, times, terms, missed=missed, overlap=overlap, replace=replace
        )

    def fire_schedule(self, name: str) -> RunHandle:
        """Start a run of a schedule now, whatever its times. Raises `NotFound` and `Unavailable`."""
        return RunHandle(self, self.schedules.fire(name))

    # --- reading ------------------------------------------------------------------------------------------

    def result(self, run_id: UUID, timeout: float | None = None) -> Any:
        """Wait for a run's output. Raises `RunFailed`, `ResultTimeout` and `NotFound`.

        A Postgres that restarts meanwhile is waited for; `Unavailable` after a minute.
        """
        return self._follower.result(run_id, timeout)

    def stream(self, run_id: UUID, after: int = 0) -> Iterator[Event]:
        """Events with a number above `after`, as they happen, until the run has ended. Raises `NotFound`.

        Waits for a Postgres that restarts as `result` does.
        """
        return self._follower.stream(run_id, after)

    @translated()
    def tool_calls(self, run_id: UUID) -> list[ToolRecord]:
        """The calls of tools that a run has made, in the order in which they ended. Raises `NotFound`."""
        self._views.summary(run_id)
        return self._tool_calls.of_run(run_id)

    @translated()
    def events(self, run_id: UUID, after: int = 0) -> list[Event]:
        """The events so far with a number above `after`. Raises `NotFound`."""
        self._views.summary(run_id)
        return self._feed.read(run_id, after, limit=100_000)

    @translated()
    def run(self, run_id: UUID) -> RunView:
        """A run with its steps, payloads and notes. Raises `NotFound`."""
        return self._views.run(run_id)

    @translated()
    def run_at(self, run_id: UUID, at: int | datetime) -> RunMoment:
        """A run as it was after the event of that number, or at that time, told by its events alone.

        Raises `NotFound` for a run or a moment that does not exist.
        """
        self._views.summary(run_id)
        events = self._feed.all(run_id)
        return self._views.moment(run_id, until(events, at), len(events))

    @translated()
    def runs(
        self,
        *,
        state: RunState | None = None,
        workflow: str | None = None,
        label: str | None = None,
        tenant: str | None = None,
        children: bool = True,
        limit: int = 50,
    ) -> list[RunSummary]:
        """The newest runs first; `label` is `KEY=VALUE`."""
        return self._views.runs(
            state=state, workflow=workflow, label=label, tenant=tenant, children=children, limit=limit
        )

    @translated()
    def pools(self) -> list[PoolView]:
        """Every agent that has live workers or waiting work."""
        return self._views.pools()

    @translated()
    def workers(self, *, ended: bool = False) -> list[WorkerView]:
        """Worker processes, live ones first; with `ended` also those that have stopped or died."""
        return self._views.workers(ended=ended)

    @translated()
    def workflows(self) -> list[Workflow]:
        """The newest stored definition of every name."""
        return self._engine.plans.all()

    @translated()
    def versions(self, workflow: str) -> dict[str, Workflow]:
        """Every stored definition of this name by its id, the newest first."""
        return self._engine.plans.versions(workflow)

    def figures(self, runs: Iterable[UUID]) -> list[RunFigures]:
        """How these runs stand and what they consumed; waits for a Postgres that restarts as `result` does."""
        return self._follower.read(partial(self._views.figures, list(runs)))

    @translated()
    def costs(self, by: By = "workflow", *, since: float | None = None) -> list[Cost]:
        """What was paid, the dearest first, in the last `since` seconds; of runs that were pruned in whole days (UTC).

        Model calls count when they end, what agents tell by `ctx.spend` with their attempts. A user is what the label
        `user` of a run says. Raises `InputError`, `Unavailable`.
        """
        return self._costs.by(by, since=since)

    def close(self) -> None:
        """Close the connections."""
        self._bell.close()
        self._pool.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _handle(self, answer: Submitted) -> RunHandle:
        return RunHandle(self, answer.run_id, created=answer.created)


def _moved(runs: Iterable[UUID], move: Callable[[UUID], object]) -> list[UUID]:
    return [one.run_id for one in move_each(runs, move) if one.refusal is None]
