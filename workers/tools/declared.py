"""What a model may have done for it: typed functions, declared like agents."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Protocol, get_type_hints, overload, runtime_checkable

import pydantic_core
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

from orchestrator.definitions.limits import limit_faults
from schemas.breakers import Breaker
from schemas.errors import DefinitionError, Fault, ToolError
from schemas.limits import Limit
from schemas.tools import RISKS, DeclaredTool, MayCall, Risk, ToolSpec
from workers.asking import names
from workers.storable import storable_data, unstorable
from workers.tools.call import ToolCall
from workers.tools.identity import made_of


@dataclass(frozen=True)
class AskFirst:
    """A tool that a model may call only when a person lets it."""

    tool: Callable[..., Any] | Tool | str
    audience: tuple[str, ...] = ()
    expires: float | None = None


def ask_first(
    tool: Callable[..., Any] | Tool | str, *, audience: str | Iterable[str] = (), expires: float | None = None
) -> AskFirst:
    """Let a person see each call of this tool before it is made: `baton approvals`. The step waits and holds no worker.

    The answer is yes or no, and for the arguments that were shown: a later attempt of a plain agent that comes with
    others fails. After no, or `expires` seconds without an answer, the model hears that it may not. Raises
    `DefinitionError`.
    """
    if expires is not None and not expires > 0:
        raise DefinitionError("ask_first(...)", [Fault("expires", f"it is seconds above 0, not {expires!r}")])
    return AskFirst(tool, names(audience), expires)


@dataclass(frozen=True, eq=False)
class Tool(DeclaredTool):
    """Something that a model, or a plain agent by `ctx.use`, may have done.

    Calling it calls the plain function, so it can be tested without any server.
    """

    spec: ToolSpec
    function: Callable[..., Any]
    """Sync or async. Takes the `ToolCall` first if `takes_call`, then what `check` gave by name."""
    takes_call: bool
    check: Callable[[Mapping[str, Any]], dict[str, Any]]
    """The arguments, JSON data or the values themselves, as the function takes them. Raises `ToolError`."""
    give: Callable[[Any], Any]
    """What the function returned, as JSON data. Raises `ToolError` for what is not what it declares."""
    gate: AskFirst | None = None
    made_of: str = ""
    """Where its function stands and what that holds, if results of it are cached."""
    chain: tuple[Tool, ...] = ()
    """The tools that are tried in this order in its place; none for a tool that answers itself."""

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def limits(self) -> tuple[Limit, ...]:
        return self.spec.limits

    @property
    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


@runtime_checkable
class Toolset(Protocol):
    """Tools that are known only when somebody looks, such as those of an MCP server."""

    name: str

    async def tools(self) -> Sequence[Tool]:
        """Those there are now. Asked once in each attempt, on the event loop."""
        ...


@dataclass(frozen=True)
class Named:
    """A tool that an agent may call, by its name: which one it is, the process knows."""

    name: str
    gate: AskFirst | None = None


Allowed = Tool | Named | Toolset
"""One entry of what an agent may call."""
Declared = Callable[..., Any] | Tool | AskFirst | Toolset | str
"""What such an entry may be made of."""


@overload
def tool(function: Callable[..., Any], /) -> Tool: ...
@overload
def tool(
    *,
    name: str | None = ...,
    description: str | None = ...,
    timeout: float | None = ...,
    limits: Sequence[Limit] = ...,
    breaker: Breaker | None = ...,
    cache: float | None = ...,
    cache_shared: bool = ...,
    version: str = ...,
    risk: Risk = ...,
    trusted: bool = ...,
    idempotent: bool = ...,
    fallback: Tool | Sequence[Tool] = ...,
) -> Callable[[Callable[..., Any]], Tool]: ...


def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    timeout: float | None = None,
    limits: Sequence[Limit] = (),
    breaker: Breaker | None = None,
    cache: float | None = None,
    cache_shared: bool = False,
    version: str = "",
    risk: Risk = "low",
    trusted: bool = False,
    idempotent: bool = True,
    fallback: Tool | Sequence[Tool] = (),
) -> Tool | Callable[[Callable[..., Any]], Tool]:
    """Make a tool of a typed function, sync or async, that may take a `ToolCall` first: the model does not see that.

    `timeout` is in seconds for one call (30, or what the agent says), `limits` are what all workers together keep to,
    a `breaker` leaves it alone for a while when its calls keep failing.
    A result answers equal calls for `cache` seconds, those of one tenant, or with `cache_shared` of all; of equal
    calls at the same time one is made. Tools of one name that take the same arguments are told apart by where their
    functions stand and by the plain values that those hold (`workers.tools.identity`); for what else makes a result
    another one, an object or a change of the function itself, give it another `version`. `risk="high"` lets a person
    see each call first, `"medium"` warns of it. A model is told that what it gives is data from outside, unless it is
    `trusted`. With `idempotent=False` a call of which nobody knows how it ended is not made again: the model hears
    so. When it fails, takes too long or is out of order, `fallback` answers in its place. Raises `DefinitionError`.
    """

    def make(target: Callable[..., Any]) -> Tool:
        options = {
            "timeout": timeout,
            "limits": tuple(limits),
            "breaker": breaker,
            "cache": cache,
            "cache_shared": cache_shared,
            "version": version,
            "risk": risk,
            "trusted": trusted,
            "idempotent": idempotent,
        }
        made = limit_faults(limits) or _of_function(target, name, description, options)
        if isinstance(made, list):
            raise DefinitionError(f"tool {name or _named(target)!r}", made)
        others = (fallback,) if isinstance(fallback, Tool) else tuple(fallback)
        return chained(made.name, (made, *others), made.spec.description) if others else made

    return make(function) if function is not None else make


def fallback(
    name: str, tools: Sequence[Tool | Callable[..., Any]], *, description: str | None = None
) -> Tool:
    """One tool to the model, answered by the first of these that can: when one fails, the next is tried.

    The first one's arguments are those of all; the call log tells which one has answered. Raises `DefinitionError`.
    """
    if callable(tools) or not isinstance(tools, Sequence):
        raise DefinitionError(f"tool {name!r}", [Fault("", "write a list: fallback(NAME, [first, second])")])
    made = [tool_of(one) for one in tools]
    faults = [fault for one in made if isinstance(one, list) for fault in one]
    if not tools:
        faults.append(Fault("", "name the tools that are tried"))
    if faults:
        raise DefinitionError(f"tool {name!r}", faults)
    return chained(name, tuple(one for one in made if isinstance(one, Tool)), description)


def chained(name: str, tools: tuple[Tool, ...], description: str | None = None) -> Tool:
    """Several tools as one, with the arguments of the first. Raises `DefinitionError` if they do not take the same."""
    tried = tuple(last for one in tools for last in (one.chain or (one,)))
    first = tried[0]
    faults = [Fault(one.name, reason) for one in tried[1:] if (reason := _differs(first.spec, one.spec))]
    faults += [Fault(one.name, "ask before the whole, ask_first(fallback(...))") for one in tried if one.gate]
    try:
        spec = ToolSpec(
            name=name,
            description=first.spec.description if description is None else description,
            parameters=first.spec.parameters,
            risk=max((one.spec.risk for one in tried), key=RISKS.index),
            trusted=all(one.spec.trusted for one in tried),
            fallbacks=tuple(one.name for one in tried),
        )
    except ValidationError as error:
        faults += [Fault(name, said(error))]
    if faults:
        raise DefinitionError(f"tool {name!r}", faults)
    return Tool(spec, first.function, first.takes_call, first.check, first.give, chain=tried)


def schema_tool(
    name: str,
    function: Callable[..., Any],
    *,
    parameters: Mapping[str, Any],
    description: str = "",
    **options: Any,
) -> Tool:
    """A tool whose arguments are known as a JSON Schema only: `function(call, arguments)` is given them as a mapping.

    `options` are those of `tool`. What it returns must have a JSON form. Raises `DefinitionError`.
    """
    import jsonschema_rs

    try:
        validator = jsonschema_rs.validator_for(dict(parameters), offline=True)
        spec = ToolSpec(name=name, description=description, parameters=dict(parameters), **options)
    except (ValidationError, ValueError) as error:
        reason = said(error) if isinstance(error, ValidationError) else str(error)
        raise DefinitionError(f"tool {name!r}", [Fault("", reason)]) from None

    def check(arguments: Mapping[str, Any]) -> dict[str, Any]:
        given = pydantic_core.to_jsonable_python(dict(arguments))
        faults = [f"{'.'.join(map(str, one.instance_path))}: {one.message}".lstrip(": ")
                  for one in validator.iter_errors(given)]  # fmt: skip
        if faults:
            raise ToolError("; ".join(faults))
        return {"arguments": given}

    given = made_of(function) if spec.cache is not None else ""
    return Tool(spec, function, True, check, _giver(name, TypeAdapter(Any)), made_of=given)


def allowed_of(declared: Declared) -> Allowed | list[Fault]:
    """An entry of what an agent may call, or what is wrong with it."""
    if isinstance(declared, str):
        return Named(declared)
    if isinstance(declared, AskFirst) and isinstance(declared.tool, str):
        return Named(declared.tool, declared)
    if isinstance(declared, Toolset):
        return declared
    return tool_of(declared)


def entry_of(allowed: Allowed) -> MayCall:
    """The entry as data."""
    match allowed:
        case Tool(spec, gate=gate):
            return MayCall(name=spec.name, spec=spec, asks=gate is not None)
        case Named(name, gate):
            return MayCall(name=name, is_named=True, asks=gate is not None)
    return MayCall(name=f"{allowed.name}/*")


def tool_of(declared: Callable[..., Any] | Tool | AskFirst) -> Tool | list[Fault]:
    """The function as a tool, named and described as it is itself, or what keeps it from being one."""
    if isinstance(declared, AskFirst):
        if isinstance(declared.tool, str):
            return [Fault(declared.tool, "a name stands for a tool in llm_agent(tools=[...]) only")]
        found = tool_of(declared.tool)
        return replace(found, gate=declared) if isinstance(found, Tool) else found
    if not callable(declared):
        return [Fault("", f"{declared!r} is no tool: it is a typed function, or what tool(...) made of one")]
    return declared if isinstance(declared, Tool) else _of_function(declared, None, None, {})


def said(error: ValidationError) -> str:
    """What does not fit, in one line."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}".lstrip(": ") for fault in found)


