"""Agents that are language models, as they are declared; `workers.models.conversation` runs them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from orchestrator.credentials import hold
from orchestrator.definitions.conditions import fault
from orchestrator.definitions.limits import budget_faults, limit_faults
from schemas.agents import Retry
from schemas.breakers import Breaker
from schemas.errors import DefinitionError, Fault, Permanent
from schemas.limits import Limit
from schemas.reach import Reached
from schemas.tools import TOOL_TIMEOUT
from schemas.usage import Bounds, Budget, Price
from workers.agent import Agent, json_adapter, spec_of, stand_in_of
from workers.asking import NOTHING
from workers.context import Context
from workers.cuts.declared import ContextBudget, Sight, Summarise, context_faults
from workers.guards.policy import Guard, guard_faults
from workers.memory.declared import Memory
from workers.models.brain import MAX_CALLS, STOOD_IN_FOR, Brain
from workers.models.named import Model
from workers.models.reach import KeyOf, PriceOf
from workers.models.shapes import misshapen, unknown_fields
from workers.slices import SESSION, state_faults
from workers.tools.declared import Allowed, Declared, allowed_of, entry_of


def llm_agent(
    name: str,
    *,
    model: str | Model | None = None,
    input: Any,
    output: Any,
    instructions: str,
    tools: Sequence[Declared] = (),
    base_url: str | None = None,
    key: str | None = None,
    price: Price | None = None,
    models: Sequence[str | Model] = (),
    confidence: str | None = None,
    threshold: float = 0.7,
    fallbacks: Sequence[str | Model] = (),
    max_calls: int = MAX_CALLS,
    corrections: int = 2,
    call_timeout: float = 120.0,
    tool_timeout: float = TOOL_TIMEOUT,
    stream: bool = False,
    settings: Mapping[str, Any] | None = None,
    context: ContextBudget | None = None,
    state: Sequence[str] | None = None,
    memory: Memory | Literal["session"] | None = None,
    description: str = "",
    timeout: float = 300.0,
    retry: Retry | None = None,
    concurrency: int | None = None,
    limits: Sequence[Limit] = (),
    model_limits: Sequence[Limit] = (),
    breaker: Breaker | None = None,
    fallback: Any = NOTHING,
    model_breaker: Breaker | None = None,
    bounds: Bounds | None = None,
    guard: Guard | None = None,
    budget: Budget | None = None,
) -> Agent:
    """Make an agent of a language model, such as `openai:gpt-5-mini`: any provider that pydantic-ai knows.

    With a `base_url` it is any server that speaks OpenAI's chat completions (Ollama, vLLM, a gateway); the model is
    then `openai:NAME`, `key` names the environment variable with its credential, if it wants one, and its `price` has
    to be said. Elsewhere the price is known or has to be said too, and the credential stands in the variable that the
    provider documents. `Model(...)` says all of that in one, wherever the name of a model is taken.

    Of several `models` the first, and cheapest, is asked first. If its answer does not fit after all `corrections`, or
    `confidence`, an expression over `output` and `input`, gives less than `threshold`, the next one is, and goes on
    from what its tools have done. The last one's answer counts however sure it is. `baton runs explain` tells which
    model answered, and why not another.

    A request that fails in passing is repeated for about two seconds, one that takes longer than `call_timeout` seconds
    has failed; then the `fallbacks` are asked, one after the other, and if none of them answers, the step's own retry
    goes on at this call, not before a `Retry-After` is over. A model that has a fallback and no breaker is given one,
    `Breaker(minimum=3)`: one that is dead is not asked first again and again.

    The model is given the input, and the run's original intent if that is something else. Its answer must fit
    `output`: what does not goes back to it with the reason, `corrections` times in a row. It may call `tools`, and sees
    no others: typed functions, what `tool` made of them, toolsets. A call has `tool_timeout` seconds
    where the tool does not say; what the model gets wrong, and what tools raise as `ToolError`, it hears.
    `ask_first(tool)` lets a person see each call before it is made.
    `max_calls` of a model without an answer end the step, and the tenth is a warning. `settings` are pydantic-ai's
    model settings.
    `budget` is what all its steps together may consume in a day (UTC), unless an operator says otherwise
    (`baton budgets set agent NAME`). Before a call, each budget sets the most aside that it can cost: `max_tokens` of
    the `settings`, or 4,096, is the longest answer.

    `limits` are those of the agent's steps, `model_limits` those of the calls of its model, which all agents of the app
    that name it share, those too that declare none: a step that would have to wait for long before a call waits in
    Postgres, and goes on there. `breaker` and `fallback` are as those of `agent`, `model_breaker` leaves the model
    alone while it keeps failing: its `fallbacks` answer.

    With `stream` what the model says is an event of the run while it speaks (`step.delta`): its text, its thoughts, the
    arguments of its tools, and its structured output.

    Secrets in what the model says and tools give are masked before they are kept, and before the model sees them again;
    a `guard` says what becomes of personal data, and of secrets. What tools give is marked as data that gives no
    orders, unless they are `trusted`; where it looks as if it did, the calls that follow count as riskier.

    With `context=ContextBudget(...)` what it is told is cut until it fits, and events tell what was (`step.cut`).

    With `state=["findings", "draft.*"]` it is shown that much of `ctx.state` after its input, as it stands when the
    step begins, and no more of it; `shared:NAME` is a name in `ctx.shared()`. Undeclared state never reaches it.

    With `memory=Memory(...)` it is shown what was remembered and fits its input (see `ctx.memory`); with
    `memory="session"` what it and the run's key have said to each other before, which its answer joins.

    Each finished call of the model or of a tool stands in the step's journal, and is neither made nor paid for again.

    Raises `DefinitionError`, with all that is wrong.
    """
    what = f"agent {name!r}"
    numbers = {
        "max_calls": max_calls,
        "corrections": corrections,
        "call_timeout": call_timeout,
        "tool_timeout": tool_timeout,
        "threshold": threshold,
    }
    wrong = misshapen(
        tools=tools,
        models=models if model is None else [model],
        fallbacks=fallbacks,
        instructions=instructions,
        settings=settings,
        numbers=numbers,
    )
    if wrong:
        raise DefinitionError(what, wrong)
    asked, faults = _models(
        [model] if model is not None else list(models),
        base_url,
        key,
        price,
        tuple(model_limits),
        model_breaker,
    )
    faults += limit_faults(limits) + budget_faults(budget)
    if (model is None) == (not models):
        faults.append(Fault("model", "name one model, or several as models=[cheapest, ..., strongest]"))
    faults += _doubts(confidence, asked)
    stand_in = _named(fallbacks)
    faults += [fault for one in stand_in for fault in one.faults("fallbacks/")]
    found = [allowed_of(tool) for tool in tools]
    faults += [fault for one in found if isinstance(one, list) for fault in one]
    able = tuple(one for one in found if not isinstance(one, list))
    twice = [tool for tool, times in Counter(one.name for one in able).items() if times > 1]
    faults += [Fault("tools", f"{tool} is there twice") for tool in twice]
    if max_calls < 1 or corrections < 0 or tool_timeout <= 0 or call_timeout <= 0:
        faults.append(Fault("", "max_calls and timeouts must be positive, corrections not negative"))
    if memory not in (None, "session") and not isinstance(memory, Memory):
        faults.append(Fault("memory", 'it is Memory(...) or "session"'))
    faults += [*state_faults(state), *guard_faults(guard)]
    if state is not None and any(one.startswith(SESSION) for one in state):
        faults.append(Fault("state", 'of a session it is told by memory="session"'))
    if faults:
        raise DefinitionError(what, faults)
    if stand_in:
        asked, stand_in = _left_alone(asked), (*_left_alone(stand_in[:-1]), stand_in[-1])
    for one in (*asked, *stand_in):
        if one.key is not None:
            hold(one.key)
    takes, gives = json_adapter(what, "input", input), json_adapter(what, "output", output)
    guarded = guard or Guard()
    sight = Sight(takes.json_schema(mode="serialization", by_alias=False), state=bool(state))
    wrong = [
        *context_faults(context, sight),
        *unknown_fields(confidence or "", {"input": takes, "output": gives}),
    ]
    if wrong:
        raise DefinitionError(what, wrong)
    remembers = memory == "session" or (isinstance(memory, Memory) and memory.session)
    seen = None if state is None else (*state, *([SESSION + "*"] if remembers else []))
    brain = Brain(
        agent=name,
        models=asked,
        fallbacks=stand_in,
        instructions=instructions,
        input=takes,
        output=output,
        answers=gives,
        confidence=confidence,
        threshold=threshold,
        tools=able,
        max_calls=max_calls,
        corrections=corrections,
        tool_timeout=tool_timeout,
        call_timeout=call_timeout,
        stream=stream,
        guard=guarded,
        settings=dict(settings or {}),
        context=context,
        memory=Memory(passages=0, session=True) if memory == "session" else memory,
        budget=budget,
        state=None if state is None else tuple(state),
    )

    async def think(ctx: Context, value: Any) -> Any:
        try:
            converse = await asyncio.to_thread(_loaded)
        except ModuleNotFoundError as error:
            raise Permanent(f"{error.name} is missing: pip install 'baton-agents[llm]'") from error
        return await converse(brain, ctx, value)

    spec = spec_of(
        name,
        description=description,
        input_schema=takes.json_schema(mode="validation"),
        output_schema=gives.json_schema(mode="serialization"),
        is_async=True,
        timeout=timeout,
        retry=retry or Retry(),
        concurrency=concurrency,
        limits=tuple(limits),
        breaker=breaker,
        bounds=bounds or _bounds(max_calls * len(asked), context),
        state=seen,
    )
    may_call = tuple(map(entry_of, able))
    instead = stand_in_of(what, gives, breaker, fallback)
    return Agent(
        think,
        spec,
        True,
        takes,
        gives,
        guard=guarded,
        may_call=may_call,
        reaches=_reaches((*asked, *stand_in), able),
        stand_in=instead,
        context=context,
        cuts_itself=True,
        model_limits={one.name: tuple(one.limits) for one in (*asked, *stand_in) if one.limits},
        pays_by_call=True,
    )


def _bounds(calls: int, context: ContextBudget | None) -> Bounds:
    """The calls of its models, and of those that summarise for it, as far as they are known."""
    for cut in context.policy if context is not None else ():
        if isinstance(cut, Summarise) and not isinstance(cut.by, str) and cut.by.spec.bounds is not None:
            calls += cut.by.spec.bounds.model_calls or 0
    return Bounds(model_calls=calls)


def _reaches(models: Sequence[Model], tools: Sequence[Allowed]) -> tuple[Reached, ...]:
    keys = [KeyOf(model) for model in models if model.variables]
    prices = [PriceOf(model) for model in models if model.price is None]
    return (*keys, *prices, *(one for one in tools if isinstance(one, Reached)))


def _loaded() -> Callable[[Brain, Context, Any], Awaitable[Any]]:
    """Load the model's client, which takes a second, and only where model agents run."""
    from workers.models.tiers import converse

    return converse


