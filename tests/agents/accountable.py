"""Agents that call the ledger, the outside world of the chaos tests, once in each execution."""

from __future__ import annotations

import asyncio
import time
from functools import cache
from typing import Any

from orchestrator import Client
from schemas import Assignment, Assignments, Brief, Case, Debated, Gathered, Review, Supervised, Verdict
from tests.chaos.ledger import call
from workers import AgentError, Context, Permanent, Retry, agent


@cache
def _client() -> Client:
    """One for each process."""
    return Client()


SOON = Retry(max=4, base=0.1, factor=2)
ONCE = Retry(max=0)
PATIENT = Retry(max=10, base=0.2, factor=2)


@agent
async def step(ctx: Context, number: int) -> int:
    """One more, on the event loop."""
    call(ctx, number)
    await asyncio.sleep(0.002)
    return number + 1


@agent
async def wander(ctx: Context, number: int) -> int:
    """Twice as much, after a while."""
    call(ctx, number)
    await asyncio.sleep(0.01 * (number % 20))
    return 2 * number


@agent
async def linger(ctx: Context, number: int) -> int:
    """The same number, much later."""
    call(ctx, number)
    await asyncio.sleep(1.0)
    return number


@agent
async def doubt(ctx: Context, number: int) -> int:
    """One more, as a person says, who says nothing; each attempt after the question knows what was before it."""
    call(ctx, number)
    asked_in = await ctx.once("asked in", lambda: ctx.attempt)
    more: int = await ctx.ask_human(f"How much more than {number}?", type=int, expires=0.5, default=1)
    return number + more if asked_in < ctx.attempt else -1


@agent
def ponder(ctx: Context, number: int) -> int:
    """The same number, much later, in a thread that nobody can stop."""
    call(ctx, number)
    time.sleep(1.0)
    return number


@agent
def muse(ctx: Context, seconds: int) -> int:
    """So many seconds of thinking, half of it in short bursts of computing."""
    call(ctx, seconds)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        sum(range(20_000))
        time.sleep(0.001)
    return seconds


@agent
def press(ctx: Context, number: int) -> int:
    """One more, in a thread."""
    call(ctx, number)
    time.sleep(0.002)
    return number + 1


@agent(retry=PATIENT)
def tell(ctx: Context, number: int) -> int:
    """The same number, and an event about it for whoever waits."""
    call(ctx, number)
    _client().emit("chaos.told", number, key=str(number), id=f"told {number}")
    return number


@agent
def forked(ctx: Context, number: int) -> int:
    """Three more, in a process of its own."""
    call(ctx, number)
    time.sleep(0.005)
    return number + 3


@agent(retry=SOON)
async def stumble(ctx: Context, number: int) -> int:
    """Fails the first time that it is called at all."""
    if call(ctx, number) == 1:
        raise AgentError("not the first time")
    return number


@agent(retry=SOON)
def stumble_twice(ctx: Context, number: int) -> int:
    """Fails the first two times, in a thread."""
    if call(ctx, number) <= 2:
        raise AgentError("not the first two times")
    return number


@agent(retry=ONCE)
async def refuse(ctx: Context, number: int) -> int:
    """Never succeeds."""
    call(ctx, number)
    raise Permanent("never")


@agent
def numbers(ctx: Context, number: int) -> list[int]:
    """The numbers below a number."""
    call(ctx, number)
    return list(range(number))


@agent
async def total(ctx: Context, parts: list[int]) -> int:
    """Their sum, on the event loop."""
    call(ctx, parts)
    return sum(parts)


@agent
def forked_total(ctx: Context, parts: list[int]) -> int:
    """Their sum, in a process of its own."""
    call(ctx, parts)
    return sum(parts)


@agent
def gather(ctx: Context, parts: Gathered[int]) -> dict[str, Any]:
    """What is there, and what is not."""
    call(ctx, parts)
    return {"sum": sum(parts.results), "gaps": sorted(gap.branch for gap in parts.gaps)}


@agent
async def lead(ctx: Context, brief: Brief[int]) -> Assignments:
    """First everybody, and somebody who does not exist; then more of the same number."""
    call(ctx, [brief.task, brief.round])
    names = ("step", "refuse", "nobody") if brief.round == 1 else ("slow",)
    return Assignments(assignments=[Assignment(worker=one, input=brief.task + brief.round) for one in names])


@agent
async def accept_second(ctx: Context, brief: Brief[int]) -> Review[int]:
    """Accepts the second round: the sum of what was found."""
    call(ctx, [one.output for one in brief.found])
    return Review(accept=brief.round == 2, answer=sum(one.output for one in brief.found))


@agent
def told(ctx: Context, result: Supervised[int]) -> dict[str, Any]:
    """What a supervisor came to, in short."""
    call(ctx, result.answer)
    return {"sum": result.answer, "rounds": result.rounds, "gaps": [gap.branch for gap in result.gaps]}


@agent
async def weigh(ctx: Context, case: Case[int]) -> Verdict:
    """The larger, the better."""
    call(ctx, sorted(case.positions.items()))
    return Verdict(scores={name: {"size": number / 1_000} for name, number in case.positions.items()})


@agent
def settled(ctx: Context, result: Debated[int]) -> dict[str, Any]:
    """What a debate came to, in short."""
    call(ctx, result.answer)
    return {
        "answer": result.answer,
        "against": len(result.dissent),
        "gaps": [one.branch for one in result.gaps],
    }
