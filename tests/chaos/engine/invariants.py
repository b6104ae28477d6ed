"""What must be true of the tables at any moment, whatever happened before; and what must be true at the end.

`violations(conn)` reads everything and asks every law; each answers with sentences that name a run and a step. A law
looks at one run. Most of them play the run's events back, move by move, and compare what comes out with the rows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple
from uuid import UUID

from orchestrator.definitions.compile import compile_workflow
from orchestrator.definitions.plan import Plan
from orchestrator.store.connect import Conn
from schemas.runs import RUN_ENDED, STEP_ENDED
from schemas.workflows import Joining, Route, Stage, Workflow

LIVE = ("queued", "running", "paused")


class Step(NamedTuple):
    """A row of `steps`."""

    path: str
    parent: str
    ordinal: int
    kind: str
    state: str
    attempt: int
    retries: int
    losses: int
    input_ref: str | None
    output_ref: str | None
    has_output: bool
    has_deadline: bool
    """It is due at some time, or will be once its run goes on."""

    @property
    def ended(self) -> bool:
        return self.state in STEP_ENDED


class Event(NamedTuple):
    """A row of `events`, in the order of cause."""

    kind: str
    path: str
    data: dict[str, Any]


@dataclass
class RunFacts:
    """All rows of one run."""

    id: UUID
    state: str
    output_ref: str | None
    degraded: bool
    has_deadline: bool
    plan: Plan
    steps: dict[str, Step] = field(default_factory=dict)
    attempts: dict[str, dict[int, str]] = field(default_factory=lambda: defaultdict(dict))
    """State of every finished try, by path and number."""
    events: list[Event] = field(default_factory=list)
    dead: set[str] = field(default_factory=set)
    """Steps with an open dead letter."""
    waits: set[str] = field(default_factory=set)
    """Steps with an open wait."""

    @cached_property
    def children(self) -> dict[str, list[Step]]:
        found = defaultdict(list)
        for step in self.steps.values():
            found[step.parent].append(step)
        return found

    @cached_property
    def story(self) -> Story:
        return Story(self)


class Told(NamedTuple):
    """A step as the events tell of it."""

    state: str = "ready"
    attempt: int = 0
    retries: int = 0
    losses: int = 0


_STEP_MOVES = (
    "started",
    "retrying",
    "lost",
    "released",
    "dead",
    "done",
    "failed",
    "skipped",
    "waiting",
    "answered",
    "limited",
)


class Story:
    """A run's events, played back from the first to the last."""

    def __init__(self, facts: RunFacts) -> None:
        self.facts = facts
        self.run = ""
        self.steps: dict[str, Told] = defaultdict(Told)
        self.copied: set[str] = set()
        """Steps that were done in the run that this one was forked from."""
        self.faults: list[str] = []
        for event in facts.events:
            self._play(event)

    def _play(self, event: Event) -> None:
        subject, _, verb = event.kind.partition(".")
        if subject == "run":
            self._run_moves(verb)
        elif verb == "copied":
            for path, state in event.data["steps"].items():
                self.steps[path] = Told(state=state if state in STEP_ENDED else "ready")
                self.copied.add(path)
        elif verb in _STEP_MOVES:
            told = self.steps[event.path]
            self.steps[event.path] = self._step_moves(event, verb, told)

    def _run_moves(self, verb: str) -> None:
        before = {
            "submitted": ("",),
            "forked": ("queued",),
            "started": ("queued",),
            "completed": LIVE,
            "failed": LIVE,
            "cancelled": (*LIVE, "failed"),
            "paused": ("queued", "running"),
            "resumed": ("failed", "paused"),
        }
        if verb not in before:
            return
        self._expect(self.run in before[verb], f"the run was {verb} when it was {self.run or 'not there'}")
        if verb == "resumed" and self.run == "failed":
            for path, told in self.steps.items():
                if told.state in ("failed", "skipped") and not self._gap(path):
                    self.steps[path] = told._replace(state="ready", retries=0, losses=0)
        if verb == "cancelled":
            for path, told in self.steps.items():
                if told.state not in STEP_ENDED:
                    self.steps[path] = told._replace(state="cancelled")
        was_queued = not any(told.attempt for told in self.steps.values())
        after = {
            "submitted": "queued",
            "forked": "queued",
            "started": "running",
            "resumed": "queued" if was_queued else "running",
        }
        self.run = after.get(verb, verb)

    def _gap(self, path: str) -> bool:
        """Whether the outcome of this step, or of one around it, has been used, so that a resumed run leaves it."""
        while path:
            above, _, segment = path.rpartition("/")
            if self._went_on(above, segment) or (above in self.steps and self.steps[above].state == "done"):
                return True
            path = above
        return False

    def _went_on(self, above: str, segment: str) -> bool:
        """Whether a composite went on after this part of it had failed."""
        match self.facts.plan.at(above).node:
            case Joining():
                return segment != "join" and f"{above}/join" in self.steps
            case Stage():
                return segment != "else" and f"{above}/else" in self.steps
            case Route(choices=choices):
                return segment == "by" and any(f"{above}/{name}" in self.steps for name in choices)
        return False

    def _step_moves(self, event: Event, verb: str, told: Told) -> Told:
        path, attempt = event.path, event.data.get("attempt", 0)
        leaf = self.facts.steps[path].kind == "agent" if path in self.facts.steps else False
        running = told.state == "running" and told.attempt == attempt
        match verb:
            case "started":
                self._expect(
                    self.run in ("queued", "running"), f"{path} was started when the run was {self.run}"
                )
                self._expect(told.state == "ready", f"{path} was started when it was {told.state}")
                self._expect(
                    attempt == told.attempt + 1, f"attempt {attempt} of {path} followed {told.attempt}"
                )
                return told._replace(state="running", attempt=attempt)
            case "retrying":
                self._expect(running, f"attempt {attempt} of {path} was to be retried, but it was {told}")
                return told._replace(state="ready", retries=told.retries + 1)
            case "limited" if attempt:  # a call of it has to wait; without one it was not begun
                self._expect(running, f"attempt {attempt} of {path} was put off, but it was {told}")
                return told._replace(state="ready")
            case "released" if event.data.get("by") == "hand":
                self._expect(told.state == "dead", f"{path} was revived when it was {told.state}")
                return told._replace(state="ready", losses=0)
            case "failed" if event.data.get("by") == "hand":
                self._expect(told.state == "dead", f"{path} was dropped when it was {told.state}")
                return told._replace(state="failed")
            case "lost" | "released":
                self._expect(running, f"attempt {attempt} of {path} was {verb}, but it was {told}")
                return told._replace(state="ready", losses=told.losses + (verb == "lost"))
            case "dead":
                self._expect(
                    told.state == "ready" and told.attempt == attempt, f"{path} was set aside, but was {told}"
                )
                return told._replace(state="dead")
            case "waiting":
                self._expect(
                    told.state in ("ready", "running", "waiting"), f"{path} waits when it was {told.state}"
                )
                return told._replace(state="waiting")
            case "answered":
                self._expect(told.state == "waiting", f"{path} was answered when it was {told.state}")
                return told._replace(state="ready")
            case "failed" if told.state == "dead":  # dropped by hand
                return told._replace(state=verb)
            case "done" | "failed":
                self._expect(
                    not leaf or running, f"attempt {attempt} of {path} was {verb}, but it was {told}"
                )
                self._expect(
                    leaf or told.state in ("ready", "waiting"), f"{path} was {verb}, but it was {told.state}"
                )
                self._expect(self.run in LIVE, f"{path} was {verb} when the run was {self.run}")
                return told._replace(state=verb)
            case "skipped":
                self._expect(told.state not in STEP_ENDED, f"{path} was skipped when it was {told.state}")
                return told._replace(state=verb)
        return told

    def _expect(self, held: bool, sentence: str) -> None:
        if not held:
            self.faults.append(sentence)


