"""Agents that fail in every way they can."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

from celery.exceptions import SoftTimeLimitExceeded

from orchestrator import each, fan_out, workflow
from tests.agents.arithmetic import add_up, add_what_is_there, double, increment
from workers import AgentError, Context, Permanent, Retry, agent

ONCE = Retry(max=0)
SOON = Retry(max=3, base=0.2, factor=2, jitter=False)


@agent(retry=SOON)
async def flaky(ctx: Context, number: int) -> int:
    """Succeeds in its third attempt."""
    if ctx.attempt < 3:
        raise AgentError(f"attempt {ctx.attempt} did not work")
    return ctx.attempt


@agent(retry=Retry(max=1, base=2.0, jitter=False))
async def fails_once(ctx: Context, number: int) -> int:
    """Succeeds two seconds after its first attempt."""
    if ctx.attempt == 1:
        raise AgentError("not yet")
    return number


@agent(retry=Retry(max=1, base=2.0, jitter=False))
def sync_fails_once(ctx: Context, number: int) -> int:
    """The same, in a thread."""
    if ctx.attempt == 1:
        raise AgentError("not yet")
    return number


@agent(retry=SOON)
def needs(flag: str) -> str:
    """Fails for good unless a file is there."""
    if not Path(flag).exists():
        raise Permanent("the file is not there")
    return flag


@agent
def note(place: str) -> str:
    """Leaves a line in a file, and says which file."""
    with Path(place).with_suffix(".log").open("a") as log:
        log.write("executed\n")
    return place


@agent(timeout=0.5, retry=ONCE)
async def hanging(place: str) -> None:
    """Never ends by itself; leaves a mark when it is stopped."""
    await _until_stopped(place)


@agent(retry=ONCE)
async def patient(place: str) -> None:
    """The same, with all the time in the world."""
    await _until_stopped(place)


async def _until_stopped(place: str) -> None:
    Path(place).with_suffix(".started").touch()
    try:
        await asyncio.sleep(600)
    finally:
        Path(place).with_suffix(".stopped").touch()


@agent(timeout=0.3, retry=ONCE)
def stubborn(place: str) -> str:
    """Does not hear that its time is up, and ends late."""
    time.sleep(1.5)
    Path(place).with_suffix(".late").touch()
    return "too late"


@agent(timeout=0.5, retry=ONCE)
def forked_slow(number: int) -> int:
    """Too slow."""
    time.sleep(60)
    return number


@agent(timeout=0.5, retry=ONCE)
def forked_obstinate(number: int) -> int:
    """Too slow, and does not hear the warning."""
    for _ in range(60):
        try:
            time.sleep(1)
        except SoftTimeLimitExceeded:
            continue
    return number


@agent(retry=ONCE)
def forked_sleeper(place: str) -> None:
    """Sleeps in a child process; leaves a mark when it is interrupted."""
    Path(place).with_suffix(".started").write_text(str(os.getpid()))
    try:
        time.sleep(60)
    finally:
        Path(place).with_suffix(".stopped").touch()


@agent(retry=ONCE)
def forked_deaf(place: str) -> None:
    """Sleeps in a child process and hears nothing."""
    Path(place).with_suffix(".started").write_text(str(os.getpid()))
    for _ in range(60):
        try:
            time.sleep(1)
        except SoftTimeLimitExceeded:
            continue


@agent(retry=ONCE)
async def forked_patient(place: str) -> None:
    """Waits on the event loop of a child process."""
    await _until_stopped(place)


@agent(timeout=0.5, retry=ONCE)
async def forked_hanging(place: str) -> None:
    """Waits there for too long."""
    await _until_stopped(place)


@agent
def forked_suicide(ctx: Context, number: int) -> int:
    """Takes its process with it, the first time."""
    if ctx.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return ctx.attempt


@agent
def fatal(how: str) -> None:
    """Takes its process with it, each time."""
    if how == "exit":
        os._exit(1)
    os.kill(os.getpid(), signal.SIGKILL)


@agent(rate_limit="5/s")
def limited(number: int) -> int:
    """Must not be called too often."""
    return number


@agent(retry=ONCE)
def wrong_type(number: int) -> int:
    """Returns what it did not declare."""
    return "three"  # type: ignore[return-value]


@agent(retry=ONCE)
def not_json(number: int) -> Any:
    """Returns what has no JSON form."""
    return object()


@agent(retry=ONCE)
def nul_output(number: int) -> str:
    """Returns what Postgres cannot store."""
    return "a\0b"


@agent(retry=ONCE)
def lone_surrogate(number: int) -> str:
    """Returns what is no Unicode."""
    return "\ud800"


@agent(retry=ONCE)
def nul_error(number: int) -> int:
    """Fails with a message that Postgres cannot store."""
    raise ValueError("a\0b \ud800")


@agent(retry=ONCE)
def leaves(number: int) -> int:
    """Tries to end the worker."""
    raise SystemExit(3)


@agent(retry=ONCE)
async def async_leaves(number: int) -> int:
    """Tries to end the worker, from its event loop."""
    raise SystemExit(3)


@agent(retry=ONCE)
async def cancels_itself(number: int) -> int:
    """Is cancelled, but not by us."""
    raise asyncio.CancelledError


@agent(retry=ONCE)
def bare(number: int) -> int:
    """Fails without a word."""
    raise ValueError


@agent
def slow(place: str) -> str:
    """Takes its time, and notes each beginning and end."""
    with Path(place).open("a") as log:
        log.write("begun\n")
    time.sleep(8)
    with Path(place).open("a") as log:
        log.write("ended\n")
    return "done"


@agent(timeout=120)
def gated(ctx: Context, gate: str) -> int:
    """Waits until a file is there; returns which attempt it was."""
    with Path(gate).with_suffix(".pids").open("a") as log:
        log.write(f"{os.getpid()}\n")
    while not Path(gate).exists():
        time.sleep(0.05)
    return ctx.attempt


@agent(timeout=120)
async def gated_async(ctx: Context, gate: str) -> int:
    """The same on the event loop; leaves a mark when it is stopped."""
    with Path(gate).with_suffix(".pids").open("a") as log:
        log.write(f"{os.getpid()}\n")
    try:
        while not Path(gate).exists():
            await asyncio.sleep(0.02)
    except asyncio.CancelledError:
        Path(gate).with_suffix(".stopped").touch()
        raise
    return ctx.attempt


retried = workflow("retried", flaky)
waiting = workflow("waiting", increment >> fails_once >> double)
sync_waiting = workflow("sync-waiting", increment >> sync_fails_once >> double)
waiting_branches = workflow(
    "waiting-branches", fan_out(double, fails_once, sync_fails_once, join=add_what_is_there)
)
resumed = workflow("resumed", note >> needs >> note)
timed_out = workflow("timed-out", hanging)
waits = workflow("waits", patient)
many_wait = workflow("many-wait", each(patient))
forked_sleeps = workflow("forked-sleeps", forked_sleeper)
forked_sleeps_deaf = workflow("forked-sleeps-deaf", forked_deaf)
forked_waits = workflow("forked-waits", forked_patient)
forked_times_out = workflow("forked-times-out", forked_hanging)
late = workflow("late", stubborn)
killed_softly = workflow("killed-softly", forked_slow)
killed_hard = workflow("killed-hard", forked_obstinate)
poisonous = workflow("poisonous", fatal)
suicidal = workflow("suicidal", increment >> forked_suicide)
at_most = workflow("at-most", each(limited))
tolerant = workflow("tolerant", fan_out(double, bare, join=add_what_is_there, require="any"))
long_step = workflow("long-step", slow)
gate = workflow("gate", gated >> increment)
gated_branches = workflow("gated-branches", fan_out(a=gated, b=gated, join=add_up))
async_gate = workflow("async-gate", gated_async)
faults = {
    one.name: workflow(one.name.replace("_", "-"), one)
    for one in (
        wrong_type,
        not_json,
        nul_output,
        lone_surrogate,
        nul_error,
        leaves,
        async_leaves,
        cancels_itself,
        bare,
    )
}
