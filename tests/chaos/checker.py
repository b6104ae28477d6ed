"""Counts what is left: was anything lost, did anything happen twice?

`check` reads Postgres and the ledger once everything should have ended, and asks every rule for what is wrong. A rule
is a function from the facts to sentences; each one that a test below `test_checker.py` breaks is reported.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, NamedTuple
from uuid import UUID

from tests.chaos.arena import Arena
from tests.chaos.ledger import Call
from tests.chaos.shapes import FAILS, Shape

StepKey = tuple[UUID, str]

ENDED = ("done", "failed", "skipped", "cancelled")
LOST = "lost"
DOUBLE = "double"
WRONG = "wrong"


@dataclass(frozen=True)
class Accepted:
    """A run whose submission was answered, and what it was."""

    id: UUID
    shape: Shape
    input: Any


@dataclass
class Strike:
    """One fault: what, when, and whom it hit."""

    kind: str
    at: float
    until: float
    """When it was over: thawed, or the server back. Seconds of the epoch, as `at`."""
    workers: tuple[str, ...] = ()
    """Node names of the workers it hit."""
    pids: frozenset[int] = frozenset()
    """Processes that were cut off and may go on with what they had begun."""
    waiting: tuple[StepKey, ...] = ()
    """Steps that lay ready at that moment."""


class Step(NamedTuple):
    """A row of `steps`."""

    parent: str
    ordinal: int
    kind: str
    state: str
    attempt: int
    finished: float | None


class Attempt(NamedTuple):
    """A row of `attempts`."""

    attempt: int
    state: str
    started: float
    finished: float
    worker: UUID


def is_forgotten(strikes: Sequence[Strike], at: float) -> bool:
    """Whether a crash of Postgres may have forgotten the claim of what began then, for it did not wait for the disk."""
    return any(at - 5 < strike.at < at + 1 for strike in strikes if strike.kind == "postgres crashes")


@dataclass
class Facts:
    """All that there is to know afterwards."""

    accepted: Sequence[Accepted]
    runs: dict[UUID, tuple[str, Any]]
    """State and output of every run."""
    steps: dict[StepKey, Step]
    attempts: dict[StepKey, list[Attempt]]
    events: Counter[tuple[UUID, str, str]]
    """How often each kind of event happened to a path of a run."""
    calls: Sequence[Call]
    effects: int
    parents: dict[UUID, StepKey] = field(default_factory=dict)
    """By child run, the step that started it."""
    workers: dict[str, UUID] = field(default_factory=dict)
    """Worker ids by node name."""
    strikes: Sequence[Strike] = ()

    @cached_property
    def calls_of(self) -> dict[StepKey, list[Call]]:
        """The ledger by step."""
        found = defaultdict(list)
        for call in self.calls:
            found[call.step].append(call)
        return found

    def outcome(self, key: StepKey) -> tuple[float, float]:
        """The attempt whose outcome ended this step, and when; infinite for one that has not ended."""
        for one in self.attempts.get(key, ()):
            if one.state == "done":
                return one.attempt, one.finished
        step = self.steps.get(key)
        if step is None or step.state != "failed" or step.finished is None:
            return math.inf, math.inf
        return step.attempt, step.finished

    @cached_property
    def crashes(self) -> list[float]:
        """When Postgres forgot its latest claims, which do not wait for the disk."""
        return [strike.at for strike in self.strikes if strike.kind == "postgres crashes"]


def gather(arena: Arena, accepted: Sequence[Accepted], strikes: Sequence[Strike] = ()) -> Facts:
    """Read everything."""
    steps = arena.query("SELECT run_id, path, parent, ordinal, kind, state, attempt, finished_at FROM steps")
    attempts = defaultdict(list)
    for run, path, *rest in arena.query(
        "SELECT run_id, path, attempt, state, started_at, finished_at, worker_id FROM attempts ORDER BY attempt"
    ):
        number, state, started, finished, worker = rest
        attempts[run, path].append(Attempt(number, state, started.timestamp(), finished.timestamp(), worker))
    events = arena.query("SELECT run_id, kind, path, count(*) FROM events GROUP BY 1, 2, 3")
    return Facts(
        accepted=accepted,
        runs=_runs(arena, accepted),
        steps={(run, path): _step(*rest) for run, path, *rest in steps},
        attempts=attempts,
        events=Counter({(run, kind, path): count for run, kind, path, count in events}),
        calls=arena.ledger.calls(),
        effects=arena.ledger.effects(),
        parents={
            run: (parent, step)
            for run, parent, step in arena.query(
                "SELECT id, parent_run, parent_step FROM runs WHERE parent_run IS NOT NULL"
            )
        },
        workers={name: id for id, name in arena.query("SELECT id, name FROM workers")},
        strikes=strikes,
    )


def _step(parent: str, ordinal: int, kind: str, state: str, attempt: int, finished: datetime | None) -> Step:
    return Step(parent, ordinal, kind, state, attempt, finished.timestamp() if finished else None)


def _runs(arena: Arena, accepted: Sequence[Accepted]) -> dict[UUID, tuple[str, Any]]:
    found: dict[UUID, tuple[str, Any]] = {
        run: (state, None) for run, state in arena.query("SELECT id, state FROM runs")
    }
    for one in accepted:
        if found.get(one.id) == ("completed", None):
            found[one.id] = ("completed", arena.reader.result(one.id))
    return found


# --- rules ------------------------------------------------------------------------------------------------


def every_run_has_ended(facts: Facts) -> Iterator[str]:
    for one in facts.accepted:
        state, _ = facts.runs.get(one.id, ("not there", None))
        if state not in ("completed", "failed"):
            yield f"run {one.id} of {one.shape.workflow.name} is {state}"


def every_output_is_right(facts: Facts) -> Iterator[str]:
    for one in facts.accepted:
        state, output = facts.runs.get(one.id, ("not there", None))
        expected = one.shape.expected(one.input)
        if state == "failed" and expected is not FAILS:
            yield f"run {one.id} of {one.shape.workflow.name} failed"
        elif state == "completed" and output != expected:
            yield f"run {one.id} of {one.shape.workflow.name} gave {output!r}, not {expected!r}"


def no_run_was_invented(facts: Facts) -> Iterator[str]:
    known = Counter(one.id for one in facts.accepted)
    started = known.keys() | facts.parents.keys()
    yield from (f"run {run} was never submitted" for run in facts.runs if run not in started)
    yield from (f"run {run} answers {count} submissions" for run, count in known.items() if count > 1)


def each_step_starts_one_run(facts: Facts) -> Iterator[str]:
    started = Counter(facts.parents.values())
    for key, step in facts.steps.items():
        count = started.pop(key, 0)
        expected = step.kind == "child" and step.state in ("done", "failed")
        if count != expected:
            yield f"step {key[1]} of run {key[0]}, a {step.kind} that is {step.state}, started {count} runs"
    yield from (f"run {run} has no step {path}, which started another run" for run, path in started)


def nothing_is_left_open(facts: Facts) -> Iterator[str]:
    for (run, path), step in facts.steps.items():
        if step.state not in ENDED and facts.runs[run][0] in ("completed", "failed"):
            yield f"step {path} of run {run}, which has ended, is {step.state}"


def each_step_has_one_outcome(facts: Facts) -> Iterator[str]:
    for key, step in facts.steps.items():
        if step.kind != "agent" or step.state not in ("done", "failed"):
            continue
        tries = facts.attempts[key]
        done = [one.attempt for one in tries if one.state == "done"]
        if done != ([step.attempt] if step.state == "done" else []):
            yield f"step {key[1]} of run {key[0]} is {step.state}, its done attempts are {done}"
        if [one.attempt for one in tries][-1:] != [step.attempt]:
            yield f"step {key[1]} of run {key[0]} ended with attempt {step.attempt}, but others followed"


def each_ending_is_told_once(facts: Facts) -> Iterator[str]:
    endings: Counter[StepKey] = Counter()
    for (run, kind, path), count in facts.events.items():
        if kind in ("step.done", "step.failed", "run.completed", "run.failed"):
            endings[run, path] += count
    yield from (
        f"{path or 'run'} of {run} ended {count} times" for (run, path), count in endings.items() if count > 1
    )


def nothing_ran_after_its_outcome(facts: Facts) -> Iterator[str]:
    cut_off = {pid for strike in facts.strikes for pid in strike.pids}
    for key, calls in facts.calls_of.items():
        accepted, at = facts.outcome(key)
        for call in calls:
            if call.attempt > accepted:
                yield f"step {key[1]} of run {key[0]} was executed again, as attempt {call.attempt}"
            elif call.at > at and call.pid not in cut_off:
                late = call.at - at
                yield f"attempt {call.attempt} of step {key[1]} of run {key[0]} called {late:.3f} s after the outcome"


def no_attempt_ran_twice(facts: Facts) -> Iterator[str]:
    for key, calls in facts.calls_of.items():
        by_attempt = defaultdict(list)
        for call in calls:
            by_attempt[call.attempt].append(call.at)
        for attempt, times in by_attempt.items():
            # A crash of Postgres may forget a claim, whose number is then given again.
            forgotten = sum(times[0] - 1 < crash <= times[-1] for crash in facts.crashes)
            if len(times) > 1 + forgotten:
                yield f"attempt {attempt} of step {key[1]} of run {key[0]} was executed {len(times)} times"


def each_attempt_is_accounted_for(facts: Facts) -> Iterator[str]:
    for key, calls in facts.calls_of.items():
        step = facts.steps.get(key)
        if step is None or step.state not in ("done", "failed"):
            continue
        known = {one.attempt for one in facts.attempts[key]}
        for call in calls:
            if call.attempt not in known:
                yield f"attempt {call.attempt} of step {key[1]} of run {key[0]} was executed, and nobody knows of it"


def every_outcome_was_executed(facts: Facts) -> Iterator[str]:
    for key, step in facts.steps.items():
        called = {call.attempt for call in facts.calls_of.get(key, ())}
        if step.kind == "agent" and step.state == "done" and step.attempt not in called:
            yield f"step {key[1]} of run {key[0]} is done, but nobody called the ledger in attempt {step.attempt}"


def each_effect_stands_once(facts: Facts) -> Iterator[str]:
    for key, calls in facts.calls_of.items():
        if key not in facts.steps:
            yield f"a key of no step was used: {key}"
        if len({call.given for call in calls}) > 1:
            yield f"step {key[1]} of run {key[0]} was given different inputs"
    if facts.effects != len(facts.calls_of):
        yield f"{facts.effects} effects stand for {len(facts.calls_of)} steps"


def nothing_ran_before_its_cause(facts: Facts) -> Iterator[str]:
    children = defaultdict(list)
    for (run, path), step in facts.steps.items():
        children[run, step.parent].append((path, step))
    for (run, path), calls in facts.calls_of.items():
        for cause, step in _causes(facts, children, run, path):
            if step.finished is None or calls[0].at < step.finished:
                yield f"step {path} of run {run} ran before {cause} had ended"


def _causes(
    facts: Facts, children: dict[StepKey, list[tuple[str, Step]]], run: UUID, path: str
) -> Iterator[tuple[str, Step]]:
    above, _, segment = path.rpartition("/")
    parent = facts.steps.get((run, above))
    if segment == "join":
        yield from ((sibling, step) for sibling, step in children[run, above] if step.ordinal >= 0)
    elif segment.isdecimal() and segment != "0" and (parent is None or parent.kind == "pipeline"):
        before = f"{above}/{int(segment) - 1}".lstrip("/")
        if (run, before) in facts.steps:
            yield before, facts.steps[run, before]


RULES: dict[Callable[[Facts], Iterator[str]], str] = {
    every_run_has_ended: LOST,
    every_output_is_right: WRONG,
    no_run_was_invented: DOUBLE,
    each_step_starts_one_run: DOUBLE,
    nothing_is_left_open: LOST,
    each_step_has_one_outcome: DOUBLE,
    each_ending_is_told_once: DOUBLE,
    nothing_ran_after_its_outcome: DOUBLE,
    no_attempt_ran_twice: DOUBLE,
    each_attempt_is_accounted_for: DOUBLE,
    every_outcome_was_executed: WRONG,
    each_effect_stands_once: DOUBLE,
    nothing_ran_before_its_cause: WRONG,
}
"""Every rule, and what its breach amounts to."""


@dataclass(frozen=True)
class Verdict:
    """What each rule found."""

    faults: dict[str, list[str]]

    def count(self, amounts_to: str) -> int:
        """How many faults amount to this: `LOST`, `DOUBLE` or `WRONG`."""
        return sum(len(self.faults[rule.__name__]) for rule, what in RULES.items() if what == amounts_to)

    @property
    def broken(self) -> set[str]:
        """The names of the rules that found something."""
        return {name for name, found in self.faults.items() if found}

    def __str__(self) -> str:
        lines = [
            f"{name}: {len(found)}, e.g. {'; '.join(found[:5])}"
            for name, found in self.faults.items()
            if found
        ]
        return "\n".join(lines) or "nothing lost, nothing twice"


def check(facts: Facts) -> Verdict:
    """Ask every rule."""
    return Verdict({rule.__name__: list(rule(facts)) for rule in RULES})