# --- laws -------------------------------------------------------------------------------------------------


def the_story_is_possible(run: RunFacts) -> Iterator[str]:
    yield from run.story.faults
    if run.story.run != run.state:
        yield f"the events tell of a run that is {run.story.run}"


def the_story_is_what_the_steps_say(run: RunFacts) -> Iterator[str]:
    for path, told in run.story.steps.items():
        step = run.steps.get(path)
        if step is None:
            yield f"events tell of {path}, which is not there"
        # What waits for its turn has no event of its own.
        elif step.kind == "agent" and told != Told(
            "ready" if step.state == "pending" else step.state, step.attempt, step.retries, step.losses
        ):
            yield f"{path} is {step}, the events tell {told}"
    for step in run.steps.values():
        told = run.story.steps.get(step.path, Told())
        if step.state in ("done", "failed", "skipped") and told.state != step.state:
            yield f"{step.path} is {step.state}, the events tell {told.state}"


def each_step_has_one_outcome(run: RunFacts) -> Iterator[str]:
    for step in run.steps.values():
        tries = run.attempts.get(step.path, {})
        accepted = [number for number, state in tries.items() if state == "done"]
        is_own = step.state == "done" and step.path not in run.story.copied
        if step.kind == "agent" and accepted != ([step.attempt] if is_own else []):
            yield f"{step.path} is {step.state} at attempt {step.attempt}, its done attempts are {accepted}"
        if max(tries, default=0) > step.attempt:
            yield f"{step.path} has {step.attempt} attempts, but attempt {max(tries)} has ended"
        if sum(state == "lost" for state in tries.values()) < step.losses:
            yield f"{step.path} has {step.losses} losses, its attempts are {tries}"
    yield from (f"attempts of {path}, which is not there" for path in run.attempts if path not in run.steps)


