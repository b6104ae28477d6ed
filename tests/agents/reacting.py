"""Workflows that events start."""

from __future__ import annotations

from orchestrator import on, workflow
from workers import Context, agent


@agent
def noted(ctx: Context, number: int) -> dict[str, str]:
    """The labels of its run."""
    return dict(ctx.labels)


counting = workflow("counting", noted)
numbers = on("number.came", start=counting, name="numbers")
quiet = on("number.rained", start=counting, name="quiet", debounce=5)
