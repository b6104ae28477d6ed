"""The `agent` decorator: any typed function becomes an agent."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import UnionType
from typing import Any, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints, overload

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError
from pydantic_core import PydanticSerializationError

from orchestrator.definitions.limits import budget_faults, limit_faults
from orchestrator.definitions.vocabulary import Composable, Part
from schemas.agents import AgentSpec, Retry
from schemas.breakers import Breaker
from schemas.errors import DefinitionError, Fault
from schemas.limits import Limit
from schemas.reach import Reached
from schemas.tools import MayCall
from schemas.usage import Bounds, Budget
from schemas.workflows import Leaf
from workers.asking import NOTHING
from workers.batching import Batch, Batches
from workers.context import Context
from workers.cuts.declared import ContextBudget, Sight, context_faults
from workers.guards.policy import Guard, guard_faults
from workers.slices import Slice, state_faults
from workers.tools.declared import said

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
    batches: Batches | None = None
    guard: Guard | None = None
    """What is masked; None is the guard of plain agents, `workers.guards.policy.PLAIN`."""
    may_call: tuple[MayCall, ...] = ()
    reaches: tuple[Reached, ...] = ()
    """What it needs from outside, for `baton doctor`."""
    """The tools of a model agent."""
    stand_in: str | None = None
    """JSON text of what answers while its circuit is open."""
    context: ContextBudget | None = None
    cuts_itself: bool = False
    """Whether it keeps to its context without help, as those do that are shown more than their input."""
    model_limits: Mapping[str, tuple[Limit, ...]] = field(default_factory=dict)
    """What all calls of the models that it names keep to, those of other agents too, by the name of the model."""
    budget: Budget | None = None
    """What all its steps together may consume in a day; that of a model agent goes with its calls."""
    pays_by_call: bool = False
    """Whether budgets are asked before each of its calls, and not before each of its attempts."""

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def slice(self) -> Slice:
        """What it sees of the state that agents share."""
        return Slice(self.spec.name, self.spec.state)

    @property
    def bounds(self) -> Bounds | None:
        """What budgets set aside for an attempt as a whole, if its author vouches for any."""
        return None if self.pays_by_call else self.spec.bounds

    def needs(self) -> tuple[str, ...]:
        return self.context.needs() if self.context is not None else ()

    def misnamed(self, agents: Mapping[str, Composable]) -> Iterator[str]:
        if self.context is not None:
            yield from self.context.misnamed(self.name, agents)

    @cached_property
    def part(self) -> Part:
        return Part(Leaf(agent=self.spec.name), (self.spec,))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def invoke(self, ctx: Context, value: Any) -> Any | Awaitable[Any]:
        """Call the function with the arguments it declares."""
        if self.batches is not None:
            return self.batches.result(ctx, value)
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
    breaker: Breaker | None = ...,
    fallback: Any = ...,
    bounds: Bounds | None = ...,
    batch: Batch | None = ...,
    guard: Guard | None = ...,
    context: ContextBudget | None = ...,
    state: Sequence[str] | None = ...,
    budget: Budget | None = ...,
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
    breaker: Breaker | None = None,
    fallback: Any = NOTHING,
    bounds: Bounds | None = None,
    batch: Batch | None = None,
    guard: Guard | None = None,
    context: ContextBudget | None = None,
    state: Sequence[str] | None = None,
    budget: Budget | None = None,
) -> Agent | Callable[[AgentFunction], Agent]:
    """Make an agent of `f(ctx, input) -> output` or `f(input) -> output`, sync or async.

    Both types must be annotated; anything that Pydantic understands will do. `timeout` is in seconds for one
    attempt, `rate_limit` is Celery's (`"60/m"`, per worker process), `concurrency` the attempts that one worker
    process runs at a time, `limits` what all workers together keep to, `bounds` the most that one attempt consumes,
    for `baton plan`.

    `budget` is what all its steps together may consume in a day (UTC), by what they tell (`ctx.spend`), unless an
    operator says otherwise (`baton budgets set agent NAME`): once it is used up none of them is begun, they fail with
    `BudgetExceeded`.

    A `breaker` leaves the agent alone for a while when its attempts keep failing. Meanwhile its steps are done with the
    answer `fallback`, which makes their runs degraded; without one they fail with `CircuitOpen`: at once if an
    `.otherwise(...)` or `.optional()` catches that, else after retries that wait as long as it is open.

    With a `batch` the function is `f(contexts, inputs) -> outputs` or `f(inputs) -> outputs`, on lists: it is called
    for several steps of the agent at a time, of whatever runs. An exception among its outputs is the failure of that
    step alone; what it raises fails them all, and their next attempts share smaller calls. Steps are gathered in each
    worker process, which holds those of two batches unless `concurrency` says otherwise.

    Secrets in what it gives, notes and fails with are masked; with a `guard` also personal data, as it says, and what
    stands in `ctx.once` and in shared state, too.

    With `context=ContextBudget(...)` its input, and the original request if it takes a `Context`, are cut before it is
    called until they fit, and events tell what was (`step.cut`).

    With `state=["findings", "draft.*", "shared:incidents", "session:*"]` it sees that much of `ctx.state`, of
    `ctx.shared(...)` and of `ctx.session(...)`: any other name raises `Undeclared`. Without, all of it.

    Raises `DefinitionError` for a function that cannot be an agent.
    """

    def make(target: AgentFunction) -> Agent:
        agent_name = name or target.__name__
        if batch is not None and not isinstance(batch, Batch):
            raise DefinitionError(
                f"agent {agent_name!r}", [Fault("batch", f"it is Batch(size=...), not {batch!r}")]
            )
        takes_context, given, returned = _signature(target, agent_name, batched=batch is not None)
        sight = Sight(given.json_schema(by_alias=False), typed=True, intent=takes_context)
        faults = [
            *limit_faults(limits),
            *budget_faults(budget),
            *context_faults(context, sight),
            *state_faults(state),
            *guard_faults(guard),
        ]
        if faults:
            raise DefinitionError(f"agent {agent_name!r}", faults)
        spec = spec_of(
            agent_name,
            description=inspect.getdoc(target) or "",
            input_schema=given.json_schema(mode="validation"),
            output_schema=returned.json_schema(mode="serialization"),
            # Steps that wait for others hold no thread.
            is_async=batch is not None or inspect.iscoroutinefunction(target),
            timeout=timeout,
            retry=retry or Retry(),
            rate_limit=rate_limit,
            concurrency=concurrency or (2 * batch.size if batch is not None else None),
            limits=tuple(limits),
            breaker=breaker,
            bounds=bounds,
            state=None if state is None else tuple(state),
        )
        batches = None if batch is None else Batches(agent_name, batch, _for_many(target, takes_context))
        instead = stand_in_of(f"agent {agent_name!r}", returned, breaker, fallback)
        return Agent(
            target,
            spec,
            takes_context,
            given,
            returned,
            batches,
            guard,
            stand_in=instead,
            context=context,
            budget=budget,
        )

    return make(function) if function is not None else make


def spec_of(name: str, **fields: Any) -> AgentSpec:
    """The agent as data. Raises `DefinitionError`."""
    try:
        return AgentSpec(name=name, **fields)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False)
        faults = [
            Fault("/".join(map(str, one["loc"])), f"{one['msg']}, not {one['input']!r}") for one in found
        ]
        raise DefinitionError(f"agent {name!r}", faults) from None


def stand_in_of(what: str, output: TypeAdapter[Any], breaker: Breaker | None, fallback: Any) -> str | None:
    """JSON text of what answers while a circuit is open, if anything does. Raises `DefinitionError`."""
    if fallback is NOTHING:
        return None
    reason = None if breaker is not None else "it answers while a breaker is open, and there is none"
    if isinstance(fallback, Composable):
        reason = (
            "it is an answer; for another agent write a.otherwise(b), which an open circuit leads to at once"
        )
    if reason is None:
        try:
            return output.dump_json(output.validate_python(fallback)).decode()
        except (ValidationError, PydanticSerializationError) as error:
            told = said(error) if isinstance(error, ValidationError) else str(error)
            reason = f"it does not fit the agent's output: {told}"
    raise DefinitionError(what, [Fault("fallback", reason)])


def _for_many(
    target: AgentFunction, takes_contexts: bool
) -> Callable[[list[Context], list[Any]], Awaitable[Any]]:
    """The function as what is awaited for a batch; a sync one is called in a thread."""

    async def call(contexts: list[Context], inputs: list[Any]) -> Any:
        given = (contexts, inputs) if takes_contexts else (inputs,)
        if inspect.iscoroutinefunction(target):
            return await target(*given)
        return await asyncio.to_thread(target, *given)

    return call


def _signature(
    target: AgentFunction, name: str, *, batched: bool
) -> tuple[bool, TypeAdapter[Any], TypeAdapter[Any]]:
    what = f"agent {name!r}"
    parameters = list(inspect.signature(target).parameters)
    try:
        hints = get_type_hints(target, include_extras=True)
    except NameError as error:
        raise DefinitionError(what, [Fault("", f"a type in its signature is unknown: {error}")]) from error
    envelope: Any = list[Context] if batched else Context
    takes_context = bool(parameters) and hints.get(parameters[0]) == envelope
    inputs = parameters[1:] if takes_context else parameters
    faults = []
    if len(inputs) != 1:
        optional = "list[Context]" if batched else "Context"
        faults.append(Fault("", f"it must take one input (after an optional {optional}), not {len(inputs)}"))
    faults += [Fault(p, "its type is not annotated") for p in inputs if p not in hints]
    if "return" not in hints:
        faults.append(Fault("return", "its type is not annotated"))
    if batched and not faults:
        lists = {where: _item(hints[where]) for where in (inputs[0], "return")}
        faults += [
            Fault(where, "with batch=... it must be a list") for where in lists if lists[where] is None
        ]
        hints |= lists
    if faults:
        raise DefinitionError(what, faults)
    return (
        takes_context,
        json_adapter(what, inputs[0], hints[inputs[0]]),
        json_adapter(what, "return", hints["return"]),
    )


def _item(hint: Any) -> Any:
    """What a list of this type holds, without the exceptions that stand for failures; None if it is no list."""
    if get_origin(hint) is not list:
        return None
    (item,) = get_args(hint)
    if get_origin(item) not in (Union, UnionType):
        return item
    values = [one for one in get_args(item) if not (isinstance(one, type) and issubclass(one, Exception))]
    return Union[tuple(values)] if values else item  # noqa: UP007  made of what was found


def json_adapter(what: str, where: str, hint: Any) -> TypeAdapter[Any]:
    """The adapter of a type, which must have a JSON schema. Raises `DefinitionError`."""
    if isinstance(hint, dict):  # which pydantic takes for a schema of its own
        raise DefinitionError(what, [Fault(where, f"it is a type, such as a BaseModel, not {hint!r}")])
    try:
        adapter = TypeAdapter(hint)
        adapter.json_schema()
    except (PydanticSchemaGenerationError, PydanticUserError) as error:
        raise DefinitionError(what, [Fault(where, f"{hint!r} has no JSON form: {error.message}")]) from error
    return adapter