def what_has_ended_holds_nothing_open(run: RunFacts) -> Iterator[str]:
    for step in run.steps.values():
        if step.ended:
            continue
        if run.state in RUN_ENDED:
            yield f"{step.path} is {step.state}, but the run is {run.state}"
        above = run.steps.get(step.parent)
        if step.parent and (above is None or above.state != "open"):
            yield f"{step.path} is {step.state}, but {step.parent} is {above.state if above else 'not there'}"


def stages_go_one_after_the_other(run: RunFacts) -> Iterator[str]:
    for step in run.steps.values():
        above = run.steps.get(step.parent)
        if step.parent and (above is None or above.kind != "pipeline"):
            continue
        for index in range(int(step.path.rpartition("/")[2])):
            before = run.steps.get(f"{step.parent}/{index}" if step.parent else str(index))
            if before is None or before.state != "done":
                yield f"{step.path} is there, but stage {index} is {before.state if before else 'not there'}"


def joins_open_when_the_last_branch_has_ended(run: RunFacts) -> Iterator[str]:
    for step in run.steps.values():
        above = run.steps.get(step.parent)
        if above is None or above.kind not in ("fan_out", "each") or step.ordinal >= 0:
            continue
        branches = [one for one in run.children[step.parent] if one.ordinal >= 0]
        if open_ones := [one.path for one in branches if not one.ended]:
            yield f"{step.path} is there, but {', '.join(open_ones)} have not ended"
        done = sum(one.state == "done" for one in branches)
        if done < _joining(run, step.parent).required(len(branches)):
            yield f"{step.path} is there with {done} of {len(branches)} branches"
        yield from _started_early(run, step, {one.path for one in branches})


def _started_early(run: RunFacts, join: Step, branches: set[str]) -> Iterator[str]:
    started = False
    for event in run.events:
        started |= event.kind == "step.started" and event.path == join.path
        if started and event.path in branches:
            yield f"{join.path} had been started before {event.path} was {event.kind}"


def no_more_branches_than_allowed(run: RunFacts) -> Iterator[str]:
    for parent, steps in run.children.items():
        if not parent or run.steps[parent].kind not in ("fan_out", "each"):
            continue
        under_way = sum(one.ordinal >= 0 and one.state not in (*STEP_ENDED, "pending") for one in steps)
        limit = _joining(run, parent).parallel
        if limit is not None and under_way > limit:
            yield f"{under_way} branches of {parent} are under way, {limit} are allowed"


def an_end_says_what_the_steps_say(run: RunFacts) -> Iterator[str]:
    ends = {int(step.path): step.state for step in run.steps.values() if not step.parent}
    body = run.plan.workflow.body
    last = len(body.stages) - 1 if body.stop_when is None else max(ends, default=0)
    if run.state == "completed" and ends.get(last) != "done":
        yield f"the run is completed, its last stage is {ends.get(last, 'not there')}"
    if run.state == "failed" and not set(ends.values()) & {"failed", "skipped"}:
        yield f"the run has failed, its stages are {ends}"
    gaps = any(step.ordinal >= 0 and step.state in ("failed", "skipped") for step in run.steps.values())
    if run.state == "completed" and run.degraded != gaps:
        yield f"the run is {'' if run.degraded else 'not '}degraded, but it has {'' if gaps else 'no '}gaps"


def references_lead_somewhere(run: RunFacts) -> Iterator[str]:
    refs = [
        (step.path, ref) for step in run.steps.values() for ref in (step.input_ref, step.output_ref) if ref
    ]
    for path, ref in [*refs, *([("the run", run.output_ref)] if run.output_ref else [])]:
        kind, _, target = ref.partition(":")
        step = run.steps.get(target)
        if kind == "run":
            continue
        if (
            step is None
            or (kind == "out" and not step.has_output)
            or (kind == "all" and step.kind == "agent")
        ):
            yield f"{path} refers to {ref}, which is not there"


