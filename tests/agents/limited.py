"""Agents whose steps all workers together limit. Each returns when it began and when it ended."""

from __future__ import annotations

import asyncio
import time

from orchestrator import each, workflow
from schemas import Limit
from workers import agent


@agent(limits=[Limit(concurrency=2)])
async def rationed(seconds: float) -> tuple[float, float]:
    began = time.time()
    await asyncio.sleep(seconds)
    return began, time.time()


@agent(limits=[Limit(concurrency=2)])
def rationed_thread(seconds: float) -> tuple[float, float]:
    began = time.time()
    time.sleep(seconds)
    return began, time.time()


@agent(limits=[Limit(rate="20/s")])
async def rationed_rate(seconds: float) -> tuple[float, float]:
    return time.time(), time.time()


@agent
async def unrationed(seconds: float) -> float:
    return seconds


many_waiting = workflow("many-waiting", each(rationed))
many_busy = workflow("many-busy", each(rationed_thread))
many_spaced = workflow("many-spaced", each(rationed_rate))
one_after = workflow("one-after", unrationed >> rationed)
free = workflow("free", unrationed)
