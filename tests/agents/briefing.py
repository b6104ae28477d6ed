"""An agent that is given as much as it may be, and one that it names."""

from __future__ import annotations

from orchestrator import workflow
from workers import Context, ContextBudget, Summarise, agent


@agent
async def brief(text: str) -> str:
    return text[:5]


@agent(context=ContextBudget(20, [Summarise("input", by="brief")]), state=["seen"])
def briefed(ctx: Context, text: str) -> str:
    ctx.state.set("seen", text)
    return f"{ctx.agent} was given {text}"


briefing = workflow("briefing", briefed)