_PREFIX = "argument_"
"""Stands before the names of arguments inside: by themselves they could hide what a model has, such as `schema`."""


def _of_function(
    function: Callable[..., Any], name: str | None, description: str | None, options: Mapping[str, Any]
) -> Tool | list[Fault]:
    if not callable(function):
        return [Fault("", f"{function!r} is no function: @tool, or @tool(name=...)")]
    name = name or _named(function)
    try:
        hints = get_type_hints(function, include_extras=True)
    except NameError as error:
        return [Fault(name, f"a type in its signature is unknown: {error}")]
    except TypeError:  # an object that can be called, functools.partial
        return [Fault(name, "its types cannot be read: write a function around it")]
    parameters = list(inspect.signature(function).parameters.values())
    takes_call = bool(parameters) and hints.get(parameters[0].name) is ToolCall
    faults: list[Fault] = []
    fields: dict[str, Any] = {}
    for one in parameters[1:] if takes_call else parameters:
        if one.kind not in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY):
            faults.append(Fault(name, f"a model cannot give it {one}"))
        elif one.name not in hints:
            faults.append(Fault(name, f"the type of {one.name} is not annotated"))
        else:
            default = Field() if one.default is one.empty else one.default
            fields[f"{_PREFIX}{one.name}"] = (Annotated[hints[one.name], Field(alias=one.name)], default)
    if "return" not in hints:
        faults.append(Fault(name, "the type that it returns is not annotated"))
    if faults:
        return faults
    try:
        arguments = create_model(name, __config__=ConfigDict(extra="forbid"), **fields)
        told = inspect.getdoc(function) or "" if description is None else description
        spec = ToolSpec(name=name, description=told, parameters=arguments.model_json_schema(), **options)
        result = TypeAdapter(hints["return"])
    except (PydanticSchemaGenerationError, PydanticUserError) as error:
        return [Fault(name, f"its signature has no JSON form: {error.message}")]
    except ValidationError as error:
        return [Fault(name, said(error))]
    return Tool(
        spec,
        function,
        takes_call,
        _checker(arguments),
        _giver(name, result),
        made_of=made_of(function) if spec.cache is not None else "",
    )


