"""What may be cut, in which order, to what."""

from __future__ import annotations

from collections.abc import Awaitable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from pydantic import TypeAdapter

from schemas.agents import AgentSpec, JsonSchema
from schemas.errors import Fault
from workers.context import Context


@dataclass(frozen=True)
class Drop:
    """Leave a field out, such as `input.notes`, `state.draft.*`, or `intent`, the original request."""

    field: str


@dataclass(frozen=True)
class Truncate:
    """Keep so many tokens of the beginning of a field: of a text, or of a list its first items."""

    field: str
    tokens: int


@dataclass(frozen=True)
class Summarise:
    """Put in place of a field what another agent makes of it, which takes a text; at most so many tokens of that.

    That one is named, by itself or as the app knows it. It does so within this step, in its journal.
    """

    field: str
    by: Summariser | str
    tokens: int = 500


Policy = Drop | Truncate | Summarise


@runtime_checkable
class Summariser(Protocol):
    """An agent, as far as a summary is concerned."""

    @property
    def name(self) -> str: ...
    @property
    def spec(self) -> AgentSpec: ...
    @property
    def input(self) -> TypeAdapter[Any]: ...
    @property
    def output(self) -> TypeAdapter[Any]: ...
    @property
    def takes_context(self) -> bool: ...
    @property
    def context(self) -> ContextBudget | None: ...
    @property
    def cuts_itself(self) -> bool: ...
    def invoke(self, ctx: Context, value: Any) -> Any | Awaitable[Any]: ...


@dataclass(frozen=True)
class Sight:
    """What an agent sees of its step, for whoever looks a policy over."""

    schema: JsonSchema
    """Of its input."""
    typed: bool = False
    """Whether it is given its input as a value, which must still fit when it is cut, and not as a text."""
    intent: bool = True
    state: bool = False
    """Whether it is shown what it declares of the state."""


@dataclass(frozen=True)
class ContextBudget:
    """The tokens that an agent is given at most: of a model agent its instructions, its input, its session, what it is
    shown of the state, and what tools give; of any other its input and the original request.

    A token is about four characters. Where its input is more than that, it is cut by `policy`, one after the other,
    until it fits; then results of tools are, the oldest first. What cannot be made to fit fails the step for good.
    """

    tokens: int
    policy: Sequence[Policy] = ()

    def faults(self, sight: Sight) -> Iterator[Fault]:
        """What is wrong with it for an agent that sees this."""
        if not isinstance(self.tokens, int) or self.tokens < 1:
            yield Fault("context/tokens", f"it is a whole number above 0, not {self.tokens!r}")
        if not isinstance(self.policy, Sequence):
            yield Fault("context/policy", "write a list: [Drop(FIELD), ...]")
            return
        for index, cut in enumerate(self.policy):
            where = f"context/policy/{index}"
            if not isinstance(cut, Policy):
                yield Fault(
                    where, f"it is Drop, Truncate or Summarise, such as Drop('input.notes'), not {cut!r}"
                )
                continue
            yield from (Fault(where, said) for said in _wrong_field(cut, sight))
            if not isinstance(cut, Drop) and (not isinstance(cut.tokens, int) or cut.tokens < 1):
                yield Fault(where, f"tokens are a whole number above 0, not {cut.tokens!r}")
            if isinstance(cut, Summarise) and not isinstance(cut.by, str):
                yield from (Fault(where, said) for said in _wrong_writer(cut.by))

    def needs(self) -> tuple[str, ...]:
        """The agents that summarise, as the app knows them."""
        return tuple(cut.by for cut in self.policy if isinstance(cut, Summarise) and isinstance(cut.by, str))

    def misnamed(self, agent: str, agents: Mapping[str, Any]) -> Iterator[str]:
        """What is wrong with those of an app's agents that summarise for this one. It names no others."""
        for name in self.needs():
            yield from _wrong_writer(agents[name])
            if _leads_to(agent, agents[name], agents, {name}):
                yield f"{name} summarises for it, and it for {name}"


def context_faults(context: object, sight: Sight) -> Iterator[Fault]:
    """What is wrong with what an agent declares as its context."""
    if isinstance(context, ContextBudget):
        yield from context.faults(sight)
    elif context is not None:
        yield Fault("context", f"it is ContextBudget(tokens, policy), not {context!r}")


def _wrong_field(cut: Policy, sight: Sight) -> Iterator[str]:
    root, _, below = cut.field.partition(".")
    if root not in ("input", "intent", "state"):
        yield f"{cut.field!r} is no field: it begins with input, intent or state, such as input.notes"
    elif root == "intent" and not sight.intent:
        yield "it takes no Context, so it does not see the original request"
    elif root == "state" and not sight.state:
        yield "nothing of the state is shown to it: a model agent is shown what it declares, state=[...]"
    elif root == "state" and not below and not isinstance(cut, Drop):
        yield "name what of the state, such as state.draft.*"
    elif cut.field == "input" and isinstance(cut, Drop):
        yield "without its input an agent has nothing to do"
    elif root == "input":
        yield from _wrong_input(cut, below, sight)


def _wrong_input(cut: Policy, below: str, sight: Sight) -> Iterator[str]:
    schema, name = sight.schema, below.partition(".")[0]
    found = schema.get("properties", {}).get(name, {}) if name else schema
    if name and "properties" in schema and name not in schema["properties"]:
        yield f"the input has no field {name!r}"
    elif sight.typed and name == below:
        if isinstance(cut, Drop):
            if name in schema.get("required", ()):
                yield f"the input does not fit without {name}: give it a default"
        elif found.get("type") in ("integer", "number", "boolean", "object"):
            yield f"{cut.field} is no text: name a field that is one"
        elif found.get("type") == "array" and isinstance(cut, Summarise):
            yield f"{cut.field} is a list, and a summary is a text"


def _wrong_writer(by: object) -> Iterator[str]:
    if not isinstance(by, Summariser):
        yield f"an agent summarises, or the name of one, not {by!r}"
    elif by.input.json_schema().get("type") != "string":
        yield f"{by.name} does not take a text, so it cannot summarise one"
    elif by.takes_context and not by.spec.is_async:
        yield f"{by.name} takes a context in a thread: whoever summarises is async, or takes a text only"


def _leads_to(agent: str, by: Any, agents: Mapping[str, Any], seen: set[str]) -> bool:
    """Whether a summary by this one would need one for that agent."""
    if by.name == agent:
        return True
    context = by.context
    for cut in context.policy if context is not None else ():
        if not isinstance(cut, Summarise):
            continue
        other = agents.get(cut.by) if isinstance(cut.by, str) else cut.by
        if other is not None and other.name not in seen:
            seen.add(other.name)
            if _leads_to(agent, other, agents, seen):
                return True
    return False
