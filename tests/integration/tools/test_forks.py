"""Effects of tools in a run that is forked: what was done or begun there before its step is not done again."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from orchestrator.definitions.vocabulary import fan_out, workflow
from orchestrator.engine import Claimed, Pointer
from orchestrator.identify import new_id
from schemas import RunState
from tests.integration.tools.test_calling import QUICK, end, plain
from tests.integration.worker.test_asking import Desk
from tests.integration.worker.test_thinking import desk as desk
from workers import Context, Retry, ToolCall, ToolError, tool

GONE = OSError("its worker is gone")


def forked(desk: Desk, origin: UUID, step: str) -> UUID:
    run = new_id()
    desk.messages += desk.engine.fork(origin, step, run)
    return run


def start(desk: Desk, flow: Any, *agents: Any) -> UUID:
    desk.agents |= {one.name: one for one in agents}
    run = desk.submit(flow, "x")
    desk.work()
    return run


def test_effects_of_kept_steps_are_not_had_again_and_those_of_the_step_are(desk: Desk) -> None:
    did: list[str] = []

    @tool(idempotent=False)
    async def pay(what: str) -> str:
        did.append(what)
        return what

    first = plain(lambda ctx: ctx.use(pay, what="first"), "first")
    second = plain(lambda ctx: ctx.use(pay, what="second"), "second")
    origin = start(desk, workflow("w", first >> second), first, second)
    assert did == ["first", "second"]

    run = forked(desk, origin, "1")

    assert end(desk, run) == "second"
    assert did == ["first", "second", "second"], (
        "the step is done anew, as was asked for; the one before is kept"
    )


def test_an_effect_that_a_branch_beside_it_had_begun_is_not_begun_again(desk: Desk) -> None:
    # Given a branch that fails with one effect begun, of which nobody knows how it ended, and one that was had
    did: list[str] = []

    @tool(idempotent=False)
    async def pay() -> str:
        did.append("paid")
        raise GONE

    @tool
    async def book(call: ToolCall) -> str:
        async def booked() -> str:
            did.append("booked")
            return "seat 7"

        found = await call.once("seat", booked)
        if did.count("booked") + did.count("tried") < 2:
            did.append("tried")
            raise GONE
        return str(found)

    heard: list[str] = []

    async def act(ctx: Context) -> Any:
        try:
            await ctx.use(pay)
        except ToolError as error:
            heard.append(str(error))
        return await ctx.use(book)

    buy = plain(act, "buy", retry=Retry(max=0))
    look = plain(lambda ctx: ctx.once("look", lambda: _text("seen")), "look", retry=QUICK)
    join = plain(lambda ctx: _text("joined"), "join")
    origin = start(desk, workflow("w", fan_out(buy, look, join=join)), buy, look, join)
    assert desk.end(origin).state is RunState.FAILED
    desk.work()
    assert did == ["paid"]
    desk.messages += desk.engine.resume(origin)
    desk.work()
    assert did == ["paid", "booked", "tried"]

    # When the run is forked from the branch beside it
    run = forked(desk, origin, "0/look")

    # Then the branch goes on there, and neither effect is had again
    assert end(desk, run) == "joined"
    assert did == ["paid", "booked", "tried"]
    assert len(heard) == 2
    assert "nobody knows how it ended" in heard[-1]
    keys = desk.query("SELECT key FROM tool_fences WHERE run_id = %s ORDER BY key", run)
    assert [key.startswith(f"{run}:0/buy:") for (key,) in keys] == [True, True]

    # And a fork of the step itself begins it anew
    again = forked(desk, origin, "0/buy")
    assert end(desk, again) is not None
    assert did.count("paid") == 2


def test_fences_of_a_fork_are_its_own(desk: Desk) -> None:
    did: list[int] = []

    @tool(idempotent=False)
    async def pay() -> str:
        did.append(1)
        return "paid"

    first = plain(lambda ctx: _text("ready"), "first")
    second = plain(lambda ctx: ctx.use(pay), "second")
    desk.agents |= {"first": first, "second": second}
    origin = desk.submit(workflow("w", fan_out(first, second)), "x")
    (one,) = [ready for ready in desk.messages if ready.path == "0/first"]
    claimed = desk.engine.claim(Pointer(origin, one.path))
    assert isinstance(claimed, Claimed)
    desk.attempt(claimed)
    run = forked(desk, origin, "0/first")

    assert end(desk, origin)
    assert end(desk, run)
    assert len(did) == 2


async def _text(text: str) -> str:
    return text