def dead_steps_have_a_letter(run: RunFacts) -> Iterator[str]:
    dead = {step.path for step in run.steps.values() if step.state == "dead"}
    if dead != run.dead:
        yield f"the steps {sorted(dead)} are dead, there are letters of {sorted(run.dead)}"


def steps_wait_for_something(run: RunFacts) -> Iterator[str]:
    waiting = {step.path for step in run.steps.values() if step.state == "waiting"}
    if waiting != run.waits:
        yield f"the steps {sorted(waiting)} wait, there are waits of {sorted(run.waits)}"


def deadlines_stand_until_they_are_met(run: RunFacts) -> Iterator[str]:
    if run.state in LIVE and run.has_deadline != (run.plan.workflow.timeout is not None):
        yield f"the run has {'a' if run.has_deadline else 'no'} deadline"
    for step in run.steps.values():
        node = run.plan.at(step.path).node
        if step.state != "open" or not isinstance(node, Joining):
            continue
        waits = node.within is not None and f"{step.path}/join" not in run.steps
        if step.has_deadline != waits:
            yield f"{step.path} waits with {'a' if step.has_deadline else 'no'} deadline"


LAWS: tuple[Callable[[RunFacts], Iterator[str]], ...] = (
    the_story_is_possible,
    the_story_is_what_the_steps_say,
    each_step_has_one_outcome,
    what_has_ended_holds_nothing_open,
    stages_go_one_after_the_other,
    joins_open_when_the_last_branch_has_ended,
    no_more_branches_than_allowed,
    an_end_says_what_the_steps_say,
    references_lead_somewhere,
    dead_steps_have_a_letter,
    steps_wait_for_something,
    deadlines_stand_until_they_are_met,
)


def violations(conn: Conn) -> list[str]:
    """What is wrong in the tables of this database."""
    return [
        f"{law.__name__}: {sentence} (run {run.id})"
        for run in read(conn).values()
        for law in LAWS
        for sentence in law(run)
    ]


def unfinished(conn: Conn) -> list[str]:
    """Runs that have not ended, with where they stand; at the end there must be none."""
    return [
        f"run {run.id} is {run.state}: { ({path: step.state for path, step in sorted(run.steps.items())}) }"
        for run in read(conn).values()
        if run.state not in RUN_ENDED
    ]


_RUNS = """
SELECT id, state, output_ref, degraded, due_at IS NOT NULL OR time_left IS NOT NULL, definition_id FROM runs
"""


def read(conn: Conn) -> dict[UUID, RunFacts]:
    """All runs, each with its rows, as of one moment."""
    with conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        plans = _plans(conn)
        runs = {
            id_: RunFacts(id_, state, output_ref, degraded, has_deadline, plans[definition])
            for id_, state, output_ref, degraded, has_deadline, definition in conn.execute(_RUNS).fetchall()
        }
        _add_rows(conn, runs)
    return runs


def _add_rows(conn: Conn, runs: dict[UUID, RunFacts]) -> None:
    steps = """SELECT run_id, path, parent, ordinal, kind, state, attempt, retries, losses, input_ref, output_ref,
               output IS NOT NULL, due_at IS NOT NULL OR time_left IS NOT NULL FROM steps"""
    for run, *step in conn.execute(steps).fetchall():
        runs[run].steps[step[0]] = Step(*step)
    for run, path, number, state in conn.execute(
        "SELECT run_id, path, attempt, state FROM attempts"
    ).fetchall():
        runs[run].attempts[path][number] = state
    for run, *event in conn.execute("SELECT run_id, kind, path, data FROM events ORDER BY id").fetchall():
        runs[run].events.append(Event(*event))
    letters = "SELECT run_id, path FROM dead_letters WHERE run_id IS NOT NULL AND settled IS NULL"
    for run, path in conn.execute(letters).fetchall():
        runs[run].dead.add(path)
    for run, path in conn.execute("SELECT run_id, path FROM waits WHERE settled_at IS NULL").fetchall():
        runs[run].waits.add(path)


_compiled: dict[str, Plan] = {}


def _plans(conn: Conn) -> dict[str, Plan]:
    wanted = list(_compiled)
    query = "SELECT id, body::text FROM definitions WHERE id <> ALL (%s)"
    for id_, body in conn.execute(query, (wanted,)).fetchall():
        _compiled[id_] = compile_workflow(Workflow.model_validate_json(body))
    return _compiled


def _joining(run: RunFacts, path: str) -> Joining:
    node = run.plan.at(path).node
    assert isinstance(node, Joining), f"{path} is no fan-out"
    return node
