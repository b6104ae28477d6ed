"""The Python form of the patterns in which agents work together: supervisors and debates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from orchestrator.definitions.vocabulary import (
    Composable,
    Part,
    agent_name,
    agents_of,
    made_node,
    named_parts,
)
from schemas.errors import DefinitionError, Fault
from schemas.workflows import MAX_DEPTH, Debate, Require, Supervise


def supervise(
    *workers: Composable,
    planner: Composable,
    reviewer: Composable,
    alternatives: Mapping[str, str] | None = None,
    parallel: int = 3,
    max_assignments: int = 10,
    max_rounds: int = 2,
    within: float | None = None,
    depth: int = MAX_DEPTH,
    **named: Composable,
) -> Part:
    """A planner that gives typed assignments to named workers, and a reviewer that accepts or asks for another round.

    The planner takes a `schemas.Brief` and returns `schemas.Assignments`, the reviewer takes a `Brief`, too, and
    returns a `schemas.Review`; what comes out is a `schemas.Supervised`. An agent's worker is called like the agent,
    anything else needs a name. `alternatives` says which worker takes over what another one failed to do. The bounds
    are described at `schemas.workflows.Supervise`; they are kept by the engine. Raises `DefinitionError`.
    """
    crew = named_parts("supervise(...)", "worker", workers, named)
    if not crew:
        raise DefinitionError("supervise(...)", [Fault("", "it has no workers")])
    made = made_node(
        Supervise,
        "supervise(...)",
        planner=agent_name(planner, "planner"),
        workers={name: part.node for name, part in crew.items()},
        reviewer=agent_name(reviewer, "reviewer"),
        alternatives=dict(alternatives or {}),
        parallel=parallel,
        max_assignments=max_assignments,
        max_rounds=max_rounds,
        within=within,
        depth=depth,
    )
    return Part(made, agents_of(planner, *crew.values(), reviewer))


def debate(
    *debaters: Composable,
    judge: Composable | None = None,
    rubric: Mapping[str, float] | None = None,
    mode: Literal["judge", "majority", "quorum", "unanimous"] | None = None,
    fields: Iterable[str] = (),
    quorum: int | None = None,
    undecided: Literal["plurality", "fail"] = "plurality",
    require: Require = "any",
    within: float | None = None,
    parallel: int | None = None,
    **named: Composable,
) -> Part:
    """Debaters that answer the same question, none of which sees another's answer, and one answer made of theirs.

    By a `judge` that takes a `schemas.Case` and returns a `schemas.Verdict`: its scores, weighted by the `rubric`,
    tell who wins. Or by `mode="majority"`, `"unanimous"` or `quorum=n`: enough debaters agree on the chosen `fields`;
    where they do not, a judge is asked if there is one. What comes out is a `schemas.Debated`. The rest is described
    at `schemas.workflows.Debate`. Raises `DefinitionError`.
    """
    parts = named_parts("debate(...)", "debater", debaters, named)
    made = made_node(
        Debate,
        "debate(...)",
        debaters={name: part.node for name, part in parts.items()},
        mode=mode or ("quorum" if quorum is not None else "judge" if judge is not None else "majority"),
        judge=agent_name(judge, "judge"),
        rubric=dict(rubric or {}),
        fields=tuple(fields),
        quorum=quorum,
        undecided=undecided,
        require=require,
        within=within,
        parallel=parallel,
    )
    return Part(made, agents_of(*parts.values(), judge))
