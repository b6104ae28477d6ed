"""Model agents that may call some tools, by themselves and by name."""

from __future__ import annotations

from orchestrator import workflow
from schemas import Limit, Price
from workers import Context, Tool, agent, ask_first, fallback, llm_agent, tool


@tool(timeout=10, limits=[Limit(concurrency=2, rate="60/m"), Limit(per="tenant", rate="5/s")], cache=300)
async def look_up(query: str) -> str:
    """Look something up."""
    return query


async def guess(query: str) -> str:
    """Guess."""
    return query


@tool(risk="high", idempotent=False)
def pay(amount: int) -> str:
    return f"{amount}"


search = fallback("search", [look_up, guess])


class Library:
    name = "library"

    async def tools(self) -> list[Tool]:
        return []


library = Library()


def model(name: str, *tools: object) -> object:
    return llm_agent(
        name,
        model="openai:local",
        base_url="http://127.0.0.1:9/v1",
        price=Price(input=0, output=0),
        input=str,
        output=str,
        instructions="",
        tools=tools,  # type: ignore[arg-type]
    )


writer = model("writer", "search", guess, library)
buyer = model("buyer", search, ask_first("pay", audience="cfo"))


@agent
def reader(ctx: Context, query: str) -> str:
    """A plain agent, in a thread or a child process."""
    found: str = ctx.use("search", query=query)
    return found


read = workflow("read", reader)
