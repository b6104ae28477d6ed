"""The calls of tools, whoever makes them: checked, allowed, kept in the journal, let through, made.

A call that is found in the journal of its step is not made again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any, NamedTuple

import pydantic_core

from schemas.errors import AgentError, AttemptTimeout, NotFound, Permanent, ToolError, ToolTimeout
from schemas.tools import RISKS, TOOL_TIMEOUT, Risk
from workers.asking import NOTHING, Question
from workers.calls import Call, Made
from workers.context import Context
from workers.endings import Superseded
from workers.loop import LoopThread
from workers.tools.call import ToolCall
from workers.tools.declared import Allowed, AskFirst, Named, Tool, tool_of
from workers.tools.threads import ToolThreads

Beside = Callable[[Awaitable[Any]], Awaitable[Any]]
"""How a call is awaited beside others."""


class Places(NamedTuple):
    """Where a call stands in the journal, and what may be asked before it."""

    question: int
    call: int


class Tooling:
    """What the calls of tools in one process share."""

    def __init__(
        self,
        loop: LoopThread,
        known: Mapping[str, Tool] | None = None,
        threads: ToolThreads | None = None,
    ) -> None:
        """`known` are the tools that agents may name."""
        self._loop = loop
        self._known = known or {}
        self.threads = threads or ToolThreads()

    async def tools(self, allowed: tuple[Allowed, ...]) -> list[Tool]:
        """What an agent may call. Raises `Permanent` for a name that nobody knows, or two of its tools bear."""
        found: list[Tool] = []
        for one in allowed:
            if isinstance(one, Named):
                found.append(self.named(one))
            elif isinstance(one, Tool):
                found.append(one)
            else:
                found += await one.tools()
        names = [one.name for one in found]
        if twice := {name for name in names if names.count(name) > 1}:
            raise Permanent(f"two tools of one agent have the same name: {', '.join(sorted(twice))}")
        return found

    def named(self, entry: Named) -> Tool:
        """Raises `Permanent` for a name that nobody knows."""
        try:
            tool = self._known[entry.name]
        except (KeyError, NotFound):
            raise Permanent(f"there is no tool {entry.name!r} in this app: baton tools ls") from None
        found = tool_of(AskFirst(tool, entry.gate.audience, entry.gate.expires)) if entry.gate else tool
        assert isinstance(found, Tool)  # noqa: S101  it was one
        return found

    def use(self, ctx: Context, tool: Any, arguments: Mapping[str, Any]) -> Any:
        """The result of a call that a plain agent makes; in an async one, what to await for it."""
        found = self.named(Named(tool)) if isinstance(tool, str) else tool_of(tool)
        if isinstance(found, list):
            raise Permanent(f"ctx.use: {'; '.join(map(str, found))}")
        places = Places(ctx.place(), ctx.place())
        work = Caller(self, ctx, TOOL_TIMEOUT, keeps_errors=False).use(found, arguments, places)
        return work if ctx.is_async else _awaited(self._loop.submit(work))

    def caller(self, ctx: Context, timeout: float) -> Caller:
        """Who makes the calls of a model agent; `timeout` is for tools that have none of their own."""
        return Caller(self, ctx, timeout, keeps_errors=True)


class Caller:
    """The calls of tools of one attempt."""

    def __init__(self, tooling: Tooling, ctx: Context, timeout: float, *, keeps_errors: bool) -> None:
        """With `keeps_errors` what a tool could not do is kept, too: a model that was told once goes on from there."""
        self._tooling = tooling
        self._ctx = ctx
        self._timeout = timeout
        self._keeps_errors = keeps_errors

    async def tools(self, allowed: tuple[Allowed, ...]) -> list[Tool]:
        """What an agent may call, see `Tooling.tools`."""
        return await self._tooling.tools(allowed)

    def may_ask(self, tool: Tool) -> bool:
        """Whether a person sees each call of this tool first, as far as is known now."""
        return tool.gate is not None or self.risk_of(tool, {}) == "high"

    def risk_of(self, tool: Tool, arguments: Mapping[str, Any]) -> Risk:
        """How risky this call is: as its tool says, or as the attempt was told since (`Context.raise_risk`)."""
        return max(tool.spec.risk, self._ctx.risk, key=RISKS.index)

    async def use(
        self, tool: Tool, arguments: Mapping[str, Any], places: Places, beside: Beside | None = None
    ) -> Any:
        """The result, as JSON data, from the journal or from the tool. Raises `ToolError`, to be told to a model."""
        tool.check(arguments)
        given = pydantic_core.to_jsonable_python(dict(arguments))
        await self._let(tool, given, places.question)

        async def act() -> dict[str, Any]:
            try:
                return {"result": await self._answer(tool, given, places.call)}
            except ToolError as error:
                if not self._keeps_errors:
                    raise
                return {"error": str(error)}

        kept = self._ctx.kept(places.call, f"tool {tool.name}", act, lambda found: found.value)
        done = await (kept if beside is None else beside(kept))
        if "error" in done:
            raise ToolError(done["error"])
        return done["result"]

    # --- before it ----------------------------------------------------------------------------------------

    async def _let(self, tool: Tool, given: Mapping[str, Any], place: int) -> None:
        """Raises `ToolError` if nobody lets it be called."""
        gate = tool.gate or (AskFirst(tool) if self.risk_of(tool, given) == "high" else None)
        if gate is not None:
            await self._ask_first(tool.name, gate, place, given)

    async def _ask_first(self, name: str, gate: AskFirst, place: int, given: Mapping[str, Any]) -> None:
        default = NOTHING if gate.expires is None else False
        why = f" {self._ctx.risk_reason}" if self._ctx.risk_reason else ""
        text = f"May {self._ctx.agent} call {name}?{why}"
        question = Question(text, bool, gate.audience, gate.expires, default, context=given)
        allowed = await self._ctx.kept(
            place, f"ask tool {name}", question, lambda found: question.answered(found.value)
        )
        if not allowed:
            raise ToolError("this call is not allowed; do not repeat it")

    # --- the call -----------------------------------------------------------------------------------------

    async def _answer(self, tool: Tool, given: Mapping[str, Any], place: int) -> Any:
        """Of the first tool of the chain that can answer."""
        tried = tool.chain or (tool,)
        errors: list[str] = []
        for number, one in enumerate(tried):
            key = f"{self._ctx.idempotency_key}:{place}{f':{number}' if number else ''}"
            try:
                return await self._made(one, given, place, key)
            except Superseded:
                raise
            except Exception as error:
                if len(tried) == 1:
                    raise
                errors.append(f"{one.name}: {error}")
                if isinstance(error, ToolTimeout) and not one.spec.idempotent:
                    break  # it may still have its effect, which must not be had twice
                if number == len(tried) - 1 and not isinstance(error, ToolError):
                    raise
        raise ToolError("; ".join(errors))

    async def _made(self, tool: Tool, given: Mapping[str, Any], place: int, key: str) -> Any:
        ctx = self._ctx
        if not ctx.remaining:
            raise AttemptTimeout("its time is over: this call is not made")
        call = Call(
            "tool",
            tool.name,
            ctx.agent,
            ctx.workflow,
            ctx.tenant,
            ctx.run_id,
            ctx.path,
            ctx.attempt,
            place,
            key,
            given,
            limits=tool.limits,
        )

        async def act() -> Made:
            return Made(await self._run(tool, given, key))

        return (await ctx.through(call, act)).value

    async def _run(self, tool: Tool, given: Mapping[str, Any], key: str) -> Any:
        ctx = self._ctx
        call = ToolCall(tool.name, key, ctx.tenant, ctx.labels, ctx.agent, remembered=lambda: ctx.memory)
        function = partial(tool.function, *([call] if tool.takes_call else []), **tool.check(given))
        timeout = tool.spec.timeout or self._timeout
        work = self._tooling.threads.work(tool.name)
        try:
            async with asyncio.timeout(timeout) as clock:
                returned = await (function() if tool.is_async else work.run(function))
        except TimeoutError:
            if not clock.expired():
                raise
            if not tool.is_async and not work.begun:
                told = self._tooling.threads.told()
                raise ToolTimeout(f"tool {tool.name} was not begun in {timeout:g} s: {told}") from None
            raise ToolTimeout(f"tool {tool.name} took longer than {timeout:g} s") from None
        except SystemExit as error:
            raise AgentError(f"tool {tool.name} tried to end its process: {error!r}") from error
        finally:
            call.abandoned.set()
            if work.runs_on:
                ctx.warn(
                    f"tool {tool.name} runs on in its thread: its late effect is refused under idempotency key {key}",
                    tool=tool.name,
                    idempotency_key=key,
                )
        return tool.give(returned)


def _awaited(running: Future[Any]) -> Any:
    try:
        return running.result()
    except BaseException:
        running.cancel()
        raise