def _checker(arguments: type[BaseModel]) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    def check(given: Mapping[str, Any]) -> dict[str, Any]:
        try:
            valid = arguments.model_validate(given)
        except ValidationError as error:
            raise ToolError(said(error)) from None
        return {name.removeprefix(_PREFIX): getattr(valid, name) for name in type(valid).model_fields}

    return check


def _giver(name: str, result: TypeAdapter[Any]) -> Callable[[Any], Any]:
    def give(returned: Any) -> Any:
        try:
            found = storable_data(result.dump_python(result.validate_python(returned), mode="json"))
        except ValidationError as error:
            raise ToolError(f"tool {name} returned what it does not declare: {said(error)}") from None
        except (ValueError, RecursionError) as error:  # nested too deeply, half of a character, bytes
            raise ToolError(f"tool {name} returned what has no JSON form: {error}") from None
        if (wrong := unstorable(found)) is not None:
            raise ToolError(f"tool {name} returned what has no JSON form: it holds {wrong}")
        return found

    return give


def _differs(first: ToolSpec, other: ToolSpec) -> str:
    """Why what the first one is given cannot be given to the other; empty if it can."""
    mine = set(first.parameters.get("properties", ()))
    theirs = set(other.parameters.get("properties", ()))
    if missing := set(other.parameters.get("required", ())) - mine:
        return f"it needs {', '.join(sorted(missing))}, which {first.name} does not take"
    if unknown := mine - theirs:
        return f"it does not take {', '.join(sorted(unknown))}, which {first.name} does"
    return ""


def _named(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__name__", type(function).__name__))
