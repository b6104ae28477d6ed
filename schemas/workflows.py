"""Workflows as data: a named tree of patterns whose leaves are agents."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal, Union

from pydantic import Field

from schemas.agents import AgentName, AgentSpec, JsonSchema
from schemas.base import Frozen
from schemas.incoming import EventType
from schemas.usage import Budget

BranchName = Annotated[str, Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_-]{0,62}$")]
Require = int | Literal["all", "any", "quorum"]
Weight = Annotated[float, Field(gt=0, le=1e9)]
Condition = Annotated[str, Field(min_length=1, max_length=2_000)]
"""An expression in the Common Expression Language (cel.dev), over names that its place declares."""

LONGEST = 100 * 366 * 86_400.0
"""Seconds that anything may take: Postgres has no time for what lies much further ahead."""

Seconds = Annotated[float, Field(gt=0, le=LONGEST)]
Label = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]
Note = Annotated[str, Field(max_length=4_000, pattern=r"^[^\x00]*$")]

MAX_ITEMS = 10_000
MAX_ROUNDS = 15
"""Rounds of a loop that sets no bound itself."""
WARN_AT = 10
"""The round after which a loop that goes on says so."""

MAX_DEPTH = 2
"""Supervisors below each other, at most."""

MAX_NESTING = 5
"""Child runs below each other, at most."""

WINDOW = 1_000
"""Branches of one fan-out that may start at a time when it sets no `parallel` itself."""


class Leaf(Frozen):
    """One call of an agent."""

    pattern: Literal["agent"] = "agent"
    agent: AgentName


class Pipeline(Frozen):
    """Stages one after the other; each receives the output of the one before."""

    pattern: Literal["pipeline"] = "pipeline"
    stages: tuple[Node, ...] = Field(min_length=1)
    stop_when: Condition | None = None
    """Over `output`, looked at after every stage: the pipeline ends here, with what there is."""


class Stage(Frozen):
    """A part that may be left out, may fail, or has somebody who takes its place. What it leaves out, it passes on."""

    pattern: Literal["stage"] = "stage"
    body: Node
    when: Condition | None = None
    """Over `input`: if it does not hold, the input is passed on."""
    optional: bool = False
    """If it fails, its input is passed on, and the run is degraded."""
    fallback: Node | None = None
    """Takes the same input when the body has failed."""


class Joining(Frozen):
    """What fan-out and each have in common: how branches run beside each other, and how they are joined."""

    join: AgentName | None = None
    """The agent that receives all results; without it the results themselves are the output."""
    require: Require = "all"
    """Branches that must succeed: a number, 0 for none, `all`, `any` (1) or `quorum` (more than half)."""
    within: Seconds | None = None
    """Seconds after which the join goes on with the results there are."""
    parallel: int | None = Field(default=None, ge=1)
    """Branches that run at a time."""

    @property
    def window(self) -> int:
        """Branches that may start before one of them has ended."""
        return self.parallel or WINDOW

    def required(self, branches: int) -> int:
        """How many of `branches` must succeed, at most all of them."""
        match self.require:
            case "all":
                return branches
            case "any":
                return min(1, branches)
            case "quorum":
                return branches // 2 + 1 if branches else 0
            case number:
                return min(number, branches)


class FanOut(Joining):
    """Named branches that all receive the same input."""

    pattern: Literal["fan_out"] = "fan_out"
    branches: dict[BranchName, Node] = Field(min_length=1)


class Each(Joining):
    """One branch for every item of a list."""

    pattern: Literal["each"] = "each"
    body: Node
    items: str | None = None
    """The field of the input that holds the list; without it the input itself is the list."""
    max_items: int = Field(default=MAX_ITEMS, ge=1, le=1_000_000)
    """A longer list fails the step: nothing is unbounded."""


class Rule(Frozen):
    """Sends an input one way without asking anybody."""

    name: str = Field(min_length=1, max_length=100)
    go: BranchName
    when: Condition | None = None
    """Over `input`."""
    keywords: tuple[str, ...] = ()
    """Words of which one must occur in the input's texts, whatever their case."""
    field: str | None = None
    """The only field in which `keywords` are looked for."""


