"""An executor in one thread: it claims what is ready in random order, duplicates messages, loses claims, and
records outcomes in batches, as many workers on a bad network would.
"""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

from orchestrator.clock.timers import Timers
from orchestrator.definitions.compile import compile_workflow
from orchestrator.definitions.plan import Plan
from orchestrator.definitions.vocabulary import Part
from orchestrator.engine import (
    Claimed,
    Engine,
    Finished,
    Onward,
    Pointer,
    Ready,
    Recorded,
    Refused,
    Submission,
    WorkerId,
)
from orchestrator.engine.values import error_text
from orchestrator.engine.waits import WaitEnd
from orchestrator.identify import new_id
from orchestrator.incoming.inbox import Inbox
from orchestrator.people.approvals import Approvals
from orchestrator.recovery import RARELY, Recovery
from orchestrator.store.connect import Pool
from orchestrator.watching.feed import Feed
from orchestrator.watching.views import RunEnd, Views
from schemas.agents import AgentSpec
from schemas.events import Event
from schemas.outcomes import Done, ErrorInfo, Failed
from schemas.runs import RunView
from schemas.usage import Bounds
from schemas.workflows import Leaf, Workflow

Act = Callable[[str, Any, Claimed], Any]


class _Everything(frozenset[str]):
    def __contains__(self, item: object) -> bool:
        return True


EVERY_AGENT = _Everything()


class Boom(Exception):
    """The agent failed; `retry_in` seconds from now it is tried again."""

    def __init__(self, message: str, retry_in: float | None = None) -> None:
        super().__init__(message)
        self.retry_in = retry_in


def named(
    name: str,
    *,
    takes: dict[str, Any] | None = None,
    gives: dict[str, Any] | None = None,
    bounds: Bounds | None = None,
) -> Part:
    """An agent that exists as data only."""
    spec = AgentSpec(name=name, input_schema=takes or {}, output_schema=gives or {}, bounds=bounds)
    return Part(Leaf(agent=name), (spec,))


def echo(agent: str, value: Any, claimed: Claimed) -> Any:
    """An agent that returns its input."""
    return value


