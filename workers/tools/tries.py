"""Calls of tools that are made, or answered by that of an equal one: they stand in the log with what came of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.tool_calls.log import EndedCall
from workers.context import Context
from workers.tools.declared import Tool


@dataclass(eq=False)
class Try:
    """One tool that is asked, alone or as one of a chain."""

    tool: Tool
    given: Mapping[str, Any]
    place: int
    key: str
    part_of: str | None
    is_last: bool
    made: bool = False
    """Whether it has been called: all gates have let it pass, and no equal call has answered."""
    runs_on: bool = False
    """Whether its thread could not be stopped."""

    def ended(
        self,
        ctx: Context,
        seconds: float,
        *,
        informs: bool,
        result: Any = None,
        error: str | None = None,
        cached: bool = False,
    ) -> EndedCall:
        """As it is written down; without secrets. It `informs` if people are to hear of it."""
        return EndedCall(
            run_id=ctx.run_id,
            path=ctx.path,
            attempt=ctx.attempt,
            place=self.place,
            agent=ctx.agent,
            tool=self.tool.name,
            part_of=self.part_of,
            idempotency_key=self.key,
            arguments=ctx._watch.shown("arguments of a tool", self.given),
            result=ctx._watch.shown("result of a tool", result),
            error=ctx._watch.text("error of a tool", error) if error is not None else None,
            cached=cached,
            runs_on=self.runs_on,
            seconds=seconds,
            informs=informs,
        )