class Route(Frozen):
    """One of several ways: by the first rule that holds, else by an agent, else by the fallback."""

    pattern: Literal["route"] = "route"
    choices: dict[BranchName, Node] = Field(min_length=1)
    rules: tuple[Rule, ...] = ()
    by: AgentName | None = None
    """An agent that returns a `Choice`; asked only where no rule holds."""
    threshold: float = Field(default=0.0, ge=0.0, le=1.0)
    """The confidence below which the agent's choice is not followed."""
    fallback: BranchName
    """The way of whatever nobody decided, so that no request is dropped."""


class Loop(Frozen):
    """The body again and again, each round on the output of the one before."""

    pattern: Literal["loop"] = "loop"
    body: Node
    until: Condition | None = None
    """Over `output`, `input` (of the round) and `round` (from 1). Without it the loop ends when nothing changes."""
    score: Condition | None = None
    """A number, over `output`: the best round is the result when the bound is hit. Without it, the last."""
    max_rounds: int = Field(default=MAX_ROUNDS, ge=1, le=1_000)


class Approve(Frozen):
    """A person looks at what comes by before it goes on. What it is given, it passes on, edited or not."""

    pattern: Literal["approve"] = "approve"
    name: Label
    """What is to be approved, such as `publish`."""
    message: Note = ""
    """What the person has to know."""
    risk: Condition = "high"
    """`low` goes on, `medium` goes on and tells people, `high` waits for them. Or a condition over `input` that gives
    one of these, or true for high and false for low; what it cannot tell is high."""
    confidence: Condition | None = None
    """A number, over `input`: from `threshold` on nobody is asked."""
    threshold: float | None = None
    approvers: tuple[Label, ...] = ()
    """Who is asked; empty for everybody."""
    expires: Seconds | None = None
    """Seconds after which `default` is decided."""
    default: Literal["approve", "reject"] = "reject"
    escalate_to: tuple[Label, ...] = ()
    """Who is asked as well when nobody has decided after `escalate_after` seconds."""
    escalate_after: Seconds | None = None


class Child(Frozen):
    """A run of its own: its input is that of the step, its output that of the step."""

    pattern: Literal["child"] = "child"
    workflow: Workflow
    """Part of the definition around it, so a run keeps the one it started with."""
    wait: bool = True
    """Without it the step ends at once, with the id of the run as `run`, and that run lives on by itself."""


RISKS = ("low", "medium", "high")


class WaitFor(Frozen):
    """An event from outside, for which no worker waits. Its payload is what goes on."""

    pattern: Literal["wait_for"] = "wait_for"
    type: EventType
    key: Condition | None = None
    """A text, over `input`: only an event with this key is meant. Without it, one of any key."""
    when: Condition | None = None
    """Over `event` (its payload) and `input`."""
    within: Seconds | None = None
    """Seconds after which the step fails, or gives `default`."""
    default: Any = None
    has_default: bool = False
    lookback: float | None = Field(default=None, ge=0, le=LONGEST)
    """Seconds before the wait began from which on an event counts; without it, all since the run was submitted."""
    output: JsonSchema = Field(default_factory=dict)
    """The schema of the payload; an event that does not fit it is passed over."""


class Supervise(Frozen):
    """A planner that gives assignments to workers, round after round, until a reviewer accepts what they found."""

    pattern: Literal["supervise"] = "supervise"
    planner: AgentName
    """Takes a `Brief`, returns `Assignments`."""
    workers: dict[BranchName, Node] = Field(min_length=1)
    reviewer: AgentName
    """Takes a `Brief` with what was found, returns a `Review`."""
    alternatives: dict[BranchName, BranchName] = Field(default_factory=dict)
    """The worker that takes over, once, what another one failed to do."""
    parallel: int = Field(default=3, ge=1, le=5)
    """Assignments at a time."""
    max_assignments: int = Field(default=10, ge=1, le=100)
    """Assignments of one round; those beyond are refused."""
    max_rounds: int = Field(default=2, ge=1, le=10)
    within: Seconds | None = None
    """Seconds after which the reviewer of a round goes on with what there is."""
    depth: int = Field(default=MAX_DEPTH, ge=1, le=MAX_DEPTH)
    """Supervisors below each other that assignments may reach, this one included."""

    @property
    def round(self) -> Round:
        """What happens in each round."""
        return Round(supervisor=self)


