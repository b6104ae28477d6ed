"""The calls of tools, whoever makes them: checked, allowed, kept in the journal, let through, made.

A call that is found in the journal of its step is not made again.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any, NamedTuple

import pydantic_core

from orchestrator.store.connect import Pool
from orchestrator.tool_calls.cache import ToolCache
from orchestrator.tool_calls.fences import Fences, Holder
from orchestrator.tool_calls.log import CallLog, EndedCall
from schemas.errors import AgentError, AttemptTimeout, NotFound, Permanent, ToolError, ToolTimeout
from schemas.tools import RISKS, TOOL_TIMEOUT, Risk
from workers.asking import NOTHING, Question
from workers.calls import Call, Made
from workers.context import Context
from workers.endings import PutOff, Superseded
from workers.hands import Line
from workers.loop import LoopThread
from workers.storable import storable
from workers.tools.call import ToolCall
from workers.tools.declared import Allowed, AskFirst, Named, Tool, tool_of
from workers.tools.effects import Effects, Unclear
from workers.tools.flights import Flights, Landed, key_of
from workers.tools.listening import Listener, Plain
from workers.tools.refusals import Refusal
from workers.tools.threads import ToolThreads, Work
from workers.tools.tries import Try

Beside = Callable[[Awaitable[Any]], Awaitable[Any]]
"""How a call is awaited beside others."""


class JournalPlaces(NamedTuple):
    """Where a call stands in the journal, and what may be asked before it."""

    question: int
    call: int


class Tooling:
    """What the calls of tools in one process share."""

    def __init__(
        self,
        loop: LoopThread,
        pool: Pool,
        hands: Line,
        known: Mapping[str, Tool] | None = None,
        *,
        threads: ToolThreads | None = None,
        cache: ToolCache | None = None,
    ) -> None:
        """`known` are the tools that agents may name."""
        self._loop = loop
        self._known = known or {}
        self._hands = hands
        self._log = CallLog(pool)
        self._fences = Fences(pool)
        self.threads = threads or ToolThreads()
        self.flights = Flights(cache or ToolCache(pool), hands)

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
        places = JournalPlaces(ctx.place(), ctx.place())
        work = Caller(self, ctx, TOOL_TIMEOUT, keeps_errors=False).use(found, arguments, places)
        return work if ctx.is_async else _awaited(self._loop.submit(work))

    def effects(self, ctx: Context) -> Effects:
        """What this attempt has to do once."""
        holder = Holder(ctx.run_id, ctx.path, ctx.attempt)
        return Effects(self._fences, holder, self._hands, ctx._watch.shared)

    def submit(self, call: EndedCall) -> Future[None]:
        """Write down a call that has ended."""
        return self._hands.submit(self._log.write, call)

    def caller(self, ctx: Context, timeout: float, listener: Listener) -> Caller:
        """Who makes the calls of a model agent; `timeout` is for tools that have none of their own."""
        return Caller(self, ctx, timeout, keeps_errors=True, listener=listener)


class Caller:
    """The calls of tools of one attempt."""

    def __init__(
        self,
        tooling: Tooling,
        ctx: Context,
        timeout: float,
        *,
        keeps_errors: bool,
        listener: Listener | None = None,
    ) -> None:
        """With `keeps_errors` what a tool could not do is kept, too: a model that was told once goes on from there."""
        self._tooling = tooling
        self._ctx = ctx
        self._timeout = timeout
        self._keeps_errors = keeps_errors
        self._listener = listener or Plain()

    async def tools(self, allowed: tuple[Allowed, ...]) -> list[Tool]:
        """What an agent may call, see `Tooling.tools`."""
        return await self._tooling.tools(allowed)

    def may_ask(self, tool: Tool) -> bool:
        """Whether a person sees each call of this tool first, as far as is known now."""
        return tool.gate is not None or self.risk_of(tool, {}) == "high"

    def risk_of(self, tool: Tool, arguments: Mapping[str, Any]) -> Risk:
        """How risky this call is: as its tool says, or as the attempt was told since (see `Context.raise_risk`)."""
        least = max(RISKS.index(tool.spec.risk), RISKS.index(self._ctx.risk))
        return RISKS[min(least + self._ctx.risk_lift, len(RISKS) - 1)]

    async def use(
        self, tool: Tool, arguments: Mapping[str, Any], places: JournalPlaces, beside: Beside | None = None
    ) -> Any:
        """The result, as JSON data, from the journal or from the tool. Raises `ToolError`, to be told to a model."""
        try:
            tool.check(arguments)
            given = pydantic_core.to_jsonable_python(dict(arguments))
            await self._let(tool, given, places.question)
        except ToolError as error:
            await self.refuse(tool.name, arguments, places.call, str(error))
            if self._keeps_errors:
                raise
            raise ToolError(f"tool {tool.name}: {error}") from None  # a model knows which one it has called

        async def act() -> dict[str, Any]:
            try:
                entry = {"result": await self._answer(tool, given, places.call)}
            except ToolError as error:
                if not self._keeps_errors:
                    raise
                entry = {"error": storable(str(error))}
            return await self._listener.weigh(tool, entry)

        kept = self._ctx.kept(places.call, f"tool {tool.name}", act, lambda found: found)
        return self._listener.told(tool, await (kept if beside is None else beside(kept)))

    async def refuse(self, name: str, given: Any, place: int, reason: str) -> None:
        """Write down a call that was wanted and is not made; of a model, once in the life of the step."""
        refusal = Refusal(name, given, place, reason)

        async def act() -> dict[str, Any]:
            await self._tell(refusal.ended(self._ctx))
            return {"error": refusal.reason}

        if self._keeps_errors:
            await self._ctx.kept(place, f"tool {refusal.tool}", act, lambda found: found)
        else:
            await act()

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
        # The answer is for this call and no other: an attempt that comes with other arguments does not find it.
        asked = f"ask tool {name} with arguments {_digest(given)}"
        allowed = await self._ctx.kept(place, asked, question, lambda found: question.answered(found.value))
        if not allowed:
            raise ToolError("this call is not allowed; do not repeat it")

    # --- the call -----------------------------------------------------------------------------------------

    async def _answer(self, tool: Tool, given: Mapping[str, Any], place: int) -> Any:
        """Of the first tool of the chain that can answer."""
        tried = tool.chain or (tool,)
        part_of = tool.name if tool.chain else None
        errors: list[str] = []
        for number, one in enumerate(tried):
            key = f"{self._ctx.idempotency_key}:{place}{f':{number}' if number else ''}"
            this = Try(one, given, place, key, part_of, number == len(tried) - 1)
            try:
                return await self._logged(this)
            except Superseded:
                raise
            except PutOff as error:
                if number == len(tried) - 1:
                    raise
                errors.append(f"{one.name}: over its limit, {error.limit}")
            except Exception as error:
                if len(tried) == 1:
                    raise
                errors.append(f"{one.name}: {error}")
                if not one.spec.idempotent:  # it may have its effect, which must not be had twice
                    if isinstance(error, (ToolTimeout, Unclear)):
                        break
                    if this.made and not isinstance(error, ToolError):
                        raise
                if number == len(tried) - 1 and not isinstance(error, ToolError):
                    raise
        raise ToolError("; ".join(errors))

    async def _logged(self, one: Try) -> Any:
        """Written down when it has ended."""
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            landed = await self._landed(one)
        except Superseded:
            raise
        except Exception as error:
            await self._write(one, clock() - began, error=str(error) or type(error).__name__)
            raise
        except PutOff as error:
            if not one.is_last:
                await self._write(one, clock() - began, error=f"over its limit: {error.limit}")
            raise
        except asyncio.CancelledError:
            if one.made:
                self._tooling.submit(
                    self._ended(one, clock() - began, error="it was stopped with its attempt")
                )
            raise
        await self._write(one, clock() - began, result=landed.value, cached=landed.cached)
        return landed.value

    async def _landed(self, one: Try) -> Landed:
        """The result of this call, or of an equal one."""
        if not self._ctx.remaining:
            raise AttemptTimeout("its time is over: this call is not made")
        if one.tool.spec.cache is None:
            return Landed(await self._made(one), cached=False)
        key = key_of(one.tool, one.given, self._ctx.tenant)

        async def make() -> Any:
            return self._ctx._watch.shared(await self._made(one))

        return await self._tooling.flights.result(one.tool, key, self._limit(one.tool), make)

    async def _made(self, one: Try) -> Any:
        ctx = self._ctx
        call = Call(
            "tool",
            one.tool.name,
            ctx.agent,
            ctx.workflow,
            ctx.tenant,
            ctx.run_id,
            ctx.path,
            ctx.attempt,
            one.place,
            one.key,
            one.given,
            limits=one.tool.limits,
            breaker=one.tool.spec.breaker,
        )

        async def act() -> Made:
            one.made = True
            if self.risk_of(one.tool, one.given) == "medium":
                ctx.warn(f"tool {one.tool.name}, of medium risk, is called", tool=one.tool.name)
            return Made(await self._run(one))

        return (await ctx.through(call, act, waits=one.is_last)).value

    async def _run(self, one: Try) -> Any:
        ctx, tool = self._ctx, one.tool
        effects = self._tooling.effects(ctx)
        call = ToolCall(
            tool.name,
            one.key,
            ctx.tenant,
            ctx.labels,
            ctx.agent,
            effects=effects,
            remembered=lambda: ctx.memory,
        )
        function = partial(tool.function, *([call] if tool.takes_call else []), **tool.check(one.given))
        work = self._tooling.threads.work(tool.name)

        async def act() -> Any:
            returned = await (function() if tool.is_async else work.run(function))
            try:
                return tool.give(returned)
            except ToolError as error:
                if tool.spec.idempotent:
                    raise
                raise Unclear(str(error)) from None

        timeout = self._limit(tool)
        try:
            async with asyncio.timeout(timeout) as clock:
                return await (act() if tool.spec.idempotent else effects.awaited(one.key, act))
        except TimeoutError:
            if not clock.expired():
                raise
            raise ToolTimeout(self._late(tool, work, timeout)) from None
        except SystemExit as error:
            raise AgentError(f"tool {tool.name} tried to end its process: {error!r}") from error
        finally:
            call.abandoned.set()
            if work.runs_on:
                one.runs_on = True
                self._warn_of_thread(one)

    def _late(self, tool: Tool, work: Work, timeout: float) -> str:
        if not tool.is_async and not work.begun:
            return f"tool {tool.name} was not begun in {timeout:g} s: {self._tooling.threads.told()}"
        late = f"tool {tool.name} took longer than {timeout:g} s"
        return (
            late if tool.spec.idempotent else f"{late}; it may have its effect all the same: find out first"
        )

    def _warn_of_thread(self, one: Try) -> None:
        self._ctx.warn(
            f"tool {one.tool.name} runs on, its thread cannot be stopped;"
            f" its late effect is refused under idempotency key {one.key}",
            tool=one.tool.name,
            idempotency_key=one.key,
        )

    def _limit(self, tool: Tool) -> float:
        """Seconds that a call of this tool may take."""
        return tool.spec.timeout or self._timeout

    # --- its record ---------------------------------------------------------------------------------------

    async def _write(self, one: Try, seconds: float, **outcome: Any) -> None:
        await self._tell(self._ended(one, seconds, **outcome))

    def _ended(self, one: Try, seconds: float, **outcome: Any) -> EndedCall:
        informs = one.made and self.risk_of(one.tool, one.given) == "medium"
        return one.ended(self._ctx, seconds, informs=informs, **outcome)

    async def _tell(self, call: EndedCall) -> None:
        await asyncio.shield(asyncio.wrap_future(self._tooling.submit(call)))


def _digest(given: Mapping[str, Any]) -> str:
    """What tells the arguments of one call from those of another, and does not tell them."""
    text = json.dumps(given, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _awaited(running: Future[Any]) -> Any:
    try:
        return running.result()
    except BaseException:
        running.cancel()
        raise