class Bench:
    """Engines on one database, and the messages that are under way."""

    def __init__(
        self, url: str, *, seed: int = 0, engines: int = 1, size: int = 8, pool: Pool | None = None
    ) -> None:
        self.url = url
        self.pool = pool or Pool(url, size=size)
        self.engines = [Engine(self.pool, WorkerId(uuid4(), f"worker-{n}")) for n in range(engines)]
        self.rng = random.Random(seed)
        self.messages: list[Ready] = []
        self.onward: list[tuple[Engine, Claimed]] = []
        """Stages that were claimed together with the outcome before them, and by whom."""
        self.executed: Counter[tuple[UUID, str]] = Counter()
        """How many outcomes of each step were accepted."""
        self.views = Views(self.pool, self.engine.plans)
        self.people: Callable[[Any], Any] | None = None
        """What people say when nothing else is left to do: they give the value back, edit it, or raise a `Boom`."""
        self.news: Any = None
        """The payload of every event that steps wait for, told when nothing else is left to do."""

    @property
    def engine(self) -> Engine:
        return self.engines[0]

    # --- producing ----------------------------------------------------------------------------------------

    def submit(self, workflow: Workflow, value: Any = None, **fields: Any) -> UUID:
        """Start a run; its first messages are under way."""
        submission = Submission(new_id(), json.dumps(value), **fields)
        answers, ready = self.engine.submit(compile_workflow(workflow), [submission])
        self.messages += ready
        return answers[0].run_id

    # --- working ------------------------------------------------------------------------------------------

    def claim(self, run: UUID, path: str, engine: Engine | None = None) -> Claimed:
        """Claim one step, which must be possible."""
        claimed = (engine or self.engine).claim(Pointer(run, path))
        assert isinstance(claimed, Claimed), claimed
        return claimed

    def finish(self, claimed: Claimed, output: Any = None, engine: Engine | None = None) -> Recorded:
        """Record a success; what becomes ready is under way."""
        return self._record(engine or self.engine, done(claimed, output))

    def fail(self, claimed: Claimed, message: str = "boom", retry_in: float | None = None) -> Recorded:
        """Record a failure; what becomes ready is under way."""
        return self._record(self.engine, failed(claimed, message, retry_in))

    def drain(self, act: Act = echo, *, chaos: float = 0.0, rounds: int | None = None) -> None:
        """Work until no message is left, or so many rounds; with `chaos`, the chance of each kind of mishap.

        Every other attempt offers to go on with the next stage of its pipeline.
        """
        turns = itertools.count() if rounds is None else iter(range(rounds))
        while self._goes_on() and next(turns, None) is not None:
            engine = self.rng.choice(self.engines)
            batch = self._take(self.rng.randint(1, 8) if chaos else 1)
            if chaos:
                self.messages += [one for one in batch if self.rng.random() < chaos]
            finished = []
            for claimed in engine.claim._execute([Pointer(one.run.id, one.path) for one in batch]):
                if isinstance(claimed, Refused):
                    continue
                if self.rng.random() < chaos / 3:
                    self._lose(engine, claimed, act)
                else:
                    finished.append(self._going_on(outcome(claimed, act), claimed))
            finished += self._go_on(engine, act, chaos)
            self._record_all(engine, finished)
            if finished and self.rng.random() < chaos:
                again = engine.record._execute(finished)
                assert not any(one.accepted for one in again), "an outcome was accepted twice"

    def _goes_on(self) -> bool:
        """Whether anything is left to do, which may be what people and events from outside give."""
        return bool(self.messages or self.onward or self.fire() or self.decide() or self.tell())

    def fire(self) -> int:
        """One look of the timers; what they send is under way."""
        return Timers(self.engine, self).look()  # type: ignore[arg-type]

    def decide(self) -> int:
        """Have people decide what waits for them, some of it twice; how much that was."""
        if self.people is None:
            return 0
        asked = self.query("SELECT id FROM waits WHERE settled_at IS NULL AND kind = 'approval' ORDER BY id")
        people = Approvals(self.pool, self.engine, self, self.views)  # type: ignore[arg-type]
        ends = [said(self.people, wait, people.approval(wait).payload) for (wait,) in asked]
        ended = self.engine.end_waits(ends)
        again = self.rng.choice(self.engines).end_waits(ends)
        assert not again.waits, "something was decided twice"
        self.messages += ended.ready
        return len(ended.waits)

    def tell(self) -> int:
        """Have the events come that steps wait for, one of each key; how many they were."""
        if self.news is None:
            return 0
        keys = self.query("SELECT DISTINCT key FROM waits WHERE settled_at IS NULL AND kind = 'event'")
        for (key,) in keys:
            type_, _, about = key.partition(" ")
            Inbox(self.pool).emit(type_, self.news, key=about or None)
        return len(keys)

    def sweep(self, patience: float = 0.0) -> int:
        """A few sweeps of recovery; what it sends is under way."""
        recovery = Recovery(self.engine, self, patience=patience)  # type: ignore[arg-type]
        return sum(recovery.sweep() for _ in range(RARELY))

    def send(self, ready: Sequence[Ready]) -> bool:
        """Take the place of the dispatcher: the broker is a list here."""
        self.messages += ready
        return True

    def backlog(self, queue: str) -> int:
        return sum(f"agent.{one.agent}" == queue for one in self.messages)

    def broker_has_forgotten(self) -> bool:
        return False

    def still_forgets(self) -> bool:
        return True

    def broker_remembers(self) -> bool:
        return True

    # --- looking ------------------------------------------------------------------------------------------

    def end(self, run: UUID) -> RunEnd:
        """How the run ended; it must have ended."""
        end = self.views.end(run)
        if end is None:
            raise AssertionError(f"the run has not ended: {self.states(run)}")
        return end

    def view(self, run: UUID) -> RunView:
        return self.views.run(run)

    def plan(self, run: UUID) -> Plan:
        with self.pool.connection() as conn:
            return self.engine.reference(conn, run).plan

    def states(self, run: UUID) -> dict[str, str]:
        """The state of every step by path."""
        rows = self.query("SELECT path, state FROM steps WHERE run_id = %s ORDER BY path", run)
        return dict(rows)

    def events(self, run: UUID) -> list[Event]:
        return Feed(self.pool).read(run, limit=100_000)

    def kinds(self, run: UUID, path: str | None = None) -> list[str]:
        """The kinds of its events, or of those of one step."""
        return [e.kind.value for e in self.events(run) if path is None or e.path == path]

    def query(self, statement: Any, *values: Any) -> list[tuple[Any, ...]]:
        with self.pool.connection() as conn:
            cursor = conn.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        self.pool.close()

    # --- inside -------------------------------------------------------------------------------------------

    def _take(self, most: int) -> list[Ready]:
        self.rng.shuffle(self.messages)
        batch, self.messages = self.messages[:most], self.messages[most:]
        return list({(one.run.id, one.path): one for one in batch}.values())

    def _lose(self, engine: Engine, claimed: Claimed, act: Act) -> None:
        """The worker dies with its claim, another gets the step, and the dead one's outcome comes late."""
        # Not too often: a step that goes on costing workers is set aside.
        engine.release(Pointer(claimed.run.id, claimed.path), lost=claimed.attempt <= 2)
        leaf: Any = claimed.run.plan.at(claimed.path).node
        self.messages.append(Ready(claimed.run, claimed.path, leaf.agent))
        late = engine.record(outcome(claimed, act))
        assert not late.accepted, "the outcome of a lost attempt was accepted"

    def _go_on(self, engine: Engine, act: Act, chaos: float) -> list[Finished]:
        """Run the stages that this engine claimed with the outcome before them; some of them are lost."""
        mine = [claimed for owner, claimed in self.onward if owner is engine]
        self.onward = [one for one in self.onward if one[0] is not engine]
        finished = []
        for claimed in mine:
            if self.rng.random() < chaos / 3:
                self._lose(engine, claimed, act)
            else:
                finished.append(self._going_on(outcome(claimed, act), claimed))
        return finished

    def _going_on(self, finished: Finished, claimed: Claimed) -> Finished:
        if self.rng.random() < 0.5:
            return finished
        return replace(finished, onward=Onward(claimed, EVERY_AGENT))

    def _record(self, engine: Engine, finished: Finished) -> Recorded:
        return self._record_all(engine, [finished])[0]

    def _record_all(self, engine: Engine, batch: Sequence[Finished]) -> list[Recorded]:
        answers = engine.record._execute(batch) if batch else []
        for one, recorded in zip(batch, answers, strict=True):
            self.messages += recorded.ready
            if recorded.next is not None:
                self.onward.append((engine, recorded.next))
            retried = isinstance(one.outcome, Failed) and one.outcome.retry_in is not None
            if recorded.accepted and not retried:
                self.executed[one.run_id, one.path] += 1
        return list(answers)