class Round(Frozen):
    """One round of a supervisor: its plan, the work, the review. Nobody writes it; it follows from `Supervise`."""

    pattern: Literal["round"] = "round"
    supervisor: Supervise

    @property
    def work(self) -> Each:
        """The assignments, beside each other. None of them need succeed: the reviewer is told of the gaps."""
        of = self.supervisor
        ways: dict[str, Node] = {
            name: worker
            if name not in of.alternatives
            else Stage(body=worker, fallback=of.workers.get(of.alternatives[name]))
            for name, worker in of.workers.items()
        }
        return Each(
            body=Assigned(workers=ways),
            items="assignments",
            max_items=of.max_assignments,
            parallel=of.parallel,
            within=of.within,
            require=0,
        )


class Assigned(Frozen):
    """One assignment: its worker, on the input that the planner gave it. It follows from `Supervise`, too."""

    pattern: Literal["assigned"] = "assigned"
    workers: dict[BranchName, Node]


class Debate(Frozen):
    """Debaters that answer the same question, each for itself; and how one answer is made of theirs."""

    pattern: Literal["debate"] = "debate"
    debaters: dict[BranchName, Node] = Field(min_length=2)
    """All of them produce the same schema."""
    mode: Literal["judge", "majority", "quorum", "unanimous"] = "judge"
    """Who wins: the best by the judge's scores, or what more than half, `quorum` or all of the debaters say."""
    judge: AgentName | None = None
    """Takes a `Case`, returns a `Verdict`; in the other modes it is asked where they do not agree."""
    rubric: dict[str, Weight] = Field(default_factory=dict)
    """The judge's criteria with their weights."""
    fields: tuple[str, ...] = ()
    """Fields that are the same in answers which agree; without any, the whole answers."""
    quorum: int | None = Field(default=None, ge=1)
    undecided: Literal["plurality", "fail"] = "plurality"
    """Without agreement and a verdict: what most of them say, or failure."""
    require: Require = "any"
    """Debaters that must answer."""
    within: Seconds | None = None
    """Seconds after which it is decided among the answers there are."""
    parallel: int | None = Field(default=None, ge=1)

    @property
    def positions(self) -> FanOut:
        """The debaters, beside each other."""
        return FanOut(
            branches=self.debaters, require=self.require, within=self.within, parallel=self.parallel
        )

    @property
    def needed(self) -> int:
        """Debaters that must agree; one that gives no answer agrees with nobody."""
        match self.mode:
            case "unanimous":
                return len(self.debaters)
            case "quorum":
                return self.quorum or 1
        return len(self.debaters) // 2 + 1


Node = Annotated[
    Union[  # noqa: UP007
        Leaf,
        Pipeline,
        Stage,
        FanOut,
        Each,
        Route,
        Loop,
        Supervise,
        Round,
        Assigned,
        Debate,
        Approve,
        WaitFor,
        Child,
    ],
    Field(discriminator="pattern"),
]


class Workflow(Frozen):
    """A named, versioned definition; a run keeps the one it started with."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_.-]{0,100}$")
    version: int = Field(default=1, ge=1)
    description: str = ""
    body: Pipeline
    agents: dict[AgentName, AgentSpec]
    timeout: Seconds | None = None
    """Seconds that a run may take."""
    budget: Budget = Budget()

    @property
    def id(self) -> str:
        """A digest of the whole definition: two definitions are the same if and only if their ids are."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:32]


for _model in (
    Pipeline,
    Stage,
    FanOut,
    Each,
    Route,
    Loop,
    Supervise,
    Round,
    Assigned,
    Debate,
    Child,
    Workflow,
):
    _model.model_rebuild()
