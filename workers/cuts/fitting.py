"""Cuts what an agent is given of its step until it fits, before the agent is called."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from pydantic import ValidationError

from schemas.errors import Permanent
from schemas.events import EventKind
from workers.context import Context
from workers.cuts.declared import ContextBudget, Drop, Policy, Summarise, Summariser
from workers.cuts.told import Told, shortened, tokens_of
from workers.slices import SHARED, Slice

Cut = dict[str, Any]
"""What an event tells of one cut: a `message`, `field`, `how`, and the tokens `before` and `after`."""


class Fitted(NamedTuple):
    """What is left, and what was cut."""

    told: Told
    cuts: list[Cut]


async def given(agent: Summariser, ctx: Context, value: Any, state: Mapping[str, Any] | None = None) -> Any:
    """The input of an agent as it may be given to it; the original request and the `state` are cut in its context.

    Events tell what was cut, once however often the step is tried. Raises `Permanent` if it does not fit after all that
    may be cut, or is no input of this agent any more.
    """
    ctx.shown_state = state or {}
    if agent.context is None:
        return value
    data = agent.input.dump_python(value, mode="json")
    is_repeated = holds(data, ctx.intent)
    asked = Told(data, None if is_repeated or not agent.takes_context else ctx.intent, state)
    told, cuts = await fitted(agent.context, agent.name, ctx, asked, typed=True)
    if not cuts:
        return value
    await _tell(ctx, cuts)
    try:
        # In JSON, as it came: a date is a text there.
        left = agent.input.validate_json(json.dumps(told.input), by_alias=True, by_name=True)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, fault["loc"]))
        raise Permanent(
            f"what was cut is no input of {agent.name} any more: {where} {fault['msg']}"
        ) from None
    ctx.intent = agent.input.dump_python(left, mode="json") if is_repeated else told.intent
    ctx.shown_state = told.state or {}
    return left


async def _tell(ctx: Context, cuts: list[Cut]) -> None:
    async def act() -> list[Cut]:
        return cuts

    def told(found: Any) -> None:
        if found.owed:
            for cut in found.value:
                ctx.note(EventKind.STEP_CUT, cut)

    await ctx.kept(ctx.place(), "cut", act, told)


async def shown(ctx: Context, slice: Slice) -> dict[str, Any] | None:
    """What there is of the state that an agent has declared, as each of its attempts is told; None if it has not.

    Names in `ctx.shared(...)` are those of the run's key.
    """
    if not slice.declared:
        return None

    async def read() -> dict[str, Any]:
        found: dict[str, Any] = await ctx.state.all()
        if ctx.key is not None and any(one.startswith(SHARED) for one in slice.declared or ()):
            found |= {SHARED + name: value for name, value in (await ctx.shared().all()).items()}
        return found

    kept: dict[str, Any] = await ctx.kept(ctx.place(), "state", read, lambda found: found.value)
    return kept


def holds(given: Any, intent: Any) -> bool:
    """Whether an input says all that the original request does, and perhaps what that leaves to defaults."""
    match given, intent:
        case dict(), dict():
            return all(name in given and holds(given[name], one) for name, one in intent.items())
        case list(), list():
            return len(given) == len(intent) and all(map(holds, given, intent))
    return bool(given == intent)


async def fitted(
    budget: ContextBudget | None,
    agent: str,
    ctx: Context,
    told: Told,
    *,
    typed: bool = False,
    besides: int = 0,
) -> Fitted:
    """What may be told of it; `besides` are the tokens that an agent is told in any case.

    Raises `Permanent` if it does not fit after all that may be cut.
    """
    cuts: list[Cut] = []
    if budget is None:
        return Fitted(told, cuts)
    for policy in budget.policy:
        for place in told.places(policy.field):
            if told.tokens + besides <= budget.tokens:
                return Fitted(told, cuts)
            if (value := told.at(place)) is None:
                continue
            left = await _left(policy, ctx, value, marked=not typed)
            after = 0 if left is None else tokens_of(left)
            if left != value:
                cuts.append(cut_of(".".join(place), _how(policy), tokens_of(value), after))
            told = told.put(place, left)
    if told.tokens + besides > budget.tokens:
        raise too_much(agent, told.tokens + besides, budget)
    return Fitted(told, cuts)


def _how(policy: Policy) -> str:
    match policy:
        case Drop():
            return "dropped"
        case Summarise(by=by):
            return f"summarised by {by if isinstance(by, str) else by.name}"
    return "truncated"


async def _left(policy: Policy, ctx: Context, value: Any, *, marked: bool) -> Any:
    if isinstance(policy, Drop):
        return None
    if isinstance(policy, Summarise):
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        value = await _summary(_found(policy.by, ctx), ctx, text)
    return shortened(value, policy.tokens, marked=marked)


def _found(by: Summariser | str, ctx: Context) -> Summariser:
    """Raises `Permanent` for a name that nobody knows."""
    if not isinstance(by, str):
        return by
    found = ctx.agents.get(by)
    if not isinstance(found, Summariser):
        raise Permanent(f"there is no agent {by!r} in this app, which would summarise")
    return found


async def _summary(by: Summariser, ctx: Context, text: str) -> Any:
    """What another agent makes of it, in the journal of this step. It is not told of the original request."""
    with _lent(ctx, by):
        value = await given(by, ctx, text) if not by.cuts_itself else text
        if by.takes_context:
            made = by.invoke(ctx, value)
            return by.output.dump_python(await made if inspect.isawaitable(made) else made, mode="json")

        async def act() -> Any:
            made = by.invoke(ctx, value) if by.spec.is_async else asyncio.to_thread(by.invoke, ctx, value)
            return by.output.dump_python(await made, mode="json")

        return await ctx.kept(ctx.place(), f"summary {by.name}", act, lambda found: found.value)


@contextmanager
def _lent(ctx: Context, by: Summariser) -> Iterator[None]:
    """While another agent works in this attempt, it does so under its own name, and sees what it has declared."""
    keeping = ctx._keeping
    agent, intent, is_async, is_shared = ctx.agent, ctx.intent, keeping.is_async, keeping.is_shared
    sharing, shown_state = ctx._sharing, ctx.shown_state
    slice = sharing.slice if sharing is not None else Slice(agent)
    ctx.agent, ctx.intent, keeping.is_async = by.name, None, True
    if sharing is not None:
        sharing.slice = Slice(by.name, by.spec.state)
    try:
        yield
    finally:
        ctx.agent, ctx.intent, keeping.is_async, keeping.is_shared = agent, intent, is_async, is_shared
        ctx.shown_state = shown_state
        if sharing is not None:
            sharing.slice = slice


def cut_of(field: str, how: str, before: int, after: int) -> Cut:
    """What an event tells of it; `before` and `after` are tokens."""
    message = f"{field} was {how}: about {before:,} tokens, now {after:,}"
    return {"message": message, "field": field, "how": how, "before": before, "after": after}


def too_much(agent: str, tokens: int, budget: ContextBudget) -> Permanent:
    """It does not fit, whatever was cut."""
    return Permanent(
        f"{agent} would be told about {tokens:,} tokens, and its context has room for {budget.tokens:,}:"
        " give it more, or say in its policy what else may be cut"
    )