def said(people: Callable[[Any], Any], wait: int, value: Any) -> WaitEnd:
    """What people say of a value."""
    try:
        answer = people(value)
    except Boom as boom:
        return WaitEnd(wait, "rejected", "ann", "failed", error=error_text("Rejected", str(boom)), told={})
    return WaitEnd(
        wait, "approved", "ann", "done", output=None if answer == value else json.dumps(answer), told={}
    )


def outcome(claimed: Claimed, act: Act) -> Finished:
    """Run the agent of a claimed step, if a budget lets it begin."""
    leaf: Any = claimed.run.plan.at(claimed.path).node
    if claimed.used_up:
        return failed(claimed, claimed.used_up, kind="BudgetExceeded")
    try:
        return done(claimed, act(leaf.agent, json.loads(claimed.input), claimed))
    except Boom as boom:
        return failed(claimed, str(boom), boom.retry_in, type(boom).__name__)


def done(claimed: Claimed, output: Any = None) -> Finished:
    return Finished(claimed.run.id, claimed.path, claimed.attempt, Done(), json.dumps(output))


def failed(
    claimed: Claimed, message: str = "boom", retry_in: float | None = None, kind: str = "Boom"
) -> Finished:
    error = ErrorInfo(type=kind, message=message)
    return Finished(claimed.run.id, claimed.path, claimed.attempt, Failed(error=error, retry_in=retry_in))
