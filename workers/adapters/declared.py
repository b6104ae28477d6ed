"""What the agents of all frameworks have in common: how they are declared, and how one attempt of them goes."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypedDict, Unpack

from orchestrator.definitions.limits import budget_faults, limit_faults
from schemas.agents import Retry
from schemas.breakers import Breaker
from schemas.errors import DefinitionError, Fault
from schemas.limits import Limit
from schemas.usage import Bounds, Budget, Price
from workers.adapters.meter import Meter
from workers.agent import Agent, json_adapter, spec_of, stand_in_of
from workers.asking import NOTHING
from workers.context import Context
from workers.cuts.declared import ContextBudget, Sight, context_faults
from workers.cuts.fitting import given, shown
from workers.guards.policy import Guard, guard_faults
from workers.slices import state_faults

Attempt = Callable[[Context, Any, Meter], Coroutine[Any, Any, Any]]
"""One attempt: the context, the input, and where its model calls are counted. It gives the output."""


class Options(TypedDict, total=False):
    """What an agent of any framework may be given, with the meaning that it has for `@agent`.

    `model_limits`, `model_breaker` and `budget` are as for `llm_agent`: the first two are those of each of its models,
    by all agents that name it. What it declares as `state` is shown in the message that its input makes.
    """

    description: str
    timeout: float
    retry: Retry
    rate_limit: str
    concurrency: int
    limits: Sequence[Limit]
    bounds: Bounds
    breaker: Breaker
    fallback: Any
    guard: Guard
    budget: Budget
    model_limits: Sequence[Limit]
    model_breaker: Breaker
    context: ContextBudget
    state: Sequence[str]


def declared(
    name: str,
    input: Any,
    output: Any,
    price: Price | None,
    attempt: Callable[[Agent], Attempt],
    faults: Sequence[Fault],
    **options: Unpack[Options],
) -> Agent:
    """The agent. `attempt` is told the agent itself, for its types. Raises `DefinitionError`."""
    what = f"agent {name!r}"
    model_limits = options.pop("model_limits", ())
    model_breaker, budget = options.pop("model_breaker", None), options.pop("budget", None)
    context, state = options.pop("context", None), options.get("state")
    guard, fallback = options.pop("guard", None), options.pop("fallback", NOTHING)
    takes, gives = json_adapter(what, "input", input), json_adapter(what, "output", output)
    sight = Sight(takes.json_schema(by_alias=False), typed=True, state=bool(state))
    faults = [
        *faults,
        *limit_faults(options.get("limits", ())),
        *limit_faults(model_limits, "model_limits"),
        *budget_faults(budget),
        *context_faults(context, sight),
        *state_faults(state),
        *guard_faults(guard),
    ]
    if faults:
        raise DefinitionError(what, faults)
    spec = spec_of(
        name,
        input_schema=takes.json_schema(mode="validation"),
        output_schema=gives.json_schema(mode="serialization"),
        is_async=True,
        **{key: tuple(value) if key in ("limits", "state") else value for key, value in options.items()},  # type: ignore[arg-type]
    )

    async def run(ctx: Context, value: Any) -> Any:
        value = await given(made, ctx, value, await shown(ctx, made.slice))
        async with Meter(
            name, ctx, price, limits=model_limits, breaker=model_breaker, budget=budget
        ) as meter:
            return await meter.run(act(ctx, value, meter))

    made = Agent(
        run,
        spec,
        True,
        takes,
        gives,
        guard=guard,
        stand_in=stand_in_of(what, gives, options.get("breaker"), fallback),
        context=context,
        cuts_itself=True,
        pays_by_call=True,
    )
    act = attempt(made)
    return made
