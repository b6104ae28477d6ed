"""Running the Python that a model writes, where it can do no harm."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, Literal, Unpack

import pydantic_core
from pydantic import BaseModel

from schemas.errors import DefinitionError, Fault, Permanent, ToolError
from workers.storable import storable, storable_data
from workers.tools.builtin.limits import SandboxLimits
from workers.tools.builtin.options import Options
from workers.tools.declared import Tool, tool

WAITING = 10.0
"""Seconds that a program may wait for a free sandbox, and for this machine."""

Sandbox = Callable[[str, SandboxLimits], Awaitable[tuple[Any, str]]]
"""Runs a program: the value of its last expression, and what it has printed. Raises `ToolError`."""


class Ran(BaseModel):
    """What came of a program."""

    result: Any
    """The value of its last expression, as JSON data."""
    output: str
    """What it has printed."""


def run_python(
    *,
    engine: Literal["monty", "cpython"] = "monty",
    timeout: float = 5.0,
    memory: int = 128_000_000,
    max_bytes: int = 50_000,
    user: str = "nobody",
    name: str = "run_python",
    **options: Unpack[Options],
) -> Tool:
    """Make a tool that runs a Python program, cut off from files and network, and gives its last value.

    `monty` is a small Python of its own, which knows most of the language, some of the standard library, and no
    packages: `pip install 'baton-agents[sandbox]'`. `cpython` is the Python below /usr with its standard library, in
    bubblewrap: it sees /usr, and what it writes is gone with it; a worker that is root runs it as `user`, any other as
    itself. A program has `timeout` seconds and `memory` bytes, in `cpython` each of its processes, and may give and
    print `max_bytes` each. `options` are those of `workers.tool`.
    """
    faults = []
    if engine not in ("monty", "cpython"):
        faults.append(Fault("engine", "monty or cpython"))
    if timeout <= 0 or memory < 1 or max_bytes < 1:
        faults.append(Fault("", "timeout, memory and max_bytes must be positive"))
    if faults:
        raise DefinitionError(f"tool {name!r}", faults)
    limits = SandboxLimits(timeout, memory, max_bytes, user)

    async def run(code: str) -> Ran:
        sandbox = await asyncio.to_thread(_loaded, engine)
        try:
            code.encode()
        except UnicodeEncodeError:
            raise ToolError("a program has no lone surrogates") from None
        try:
            result, output = await sandbox(code, limits)
        except ToolError as error:
            raise _shortened(error, max_bytes) from None
        return Ran(result=_json(result, max_bytes), output=storable(output))

    which = "a small Python without packages" if engine == "monty" else "Python and its standard library"
    told = (
        f"Run a program in {which}, cut off from files and network, for {timeout:g} s. "
        "The value of its last expression comes back, and what it prints."
    )
    which = repr((engine, timeout, memory, max_bytes, user))
    return tool(name=name, description=told, timeout=timeout + WAITING, version=which, **options)(run)


def _loaded(engine: str) -> Sandbox:
    """Load what runs it, only where it is needed."""
    if engine == "cpython":
        from workers.tools.builtin.bubblewrap import run

        return run
    try:
        from workers.tools.builtin.monty import run as run_small
    except ModuleNotFoundError as error:
        raise Permanent(f"{error.name} is missing: pip install 'baton-agents[sandbox]'") from error
    return run_small


def _json(value: Any, max_bytes: int) -> Any:
    """Raises `ToolError` for what has no JSON form or is too large."""
    if _is_larger(value, max_bytes):
        raise ToolError(f"the last value has more than {max_bytes} bytes")
    try:
        found = pydantic_core.to_jsonable_python(
            value, fallback=repr, bytes_mode="base64", inf_nan_mode="strings"
        )
        size = len(json.dumps(found))
    except (ValueError, RecursionError) as error:
        raise ToolError(f"the last value has no JSON form: {error}") from None
    if size > max_bytes:
        raise ToolError(f"the last value has {size} bytes, and may have {max_bytes}")
    return storable_data(found)


def _is_larger(value: Any, most: int) -> bool:
    """Whether it has surely more bytes as JSON, which is found out without writing it.

    A list that holds another one twice, which holds another one twice, is small in memory, and endless in writing.
    """
    size, left = 0, [value]
    while left and size <= most:
        one = left.pop()
        inside: Any = getattr(one, "attributes", one)  # an instance of a class of the program's
        match inside:
            case str() | bytes():
                size += len(inside)
            case dict():
                size += 2 * len(inside)
                left += [*inside.keys(), *inside.values()] if size <= most else []
            case list() | tuple() | set() | frozenset():
                size += len(inside)
                left += inside if size <= most else []
        size += 1
    return size > most


def _shortened(error: ToolError, most: int) -> ToolError:
    """The error, with a message of at most about `most` characters: how it begins and how it ends."""
    told = str(error)
    half = most // 2
    return error if len(told) <= most else ToolError(f"{told[:half]} [...] {told[-half:]}")
