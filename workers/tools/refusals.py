"""Calls of tools that were wanted and not made: they stand in the log beside those that were, with the reason."""

from __future__ import annotations

from typing import Any

from orchestrator.tool_calls.log import EndedCall
from workers.context import Context
from workers.storable import storable

LONGEST_NAME = 200
"""Characters of the name of a tool that a model has made up."""


class Refusal:
    """One of them."""

    def __init__(self, tool: str, given: Any, place: int, reason: str) -> None:
        self.tool = tool[:LONGEST_NAME]
        self.reason = storable(reason)
        self._given = given
        self._place = place

    def ended(self, ctx: Context) -> EndedCall:
        """As it is written down; arguments and reason without secrets."""
        return EndedCall(
            run_id=ctx.run_id,
            path=ctx.path,
            attempt=ctx.attempt,
            place=self._place,
            agent=ctx.agent,
            tool=self.tool,
            part_of=None,
            idempotency_key=f"{ctx.idempotency_key}:{self._place}",
            arguments=ctx._watch.shown("arguments of a tool", self._given),
            error=f"refused: {ctx._watch.text('error of a tool', self.reason)}",
        )
