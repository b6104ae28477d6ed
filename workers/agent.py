"""The `agent` decorator: any typed function becomes an agent."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ParamSpec, TypeVar, get_type_hints, overload

from pydantic import TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

from orchestrator.definitions.conditions import fault
from orchestrator.definitions.vocabulary import Composable, Part
from schemas.agents import AgentSpec, Retry
from schemas.errors import DefinitionError, Fault
from schemas.limits import Limit
from schemas.usage import Bounds
from schemas.workflows import Leaf
from workers.context import Context

P = ParamSpec("P")
R = TypeVar("R")
AgentFunction = Callable[..., Any]


@dataclass(frozen=True, eq=False)
class Agent(Composable):
    """A function with one typed input and one typed output, and the limits it runs under.

    Calling an agent calls the plain function, so it can be tested without any server.
    """

    function: AgentFunction
    spec: AgentSpec
    takes_context: bool
    input: TypeAdapter[Any]
    output: TypeAdapter[Any]

    @property
    def name(self) -> str:
        return self.spec.name

    @cached_property
    def part(self) -> Part:
        return Part(Leaf(agent=self.spec.name), (self.spec,))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def invoke(self, ctx: Context, value: Any) -> Any | Awaitable[Any]:
        """Call the function with the arguments it declares."""
        return self.function(ctx, value) if self.takes_context else self.function(value)


@overload
def agent(function: AgentFunction, /) -> Agent: ...
@overload
def agent(
    *,
    name: str | None = ...,
    timeout: float = ...,
    retry: Retry | None = ...,
    rate_limit: str | None = ...,
    concurrency: int | None = ...,
    limits: Sequence[Limit] = ...,
    bounds: Bounds | None = ...,
) -> Callable[[AgentFunction], Agent]: ...


def agent(
    function: AgentFunction | None = None,
    /,
    *,
    name: str | None = None,
    timeout: float = 300.0,
    retry: Retry | None = None,
    rate_limit: str | None = None,
    concurrency: int | None = None,
    limits: Sequence[Limit] = (),
    bounds: Bounds | None = None,
) -> Agent | Callable[[AgentFunction], Agent]:
    """Make an agent of `f(ctx, input) -> output` or `f(input) -> output`, sync or async.

    Both types must be annotated; anything that Pydantic understands will do. `timeout` is in seconds for one
    attempt, `rate_limit` is Celery's (`"60/m"`, per worker process), `concurrency` the attempts that one worker
    process runs at a time, `limits` what all workers together keep to, `bounds` the most that one attempt consumes,
    for `baton plan`. Raises `DefinitionError` for a function that cannot be an agent.
    """

    def make(target: AgentFunction) -> Agent:
        agent_name = name or target.__name__
        takes_context, given, returned = _signature(target, agent_name)
        if faults := _faults(limits):
            raise DefinitionError(f"agent {agent_name!r}", faults)
        spec = AgentSpec(
            name=agent_name,
            description=inspect.getdoc(target) or "",
            input_schema=given.json_schema(mode="validation"),
            output_schema=returned.json_schema(mode="serialization"),
            is_async=inspect.iscoroutinefunction(target),
            timeout=timeout,
            retry=retry or Retry(),
            rate_limit=rate_limit,
            concurrency=concurrency,
            limits=tuple(limits),
            bounds=bounds,
        )
        return Agent(target, spec, takes_context, given, returned)

    return make(function) if function is not None else make


def _faults(limits: Sequence[Limit]) -> list[Fault]:
    """What is wrong with limits: keys that are no expressions, and two of which only one could be meant."""
    faults = []
    seen = set()
    for index, limit in enumerate(limits):
        said = fault(limit.key, ["input"]) if limit.key is not None else None
        if said is not None:
            faults.append(Fault(f"limits/{index}", said))
        for what in ("concurrency", "rate"):
            mark = (what, limit.per, limit.key, limit.rate if what == "rate" else None)
            if getattr(limit, what) is not None and mark in seen:
                faults.append(Fault(f"limits/{index}", f"its {what} is limited twice per {limit.per}"))
            seen.add(mark)
    return faults


def _signature(target: AgentFunction, name: str) -> tuple[bool, TypeAdapter[Any], TypeAdapter[Any]]:
    what = f"agent {name!r}"
    parameters = list(inspect.signature(target).parameters)
    try:
        hints = get_type_hints(target, include_extras=True)
    except NameError as error:
        raise DefinitionError(what, [Fault("", f"a type in its signature is unknown: {error}")]) from error
    takes_context = bool(parameters) and hints.get(parameters[0]) is Context
    inputs = parameters[1:] if takes_context else parameters
    faults = []
    if len(inputs) != 1:
        faults.append(Fault("", f"it must take one input (after an optional Context), not {len(inputs)}"))
    faults += [Fault(p, "its type is not annotated") for p in inputs if p not in hints]
    if "return" not in hints:
        faults.append(Fault("return", "its type is not annotated"))
    if faults:
        raise DefinitionError(what, faults)
    return (
        takes_context,
        json_adapter(what, inputs[0], hints[inputs[0]]),
        json_adapter(what, "return", hints["return"]),
    )


def json_adapter(what: str, where: str, hint: Any) -> TypeAdapter[Any]:
    """The adapter of a type, which must have a JSON schema. Raises `DefinitionError`."""
    try:
        adapter = TypeAdapter(hint)
        adapter.json_schema()
    except (PydanticSchemaGenerationError, PydanticUserError) as error:
        raise DefinitionError(what, [Fault(where, f"{hint!r} has no JSON form: {error.message}")]) from error
    return adapter
