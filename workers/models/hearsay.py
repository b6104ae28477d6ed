"""What a model hears of its tools: marked as data, and searched for orders, after which its calls count as riskier."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from orchestrator.engine import Note
from schemas.errors import AgentError, ToolError
from schemas.events import EventKind
from schemas.usage import Usage
from workers.agent import Agent
from workers.context import Context
from workers.guards.injection import NONE, Suspicion, judged, suspicion
from workers.guards.policy import Guard
from workers.journal import Found
from workers.keeping import Keeping
from workers.models.untrusted import mark, wrapped
from workers.tools.declared import Tool


class Hearsay:
    """What one attempt has heard. All that it says of a call follows from what stands in the journal."""

    def __init__(self, guard: Guard, ctx: Context) -> None:
        self._guard = guard
        self._ctx = ctx
        self._signals: list[str] = []
        self._heeded = 0

    async def weigh(self, tool: Tool, entry: dict[str, Any]) -> dict[str, Any]:
        """An entry of the journal, with its mark, and with what speaks for orders in it."""
        if tool.spec.trusted:
            return entry
        text = _text(entry.get("result", entry.get("error")))
        found, usage, counted = await self._judged(text)
        more: dict[str, Any] = {"mark": mark()}
        if found.score > 0:
            more["suspicion"] = found.model_dump(mode="json")
        if usage != Usage():
            more |= {"usage": usage.model_dump(), "counted": counted.model_dump()}
        return entry | more

    def told(self, tool: Tool, found: Found) -> Any:
        """What the model is told of a call that stands in the journal. Raises `ToolError` if it has failed."""
        kept = found.value
        if found.owed and "usage" in kept:
            usage, counted = (Usage.model_validate(kept.get(name, {})) for name in ("usage", "counted"))
            self._ctx.account(usage.beyond(counted), counted=False)
            self._ctx.account(counted, counted=True)
        if "suspicion" in kept:
            what = f"what {tool.name} gave looks as if it wanted to give the model orders"
            self._suspect(what, Suspicion.model_validate(kept["suspicion"]), tool.name, tells=found.owed)
        untrusted = "mark" in kept
        if "error" in kept:
            raise ToolError(wrapped(kept["error"], tool.name, kept["mark"]) if untrusted else kept["error"])
        return wrapped(kept["result"], tool.name, kept["mark"]) if untrusted else kept["result"]

    def given(self, text: str) -> None:
        """The model is given this to begin with, which may come from anywhere."""
        if self._guard.injection:
            what = "what it was given looks as if it wanted to give the model orders"
            self._suspect(what, suspicion(text), None, tells=True)

    def caution(self) -> None:
        """Let the calls that the model asks for from now on count as riskier, by a level for each signal so far.

        Called when all that it had asked for before has been answered: so it is the same in every attempt.
        """
        fresh = self._signals[self._heeded :]
        if fresh:
            self._ctx.lift_risk(len(fresh), f"Beware: {'; '.join(dict.fromkeys(self._signals))}.")
            self._heeded = len(self._signals)

    def _suspect(self, what: str, found: Suspicion, tool: str | None, *, tells: bool) -> None:
        if found.score < self._guard.threshold:
            return
        self._signals.append(what)
        if tells:
            reasons = list(found.reasons)
            message = f"{what} ({', '.join(reasons)}): the calls that follow count as riskier"
            told = {"message": message, "tool": tool, "score": found.score, "reasons": reasons}
            self._ctx._notes.append(Note(EventKind.STEP_INJECTION, told))

    async def _judged(self, text: str) -> tuple[Suspicion, Usage, Usage]:
        """The verdict, what it has consumed, and what budgets have counted of that."""
        detector = self._guard.injection
        if detector is False:
            return NONE, Usage(), Usage()
        if detector is True:
            return suspicion(text), Usage(), Usage()
        try:
            if isinstance(detector, Agent):
                return await self._by_agent(detector, text)
            verdict = await _called(detector, text)
            return judged(verdict), Usage(), Usage()
        except (TypeError, ValueError) as error:
            raise AgentError(f"the guard's detector gave no verdict: {error}") from error

    async def _by_agent(self, agent: Agent, text: str) -> tuple[Suspicion, Usage, Usage]:
        """The verdict of another agent, which works inside of this call, shares and remembers nothing."""
        ctx = replace(
            self._ctx,
            agent=agent.name,
            intent=None,
            usage=Usage(),
            _counted=Usage(),
            _notes=[],
            _keeping=Keeping(is_async=agent.spec.is_async),
            _sharing=None,
            _means=None,
            _memories=None,
        )
        verdict = await _called(agent.invoke, ctx, agent.input.validate_python(text))
        return judged(agent.output.validate_python(verdict)), ctx.usage, ctx._counted


async def _called(function: Callable[..., Any], *args: Any) -> Any:
    if inspect.iscoroutinefunction(function):
        return await function(*args)
    found = await asyncio.to_thread(function, *args)
    return await found if inspect.isawaitable(found) else found


def _text(value: Any) -> str:
    """All that stands in JSON data, each text on lines of its own."""
    match value:
        case str():
            return value
        case list():
            return "\n".join(map(_text, value))
        case dict():
            return "\n".join(f"{name}: {_text(one)}" for name, one in value.items())
    return json.dumps(value)
