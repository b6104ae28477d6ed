"""What a tool knows of the call that it answers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.errors import AgentError, CallAbandoned
from workers.memory.memories import Memories
from workers.tools.effects import Effects


@dataclass(frozen=True)
class ToolCall:
    """What a tool knows of the call: take one as the first parameter, the model does not see it."""

    tool: str
    idempotency_key: str
    """The same in every attempt that makes this call: hand it to services that must not be asked twice."""
    tenant: str
    labels: Mapping[str, str]
    agent: str = ""
    """Who calls it."""
    abandoned: threading.Event = field(default_factory=threading.Event, repr=False)
    """Set when nobody waits for its result any longer: it took too long, or its step was stopped."""

    effects: Effects | None = field(default=None, repr=False)
    remembered: Callable[[], Memories] | None = field(default=None, repr=False)

    @property
    def memory(self) -> Memories:
        """What the agent that calls it remembers: `ctx.memory`. Its calls are part of this one in the journal."""
        if self.remembered is None:
            raise AgentError("this call has no memory: it was not made by a worker")
        return self.remembered()

    @property
    def alive(self) -> bool:
        """Whether anybody still waits for the result."""
        return not self.abandoned.is_set()

    def once(self, name: str, effect: Callable[[], Any]) -> Any:
        """Have an effect once, however often this call is made again, and not when its time is over.

        What it gives is kept, as JSON data, and given to an attempt that makes the call again; if that one finds that
        the effect was begun and nobody knows how it ended, it raises `ToolError`. In an async tool, await this.
        Raises `CallAbandoned` as `check` does.
        """
        self.check()
        if self.effects is None:
            return effect()
        key = f"{self.idempotency_key}/{name}"
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self.effects.once(key, effect)
        return self.effects.awaited(key, effect)

    def check(self) -> None:
        """Ask this before each effect, in a sync tool: its thread runs on after its time.

        Raises `CallAbandoned` when nobody waits for the result any longer.
        """
        if not self.alive:
            raise CallAbandoned(
                f"nobody waits for this call of {self.tool} any longer: it must have no effect now"
            )
