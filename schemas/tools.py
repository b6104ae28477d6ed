"""What a tool is to everybody who does not run it: a name, a schema and some limits."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from schemas.base import Frozen
from schemas.breakers import Breaker
from schemas.limits import Limit

Risk = Literal["low", "medium", "high"]
"""Low runs; medium runs, and the step is warned of it; high waits until a person lets it run."""

RISKS: tuple[Risk, ...] = ("low", "medium", "high")

TOOL_TIMEOUT = 30.0
"""Seconds that a call of a tool may take when neither it nor its agent says otherwise."""

ToolName = Annotated[str, Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_-]{0,63}$")]
"""What the wire formats of OpenAI and Anthropic both take."""


class ToolSpec(Frozen):
    """One tool as data."""

    name: ToolName
    description: str = ""
    """What the model reads."""
    parameters: dict[str, Any]
    """The JSON Schema of its arguments."""
    timeout: float | None = Field(default=None, gt=0, strict=True)
    """Seconds that one call may take; None for what its agent says."""
    limits: tuple[Limit, ...] = ()
    """Limits of the whole cluster."""
    breaker: Breaker | None = None
    """Leaves it alone for a while when its calls keep failing."""
    cache: float | None = Field(default=None, gt=0, strict=True)
    """Seconds for which a result answers equal calls, whoever makes them."""
    cache_shared: bool = False
    """Whether tenants share those results."""
    version: str = ""
    """Tells its cached results from those of other versions of it."""
    risk: Risk = "low"
    trusted: bool = False
    """Whether a model may take what it gives for more than data from outside."""
    idempotent: bool = True
    """Whether a call of which nobody knows how it ended may be made again, under the same key."""
    fallbacks: tuple[str, ...] = ()
    """The tools that are asked, in this order, until one answers; none for a tool that answers itself."""


class DeclaredTool:
    """A tool as those know it who do not run it."""

    spec: ToolSpec


class MayCall(Frozen):
    """One entry of what an agent may call."""

    name: str
    """Of the tool; of a toolset with `/*` behind it."""
    spec: ToolSpec | None = None
    """None for one by name, or for a toolset, of which it is known later."""
    is_named: bool = False
    """Whether the app says which tool it is."""
    asks: bool = False
    """Whether a person sees each call first, whatever its risk."""


class ToolRecord(Frozen):
    """One call of a tool, as it was written down when it had ended."""

    path: str
    """The step."""
    attempt: int
    place: int
    """In the journal of the step; tools that were tried in turn have the same."""
    agent: str
    tool: str
    part_of: str | None
    """What the agent had called, where that tries several tools."""
    idempotency_key: str
    arguments: Any
    """As JSON data; a long one is `{"cut": its beginning as text, "characters": how many it had}`, as is a result."""
    result: Any
    error: str | None
    """Why there is no result."""
    cached: bool
    """Whether an equal call had been made, or was under way, so that this one was not."""
    runs_on: bool
    """Whether its thread could not be stopped when its time was over."""
    seconds: float
    at: datetime
    """When it had ended."""
