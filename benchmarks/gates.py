"""What each gate adds to a call of a tool that does nothing: on an event loop of its own, before real servers."""

from __future__ import annotations

import asyncio
import itertools
import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

from benchmarks.scenarios import Sizes
from orchestrator.breakers import Circuits
from orchestrator.definitions.compile import compile_workflow
from orchestrator.definitions.vocabulary import Part, workflow
from orchestrator.engine import Claimed, Engine, Pointer, Submission, WorkerId
from orchestrator.identify import new_id
from orchestrator.store import schema
from orchestrator.store.connect import Pool
from schemas.agents import AgentSpec
from schemas.breakers import Breaker
from schemas.limits import Limit
from schemas.settings import settings
from schemas.usage import Budget
from schemas.workflows import Leaf
from workers.calls import Call, Gate, Made, through
from workers.gates import gates
from workers.gates.breakers import Breakers
from workers.hands import Hands

TOGETHER = 50
"""Calls of one process that are made at the same time."""

GATED: tuple[tuple[str, dict[str, Any]], ...] = (
    ("no limit, no breaker", {}),
    ("a rate", {"limits": (Limit(rate="900000000/s", burst=100_000),)}),
    ("a concurrency", {"limits": (Limit(concurrency=100_000),)}),
    (
        "a rate and a concurrency",
        {"limits": (Limit(rate="900000000/s", burst=100_000, concurrency=100_000),)},
    ),
    ("a circuit breaker", {"breaker": Breaker(minimum=1_000_000)}),
    ("a call of a model, counted", {"kind": "model"}),
    ("a call of a model, and a budget", {"kind": "model", "agent": "rich", "budget": Budget(usd=1e9)}),
)
"""What a call may have to pass, as fields of `Call`; nothing is ever over a limit."""


@dataclass(frozen=True)
class Cost:
    """What calls take that pass a gate."""

    title: str
    alone: float
    """Milliseconds of a call when they are made one by one: the median."""
    together: float
    """Milliseconds per call when fifty are made at a time: the median."""


def measure_gates(database_url: str, broker_url: str, sizes: Sizes) -> list[Cost]:
    """The same calls before each gate."""
    schema.upgrade(database_url)
    pool_size = settings().pool_size
    pool = Pool(database_url, size=pool_size)
    circuits = Circuits(broker_url)
    engine = Engine(pool, WorkerId(uuid4(), "benchmark"))
    run = _started(engine)
    hands = Hands(pool_size)
    breakers = Breakers(circuits, engine.notify, hands.circuits)
    passed = gates(engine, lambda ready: True, breakers, hands)
    try:
        return asyncio.run(_measured(passed, _call(run), sizes.singles * 10))
    finally:
        engine.cancel(run.run.id)
        circuits.close()
        pool.close()


async def _measured(passed: tuple[Gate, ...], call: Call, times: int) -> list[Cost]:
    places = itertools.count()

    async def made(fields: dict[str, Any]) -> None:
        await through(passed, replace(call, place=next(places), **fields), _nothing)

    async def alone(fields: dict[str, Any]) -> float:
        began = time.perf_counter()
        await made(fields)
        return 1000 * (time.perf_counter() - began)

    async def together(fields: dict[str, Any]) -> float:
        began = time.perf_counter()
        await asyncio.gather(*(made(fields) for _ in range(TOGETHER)))
        return 1000 * (time.perf_counter() - began) / TOGETHER

    for _, fields in GATED:
        await together(fields)
    return [
        Cost(
            title,
            statistics.median([await alone(fields) for _ in range(times)]),
            statistics.median([await together(fields) for _ in range(max(5, times // 10))]),
        )
        for title, fields in GATED
    ]


async def _nothing() -> Made:
    return Made(None)


def _call(claimed: Claimed) -> Call:
    about = (claimed.workflow, claimed.tenant, claimed.run.id, claimed.path, claimed.attempt)
    return Call("tool", "bell", "caller", *about, 0, "key", {"times": 1})


def _started(engine: Engine) -> Claimed:
    """An attempt that runs."""
    part = Part(Leaf(agent="caller"), (AgentSpec(name="caller", input_schema={}, output_schema={}),))
    plan = compile_workflow(workflow("gated", part))
    answers, _ = engine.submit(plan, [Submission(new_id(), json.dumps(None))])
    claimed = engine.claim(Pointer(answers[0].run_id, "0"))
    assert isinstance(claimed, Claimed)
    return claimed


def rows(costs: list[Cost]) -> Iterator[list[str]]:
    """Title, time, what is added to a call without gates, and the same for many at a time."""
    for one in costs:
        yield [
            one.title,
            f"{one.alone:.3f} ms",
            f"{one.alone - costs[0].alone:.2f} ms",
            f"{one.together:.3f} ms",
        ]
