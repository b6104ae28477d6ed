"""What a model may have done for it: typed functions, declared like agents."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

from schemas.errors import Fault, ToolError
from workers.asking import names


@dataclass(frozen=True)
class ToolCall:
    """What a tool knows of the call: take one as the first parameter, the model does not see it."""

    tool: str
    idempotency_key: str
    """The same in every attempt that makes this call: hand it to services that must not be asked twice."""
    tenant: str
    labels: Mapping[str, str]


@dataclass(frozen=True)
class AskFirst:
    """A tool that a model may call only when a person lets it."""

    function: Callable[..., Any]
    audience: tuple[str, ...]
    expires: float | None


def ask_first(
    function: Callable[..., Any], *, audience: str | Iterable[str] = (), expires: float | None = None
) -> AskFirst:
    """Let a person see each call of this tool before it is made: `baton approvals`. The step waits and holds no worker.

    The answer is yes or no. After no, or `expires` seconds without an answer, the model hears that it may not.
    """
    return AskFirst(function, names(audience), expires)


@dataclass(frozen=True, eq=False)
class Tool:
    """A function that a model may call."""

    name: str
    description: str
    function: Callable[..., Any]
    takes_call: bool
    arguments: type[BaseModel]
    result: TypeAdapter[Any]
    gate: AskFirst | None

    @property
    def schema(self) -> dict[str, Any]:
        return self.arguments.model_json_schema()

    def checked(self, arguments: Mapping[str, Any]) -> BaseModel:
        """The arguments as it declares them. Raises `ToolError`."""
        try:
            return self.arguments.model_validate(arguments)
        except ValidationError as error:
            raise ToolError(_faults(error)) from None

    async def __call__(self, call: ToolCall, valid: BaseModel, timeout: float) -> Any:
        """Run it, and give its result as JSON data. Raises `ToolError` when it has taken too long."""
        given = {name: getattr(valid, name) for name in type(valid).model_fields}
        try:
            async with asyncio.timeout(timeout) as clock:
                result = await self._called(*([call] if self.takes_call else []), **given)
        except TimeoutError:
            if clock.expired():
                raise ToolError(f"it took longer than {timeout:g} s") from None
            raise
        return self.result.dump_python(result, mode="json")

    async def _called(self, *args: Any, **kwargs: Any) -> Any:
        if inspect.iscoroutinefunction(self.function):
            return await self.function(*args, **kwargs)
        return await asyncio.to_thread(self.function, *args, **kwargs)


def _faults(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in found)


def tool_of(declared: Callable[..., Any] | AskFirst) -> Tool | list[Fault]:
    """The function as a tool, named and described as it is itself, or what keeps it from being one."""
    gate = declared if isinstance(declared, AskFirst) else None
    function = declared.function if isinstance(declared, AskFirst) else declared
    name = function.__name__
    try:
        hints = get_type_hints(function, include_extras=True)
    except NameError as error:
        return [Fault(name, f"a type in its signature is unknown: {error}")]
    parameters = list(inspect.signature(function).parameters.values())
    takes_call = bool(parameters) and hints.get(parameters[0].name) is ToolCall
    faults, fields = [], {}
    for one in parameters[1:] if takes_call else parameters:
        if one.kind not in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY):
            faults.append(Fault(name, f"a model cannot give it {one}"))
        elif one.name not in hints:
            faults.append(Fault(name, f"the type of {one.name} is not annotated"))
        else:
            fields[one.name] = (hints[one.name], Field() if one.default is one.empty else one.default)
    if "return" not in hints:
        faults.append(Fault(name, "the type that it returns is not annotated"))
    if faults:
        return faults
    try:
        arguments = create_model(name, __config__=ConfigDict(extra="forbid"), **fields)  # type: ignore[call-overload]
        arguments.model_json_schema()
        result = TypeAdapter(hints["return"])
    except (PydanticSchemaGenerationError, PydanticUserError) as error:
        return [Fault(name, f"its signature has no JSON form: {error.message}")]
    return Tool(name, inspect.getdoc(function) or "", function, takes_call, arguments, result, gate)
