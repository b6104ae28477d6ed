"""What runs under chaos: workflows of every shape, and what they must give.

A later pattern joins the proof by adding its `Shape` to `SHAPES`. Its leaves should call `ledger.call` once in each
execution, as those of `tests.agents.accountable` do, and its outcome must follow from its input alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator import approve, child, debate, each, fan_out, supervise, wait_for, workflow
from schemas.workflows import Workflow
from tests.agents.accountable import (
    accept_second,
    doubt,
    forked,
    forked_total,
    gather,
    lead,
    linger,
    muse,
    numbers,
    ponder,
    press,
    refuse,
    settled,
    step,
    stumble,
    stumble_twice,
    tell,
    told,
    total,
    wander,
    weigh,
)

THREADED = (
    step,
    wander,
    linger,
    doubt,
    ponder,
    muse,
    press,
    stumble,
    stumble_twice,
    refuse,
    numbers,
    total,
    gather,
    lead,
    accept_second,
    told,
    weigh,
    settled,
    tell,
)
"""Served by workers with threads and an event loop."""

FORKED = (forked, forked_total)
"""Served by prefork workers."""

FAILS = object()
"""What a run gives that fails, as it should."""


@dataclass(frozen=True)
class Shape:
    """A workflow, an input for it, and what follows from that input."""

    workflow: Workflow
    expected: Callable[[Any], Any]
    """The output that an input must give, or `FAILS`."""
    draw: Callable[[random.Random], Any] = lambda rng: rng.randrange(100)
    weight: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of `submit`."""


def _up_to(most: int) -> Callable[[random.Random], int]:
    return lambda rng: rng.randrange(most)


def _triangle(number: int) -> int:
    return number * (number - 1) // 2


line = workflow("chaos-line", step >> press >> wander >> forked >> step)
retried = workflow("chaos-retried", stumble >> stumble_twice >> step)
spread = workflow("chaos-spread", press >> fan_out(step, press, slow=wander >> forked, join=total) >> forked)
degraded = workflow("chaos-degraded", fan_out(step, refuse, press, join=gather, require=2))
doomed = workflow("chaos-doomed", step >> fan_out(step, refuse, join=total) >> step)
mapped = workflow("chaos-mapped", numbers >> each(wander, join=total))
narrow = workflow("chaos-narrow", numbers >> each(step >> press, join=total, parallel=2))
listed = workflow("chaos-listed", numbers >> each(step))
nested = workflow(
    "chaos-nested", numbers >> each(numbers >> each(step >> press, join=total), join=forked_total)
)
both = workflow(
    "chaos-both",
    fan_out(
        left=numbers >> each(step, join=total),
        right=press >> fan_out(stumble, wander, join=total),
        join=gather,
    ),
)
awaiting = workflow(
    "chaos-awaiting",
    fan_out(
        tell,
        heard=wait_for("chaos.told", key="string(input)", lookback=3600) >> step,
        unheard=wait_for("chaos.never", within=0.5, default=5) >> press,
        join=total,
    ),
)
alone = workflow("chaos-alone", step)
musing = workflow("chaos-musing", muse)
late = workflow("chaos-late", step >> linger >> ponder)
# Nobody looks, so its time decides: timers, in the middle of everything.
looked_at = workflow(
    "chaos-looked-at",
    step
    >> fan_out(
        kept=approve("kept", expires=1.0, default="approve") >> press,
        lost=approve("lost", expires=1.5, escalate_to=["boss"], escalate_after=0.5).otherwise(step),
        join=total,
    ),
)

asked = workflow("chaos-asked", step >> doubt >> press)

supervised = workflow(
    "chaos-supervised",
    supervise(
        step,
        press,
        refuse,
        slow=wander >> forked,
        planner=lead,
        reviewer=accept_second,
        alternatives={"refuse": "press"},
        parallel=2,
    )
    >> told,
)
debated = workflow(
    "chaos-debated",
    debate(step, stumble, refuse, slow=wander >> forked, judge=weigh, rubric={"size": 1.0}) >> settled,
)
family = workflow("chaos-family", numbers >> each(child(workflow("chaos-child", step >> press)), join=total))
disowned = workflow(
    "chaos-disowned",
    child(workflow("chaos-middle", step >> child(workflow("chaos-refused", press >> refuse)))).otherwise(
        press
    ),
)

SHAPES = [
    Shape(line, lambda n: 2 * (n + 2) + 4, weight=3),
    Shape(retried, lambda n: n + 1),
    Shape(spread, lambda n: 2 * (n + 2) + 2 * (n + 1) + 3 + 3, weight=2),
    Shape(degraded, lambda n: {"sum": 2 * (n + 1), "gaps": ["refuse"]}),
    Shape(doomed, lambda n: FAILS),
    Shape(mapped, lambda n: 2 * _triangle(n), _up_to(12), weight=2),
    Shape(narrow, lambda n: _triangle(n) + 2 * n, _up_to(7)),
    Shape(listed, lambda n: {"results": list(range(1, n + 1)), "gaps": []}, _up_to(10)),
    Shape(nested, lambda n: sum(_triangle(k) + 2 * k for k in range(n)), _up_to(5)),
    Shape(both, lambda n: {"sum": _triangle(n) + n + 3 * (n + 1), "gaps": []}, _up_to(8)),
    Shape(late, lambda n: n + 1),
    Shape(supervised, lambda n: {"sum": 2 * (n + 2) + 2 * (n + 2) + 3, "rounds": 2, "gaps": ["nobody"]}),
    Shape(debated, lambda n: {"answer": 2 * n + 3, "against": 2, "gaps": ["refuse"]}),
    Shape(looked_at, lambda n: 2 * (n + 2)),
    Shape(asked, lambda n: n + 3),
    Shape(family, lambda n: _triangle(n) + 2 * n, _up_to(7), weight=2),
    Shape(disowned, lambda n: n + 1),
    Shape(awaiting, lambda n: 2 * n + 1 + 6),
    Shape(line, lambda n: 2 * (n + 2) + 4, options={"delay": 1.0}),
    Shape(line, lambda n: 2 * (n + 2) + 4, options={"priority": 9}),
]

probe = workflow("chaos-probe", step >> fan_out(step, press, join=total))
PROBE = Shape(probe, lambda n: 2 * (n + 2), options={"priority": 9})
"""A small run that shows whether anything lives; it goes first."""