def _named(models: Sequence[str | Model]) -> tuple[Model, ...]:
    return tuple(one if isinstance(one, Model) else Model(one) for one in models)


def _left_alone(models: Sequence[Model]) -> tuple[Model, ...]:
    """These, each with a breaker: another one answers while it is open."""
    return tuple(one if one.breaker is not None else replace(one, breaker=STOOD_IN_FOR) for one in models)


def _doubts(confidence: str | None, models: Sequence[Model]) -> list[Fault]:
    if confidence is None:
        return []
    if len(models) < 2:
        return [Fault("confidence", "there is no other model to ask when this one is not sure")]
    said = fault(confidence, ["input", "output"])
    return [Fault("confidence", said)] if said is not None else []


def _models(
    models: Sequence[str | Model],
    base_url: str | None,
    key: str | None,
    price: Price | None,
    limits: tuple[Limit, ...],
    breaker: Breaker | None,
) -> tuple[tuple[Model, ...], list[Fault]]:
    """The models of an agent, with what is said of the only one beside its name, and what is wrong with them."""
    made = _named(models)
    if (base_url, key, price, limits, breaker) != (None, None, None, (), None):
        if len(made) == 1 and isinstance(models[0], str):
            made = (Model(models[0], base_url, key, price, limits, breaker),)
        else:
            said = "of several models, or a Model, say it in each: Model(NAME, base_url=..., limits=[...])"
            return made, [Fault("base_url, key, price, model_limits, model_breaker", said)]
    return made, [fault for one in made for fault in one.faults()]
