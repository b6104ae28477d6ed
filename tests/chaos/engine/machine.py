"""Claims, outcomes, duplicates, late ones, losses, deadlines, pauses and cancels in any order, on the real engine and
on the model beside it. After every move both must agree on every step, and the tables must be sound.
"""

from __future__ import annotations

import json
from collections.abc import Container
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from orchestrator.definitions.vocabulary import each, fan_out, workflow
from orchestrator.engine import Claimed, Engine, Finished, Pointer, Ready, Recorded, Refused
from orchestrator.engine.values import Onward, WorkerBeat
from orchestrator.recovery import RARELY, Recovery
from schemas.errors import Conflict
from schemas.runs import RUN_ENDED
from schemas.usage import Bounds, Budget, Usage
from tests.chaos.engine.invariants import violations
from tests.chaos.engine.model import DEAR, PRICE, Model
from tests.integration.engine.bench import EVERY_AGENT, Bench, done, failed, named

A, B, C, LIST, JOIN = named("a"), named("b"), named("c"), named("list"), named("j")
D = named(DEAR, bounds=Bounds(tokens=PRICE))
HOUR = 3600.0
MONEY = ("spendings", "costs", "budget_warnings")
ROUNDS = 100
"""Moves after which a run that nobody disturbs any more has ended, or is stuck."""

_DEFINITIONS = (
    workflow("line", A >> B >> C, timeout=HOUR),
    workflow(
        "branches",
        fan_out(a=A, b=B >> C, c=A, join=JOIN, require="any", parallel=2, within=HOUR) >> B,
        timeout=HOUR,
    ),
    workflow("mapped", LIST >> each(A >> B, join=JOIN, require=1, parallel=2), timeout=HOUR),
    workflow(
        "nested",
        fan_out(
            x=fan_out(a=A, b=B, require="any", within=HOUR), y=LIST >> each(A, parallel=1), require="quorum"
        ),
    ),
    workflow(
        "dear",
        D >> fan_out(x=D >> B, y=A, join=JOIN, require="any") >> D,
        timeout=HOUR,
        budget=Budget(tokens=PRICE),
    ),
    workflow("deep", LIST >> each(each(A, join=JOIN, within=HOUR), parallel=1)),
)
SHAPES = {definition.name: definition for definition in _DEFINITIONS}
VALUES = st.lists(st.integers(0, 9), max_size=3)


class Office(Bench):
    """A bench that shows what was sent, and how workers live and die on it."""

    def __init__(self, url: str) -> None:
        super().__init__(url, engines=2)

    def clear(self) -> None:
        """Forget all runs, and let both workers live."""
        for table in ("events", "attempts", "steps", "runs", "workers", "dead_letters", *MONEY):
            self.query(f"DELETE FROM {table}")  # noqa: S608  a name of ours
        self.messages.clear()
        for engine in self.engines:
            self.beat(engine)

    def beat(self, engine: Engine) -> None:
        queues = tuple(f"agent.{name}" for name in ("a", "b", "c", DEAR, "list", "j"))
        engine.beat(WorkerBeat(engine.me, queues, 1_000, "threads", HOUR), 0)

    def sweep_by(self, engine: Engine) -> None:
        """One sweep of this worker, which looks for everything."""
        recovery = Recovery(engine, self, patience=0.0)  # type: ignore[arg-type]
        recovery._sweeps = RARELY - 1
        recovery.sweep()


@dataclass
class Claim:
    """An attempt that a worker was given, and may report whenever it likes."""

    claimed: Claimed
    worker: int

    def __repr__(self) -> str:
        return f"attempt {self.claimed.attempt} of {self.claimed.path} by {self.worker}"


@dataclass
class Run:
    """One run, twice."""

    id: UUID
    model: Model
    claims: list[Claim] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"{self.model.definition.name}: {self.model.state}"


