"""Agents that are called for several steps at a time. Their results say how many shared a call."""

from __future__ import annotations

import asyncio
import threading

from orchestrator import each, workflow
from workers import AgentError, Batch, Context, Permanent, Retry, agent


@agent(batch=Batch(size=8, within=0.5))
async def shared(numbers: list[int]) -> list[tuple[int, int]]:
    return [(number, len(numbers)) for number in numbers]


@agent(batch=Batch(size=8, within=0.5))
def shared_thread(contexts: list[Context], numbers: list[int]) -> list[tuple[int, int]]:
    assert threading.current_thread() is not threading.main_thread()
    for ctx in contexts:
        ctx.spend(tokens=10)
    return [(number, len(numbers)) for number in numbers]


@agent(batch=Batch(size=8, within=0.5), retry=Retry(max=2, base=0.01))
async def picky(numbers: list[int]) -> list[int | AgentError]:
    """Refuses 3 for good, and 5 the whole call."""
    if 5 in numbers:
        raise AgentError(f"5 is among {len(numbers)}")
    return [Permanent("not 3") if number == 3 else number for number in numbers]


@agent(batch=Batch(size=8, within=0.5), timeout=1.0, retry=Retry(max=0))
async def endless(numbers: list[int]) -> list[int]:
    try:
        await asyncio.Event().wait()
    finally:
        print(f"batch of {len(numbers)} stopped", flush=True)
    return numbers


@agent(batch=Batch(size=8, within=0.5), retry=Retry(max=0))
async def miscounting(numbers: list[int]) -> list[int]:
    if numbers == [0]:
        raise SystemExit(1)
    return numbers[1:]


@agent(batch=Batch(size=2, within=0.1), retry=Retry(max=0))
async def curious(contexts: list[Context], numbers: list[int]) -> list[int]:
    kept: int = await contexts[0].once("first", lambda: 1)
    return [kept + int(await contexts[0].ask_human("which?"))]


batched = workflow("batched", shared)
batched_thread = workflow("batched-thread", shared_thread)
batched_each = workflow("batched-each", each(shared))
batched_picky = workflow("batched-picky", each(picky, require=1))
batched_endless = workflow("batched-endless", endless)
batched_miscounting = workflow("batched-miscounting", miscounting)
batched_curious = workflow("batched-curious", curious)