class Moves(RuleBasedStateMachine):
    """The machine. `office` is set by whoever runs it."""

    office: ClassVar[Office]

    def __init__(self) -> None:
        super().__init__()
        self.runs: list[Run] = []
        self.seen = 0
        self.office.clear()

    # --- moves --------------------------------------------------------------------------------------------

    @initialize(shape=st.sampled_from(sorted(SHAPES)), value=VALUES)
    def submit_first(self, shape: str, value: list[int]) -> None:
        self._submit(shape, value)

    @precondition(lambda self: len(self.runs) < 2)
    @rule(shape=st.sampled_from(sorted(SHAPES)), value=VALUES)
    def submit(self, shape: str, value: list[int]) -> None:
        self._submit(shape, value)

    @precondition(lambda self: self.office.messages)
    @rule(data=st.data(), worker=st.sampled_from([0, 1]), again=st.booleans())
    def deliver(self, data: st.DataObject, worker: int, again: bool) -> None:
        """A message reaches a worker; it may come once more."""
        index = data.draw(st.integers(0, len(self.office.messages) - 1))
        message = self.office.messages[index] if again else self.office.messages.pop(index)
        self._claim(self._run(message.run.id), message.path, worker)

    @rule(data=st.data(), worker=st.sampled_from([0, 1]))
    def claim_anything(self, data: st.DataObject, worker: int) -> None:
        """A message comes at a time when it should not."""
        run = data.draw(st.sampled_from(self.runs))
        self._claim(run, data.draw(st.sampled_from([*sorted(run.model.rows), "9"])), worker)

    @precondition(lambda self: any(run.claims for run in self.runs))
    @rule(
        data=st.data(),
        how=st.sampled_from(["done", "done", "done", "failed", "retry"]),
        onward=st.booleans(),
        keep=st.booleans(),
        value=st.integers(0, 9),
    )
    def report(self, data: st.DataObject, how: str, onward: bool, keep: bool, value: int) -> None:
        """A worker reports an attempt, perhaps one that is no longer its own, and perhaps again later."""
        run = data.draw(st.sampled_from([run for run in self.runs if run.claims]))
        claim = data.draw(st.sampled_from(run.claims))
        if not keep:
            run.claims.remove(claim)
        self._report(run, [(claim, how, value)], onward=onward)

    @precondition(lambda self: any(len(run.claims) > 1 for run in self.runs))
    @rule(data=st.data(), value=st.integers(0, 9))
    def report_together(self, data: st.DataObject, value: int) -> None:
        """Several outcomes share a transaction; one may come twice in it."""
        run = data.draw(st.sampled_from([run for run in self.runs if len(run.claims) > 1]))
        claims = data.draw(st.lists(st.sampled_from(run.claims), min_size=2, max_size=4))
        worker = claims[0].worker
        hows = data.draw(
            st.lists(st.sampled_from(["done", "failed"]), min_size=len(claims), max_size=len(claims))
        )
        mine = [
            (claim, how, value) for claim, how in zip(claims, hows, strict=True) if claim.worker == worker
        ]
        self._report(run, mine)

    @rule(data=st.data(), lost=st.booleans())
    def lose_a_child(self, data: st.DataObject, lost: bool) -> None:
        """The process that ran a step is gone, its worker is not; or it gives the step back."""
        held = [
            (run, path, at)
            for run in self.runs
            for worker in (0, 1)
            for path, at in run.model.held_by(worker)
        ]
        if not held:
            return
        run, path, attempt = data.draw(st.sampled_from(held))
        worker = run.model.rows[path].holder
        assert worker is not None
        answer = self.office.engines[worker].release(Pointer(run.id, path), attempt, lost=lost)
        run.model.free(path, attempt, lost=lost)
        self._sent(answer)

    @rule(worker=st.sampled_from([0, 1]))
    def a_worker_dies(self, worker: int) -> None:
        """It stops beating; the other one finds out. Later it is back, with all that it held."""
        dead, other = self.office.engines[worker], self.office.engines[1 - worker]
        went_on = {run.id for run in self.runs if run.model.state in ("queued", "running")}
        self.office.query(
            "UPDATE workers SET lease_until = clock_timestamp() - interval '1 second' WHERE id = %s",
            dead.me.id,
        )
        self.office.sweep_by(other)
        self._free_all(worker, lost=True)
        self.office.beat(dead)
        # The same sweep may have sent a step of a run before it set another one aside.
        self._compare(went_on)

    @rule(worker=st.sampled_from([0, 1]))
    def a_worker_hands_back(self, worker: int) -> None:
        answer = self.office.engines[worker].hand_back()
        self._free_all(worker, lost=False)
        self._sent(answer)

    @rule(worker=st.sampled_from([0, 1]))
    def sweep(self, worker: int) -> None:
        """Nobody died, so nothing changes; what is ready may be sent again."""
        self.office.sweep_by(self.office.engines[worker])
        self._compare()

    @rule()
    def forget_messages(self) -> None:
        self.office.messages.clear()
        self.seen = 0

    @rule(data=st.data())
    def time_passes(self, data: st.DataObject) -> None:
        """Retries of a run are due."""
        run = data.draw(st.sampled_from(self.runs))
        self.office.query(
            "UPDATE steps SET due_at = now() WHERE run_id = %s AND state = 'ready' AND due_at > now()", run.id
        )
        run.model.pass_time()
        self.office.fire()
        self._compare()

    # --- moves of whole runs ------------------------------------------------------------------------------

    @rule(data=st.data(), verb=st.sampled_from(["pause", "resume", "resume", "cancel"]))
    def move(self, data: st.DataObject, verb: str) -> None:
        """Somebody moves a run, whatever its state."""
        run = data.draw(st.sampled_from(self.runs))
        self._move(run, verb)

    @rule(data=st.data())
    def a_run_is_late(self, data: st.DataObject) -> None:
        late = [
            run
            for run in self.runs
            if run.model.state in ("queued", "running") and run.model.definition.timeout
        ]
        if late:
            run = data.draw(st.sampled_from(late))
            self.office.query("UPDATE runs SET due_at = now() WHERE id = %s AND due_at IS NOT NULL", run.id)
            run.model.expire()
            self.office.fire()
            self._compare()

    @rule(data=st.data())
    def a_fan_out_is_late(self, data: st.DataObject) -> None:
        late = [
            (run, path)
            for run in self.runs
            if run.model.state in ("queued", "running")
            for path in run.model.waiting_fan_outs()
        ]
        if late:
            run, path = data.draw(st.sampled_from(late))
            self.office.query(
                "UPDATE steps SET due_at = now() WHERE run_id = %s AND path = %s AND due_at > now()",
                run.id,
                path,
            )
            run.model.expire_fan_out(path)
            self.office.fire()
            self._compare()

    @rule(data=st.data(), retry=st.booleans())
    def decide(self, data: st.DataObject, retry: bool) -> None:
        """Somebody settles a step that was set aside."""
        dead = [(run, path) for run in self.runs for path in run.model.dead]
        if dead:
            self._decide(*data.draw(st.sampled_from(dead)), retry=retry)

    # --- the end ------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        """Left alone, every run ends as the model says."""
        for number in range(ROUNDS):
            going = [run for run in self.runs if run.model.state not in RUN_ENDED]
            if not going:
                break
            for run in going:
                self._help(run)
            self.office.sweep_by(self.office.engines[number % 2])
            for message in self._taken():
                self._claim(self._run(message.run.id), message.path, 0)
            for run in self.runs:
                claims, run.claims = run.claims, []
                for claim in claims:
                    self._report(run, [(claim, "done", 1)])
        for run in self.runs:
            assert run.model.state in RUN_ENDED, f"stuck: {run.model.state}, {run.model.rows}"
            end = self.office.end(run.id)
            assert end.output == run.model.output
            if run.model.error is not None:
                assert end.error is not None
                assert end.error.message == run.model.error

    def _help(self, run: Run) -> None:
        """What people, and time, do for a run that waits for them."""
        for path in run.model.dead:
            self._decide(run, path, retry=True)
        if run.model.state == "paused":
            self._move(run, "resume")
        self.office.query(
            "UPDATE steps SET due_at = now() WHERE run_id = %s AND state = 'ready' AND due_at > now()", run.id
        )
        run.model.pass_time()
        self.office.fire()

    def _taken(self) -> list[Ready]:
        messages, self.office.messages, self.seen = self.office.messages, [], 0
        return messages

    # --- inside -------------------------------------------------------------------------------------------

    def _run(self, run_id: UUID) -> Run:
        return next(run for run in self.runs if run.id == run_id)

    def _submit(self, shape: str, value: list[int]) -> None:
        definition = SHAPES[shape]
        self.runs.append(Run(self.office.submit(definition, value), Model(definition, value)))
        self._compare()

    def _claim(self, run: Run, path: str, worker: int) -> None:
        answer = self.office.engines[worker].claim(Pointer(run.id, path))
        row = run.model.claim(path, worker)
        assert (row is None) == isinstance(answer, Refused), f"{path} of {run.id}: {answer}, expected {row}"
        if row is not None and isinstance(answer, Claimed):
            assert json.loads(answer.input) == row.given
            assert answer.attempt == row.attempt
            self._begun(run, answer, worker)
        self._compare()

    def _begun(self, run: Run, claimed: Claimed, worker: int) -> None:
        """It is held now; whether a budget lets it begin is said with it."""
        why = run.model.refuses(claimed.path)
        assert claimed.used_up == (why and f"the budget of run {run.id} {why}"), (
            f"{claimed}, expected {why!r}"
        )
        run.claims.append(Claim(claimed, worker))

    def _report(self, run: Run, batch: list[tuple[Claim, str, int]], *, onward: bool = False) -> None:
        worker = batch[0][0].worker
        finished = [self._finished(claim.claimed, how, value) for claim, how, value in batch]
        if onward:
            finished = [replace(one, onward=Onward(batch[0][0].claimed, EVERY_AGENT)) for one in finished]
        answers = self.office.engines[worker].record_all(finished)
        for one, answer in zip(finished, answers, strict=True):
            if heard := self._hear(run.model, one):
                self._paid(run.model, one)
            assert answer.accepted == heard, f"{one}: {answer}"
            going_on = (
                run.model.go_on(one.path, worker) if heard and onward and one.output is not None else None
            )
            self._went_on(run, worker, answer, going_on)
        self._sent([ready for answer in answers for ready in answer.ready])

    def _finished(self, claimed: Claimed, how: str, value: int) -> Finished:
        leaf: Any = claimed.run.plan.at(claimed.path).node
        if claimed.used_up:
            return failed(claimed, claimed.used_up, kind="BudgetExceeded")
        if how == "done":
            ended = done(claimed, list(range(value % 4)) if leaf.agent == "list" else value)
        else:
            ended = failed(claimed, f"{how} {value}", HOUR if how == "retry" else None)
        told = Usage(tokens=PRICE if leaf.agent == DEAR else 0)
        return replace(ended, outcome=ended.outcome.model_copy(update={"usage": told}))

    def _paid(self, model: Model, one: Finished) -> None:
        if one.outcome.usage.tokens:
            model.pay(one.path)

    def _hear(self, model: Model, one: Finished) -> bool:
        retry = getattr(one.outcome, "retry_in", None) is not None
        error = getattr(one.outcome, "error", None)
        output = json.loads(one.output) if one.output is not None else None
        return model.finish(one.path, one.attempt, output=output, why=error and error.message, retry=retry)

    def _went_on(self, run: Run, worker: int, answer: Recorded, expected: str | None) -> None:
        got = answer.next.path if answer.next is not None else None
        assert got == expected, f"the worker was to go on with {expected}, and went on with {got}"
        if answer.next is not None:
            assert json.loads(answer.next.input) == run.model.rows[answer.next.path].given
            self._begun(run, answer.next, worker)

    def _free_all(self, worker: int, *, lost: bool) -> None:
        for run in self.runs:
            for path, attempt in run.model.held_by(worker):
                run.model.free(path, attempt, lost=lost)

    def _move(self, run: Run, verb: str) -> None:
        try:
            answer = getattr(self.office.engine, verb)(run.id)
        except Conflict:
            answer = None
            moved = False
        else:
            moved = True
        assert getattr(run.model, verb)() == moved, f"{verb} of a run that is {run.model.state}: {moved}"
        self._sent(answer or [])

    def _decide(self, run: Run, path: str, *, retry: bool) -> None:
        rows = self.office.query(
            "SELECT id FROM dead_letters WHERE run_id = %s AND path = %s AND settled IS NULL", run.id, path
        )
        verb = self.office.engine.retry_step if retry else self.office.engine.drop_step
        answer = verb(rows[0][0], Pointer(run.id, path))
        run.model.decide(path, retry=retry)
        self._sent(answer)

    def _sent(self, ready: list[Ready]) -> None:
        self.office.send(ready)
        self._compare()

    def _compare(self, went_on: Container[UUID] = ()) -> None:
        """`went_on` are runs that may have been paused after something of theirs was sent."""
        for run in self.runs:
            rows = self.office.query(
                "SELECT path, state, attempt, retries, losses FROM steps WHERE run_id = %s", run.id
            )
            found = {path: tuple(counts) for path, *counts in rows}
            expected = {path: row.counts for path, row in run.model.rows.items()}
            assert found == expected, f"steps of {run.id}: {found}, expected {expected}"
            (state,) = self.office.query("SELECT state FROM runs WHERE id = %s", run.id)[0]
            assert state == run.model.state, f"run {run.id} is {state}, expected {run.model.state}"
            self._compare_money(run)
        self._compare_messages(went_on)
        with self.office.pool.connection() as conn:
            wrong = violations(conn)
        assert not wrong, "\n".join(wrong)

    def _compare_money(self, run: Run) -> None:
        (told,) = self.office.query(
            "SELECT count(*) FROM events WHERE run_id = %s AND kind = 'run.budget_exhausted'", run.id
        )[0]
        assert told == run.model.exhausted, (
            f"run {run.id} was told {told} times that nothing is left, expected {run.model.exhausted}"
        )

    def _compare_messages(self, went_on: Container[UUID]) -> None:
        """Whatever is sent may be claimed at that moment."""
        for message in self.office.messages[self.seen :]:
            model = self._run(message.run.id).model
            row = model.rows.get(message.path)
            assert row is not None, f"{message.path} was sent, but is not there"
            assert (row.state, row.waits) == ("ready", False), f"{message.path} was sent, but is {row}"
            goes_on = model.state in ("queued", "running")
            was_paused = model.state == "paused" and message.run.id in went_on
            assert goes_on or was_paused, f"{message.path} was sent, but the run is {model.state}"
        self.seen = len(self.office.messages)
