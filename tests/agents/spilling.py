"""Agents that let out what they were given, and what their worker knows, in every way there is."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from orchestrator import approve, each, fan_out, on, route, rule, wait_for, workflow
from schemas import Limit, Price
from schemas.errors import AgentError
from schemas.notices import Notice
from workers import Context, Retry, ToolCall, ToolError, agent, llm_agent, tool
from workers.tools import http_fetch, mcp_tools, sql_query


class Given(BaseModel):
    """What a run is given, with a secret for each thing that is done with it."""

    secret: str
    """Which all of it tells."""
    extra: dict[str, Any] = {}
    parts: list[dict[str, Any]] = []


log = logging.getLogger(__name__)
apart = logging.getLogger("spilling.apart")
apart.addHandler(logging.StreamHandler(sys.__stderr__))
apart.propagate = False
print("as it is loaded, it says", os.environ.get("SPILLED_TOKEN", "nothing"))


@agent(retry=Retry(max=1, base=0.01))
async def spills(ctx: Context, given: Given) -> dict[str, Any]:
    secret = given.secret
    log.warning("given %s", secret, extra={"more": secret})
    apart.warning("given %s", secret)
    print("given", secret)
    ctx.progress(**{"given": secret, secret: 1})
    ctx.warn(secret)
    ctx.say(f"I was given {secret} ")
    ctx.decide(secret, f"it is {secret}")
    kept = await ctx.once(f"keep {secret[:4]}", lambda: {"login": secret, "password": secret})
    await ctx.state.set("given", given.model_dump())
    await ctx.memory.remember(f"It is {secret}", data={"it": secret})
    await ctx.memory.recall(f"What was {secret}?")
    refused = [
        await refusal(act)
        for act in (
            lambda: ctx.state.set(secret, 1),
            lambda: ctx.shared(secret).set("given", secret),
            lambda: ctx.session(secret).append(secret),
            lambda: ctx.memory.remember("It was", key=secret),
            lambda: ctx.memory.recall("It was", key=secret),
            lambda: ctx.memory.forget(key=secret),
            lambda: ctx.memory.episodes(secret),
            lambda: ctx.once(secret, lambda: secret),
        )
    ]
    if ctx.attempt == 1:
        raise ValueError(f"not with {secret}") from KeyError(secret)
    return {"echo": given.model_dump(), "kept": kept, "refused": refused, secret: "a name"}


async def refusal(act: Callable[[], Any]) -> str:
    """What is said of it, if it is not done."""
    try:
        await act()
    except AgentError as error:
        return str(error)
    return "done"


@agent(retry=Retry(max=0), timeout=5)
def fails(ctx: Context, given: Given) -> str:
    raise RuntimeError(f"cannot log in with password={given.secret}, Authorization: Bearer {given.secret}")


@agent
async def echoes(given: Any) -> Any:
    return given


@agent(limits=[Limit(per="key", key="input.secret", rate="1/h")])
async def limited(given: Given) -> str:
    return "begun"


@agent
async def asks(ctx: Context, given: Given) -> Any:
    return await ctx.ask_human(f"What of {given.secret}?", context=given.model_dump())


@tool(cache=60)
async def lookup(call: ToolCall, query: str) -> dict[str, str]:
    return {"found": f"{query}, {os.environ['SPILLED_TOKEN']}"}


@tool
async def breaks(query: str) -> str:
    raise ToolError(f"{query} is no key")


fetch = http_fetch([os.environ.get("SPILLED_ADDRESS", "127.0.0.1:9")], private=True)
query = sql_query("SPILLED_DATABASE_URL")


@agent
async def uses(ctx: Context, given: Given) -> list[str]:
    """Tools with the secret in their arguments; none gives what may be shown as it is."""
    secret, said = given.secret, []
    address = os.environ["SPILLED_ADDRESS"]
    calls: list[tuple[Any, dict[str, str]]] = [
        (lookup, {"query": secret}),
        (breaks, {"query": secret}),
        (fetch, {"url": f"http://ann:{secret}@{address}/?token={secret}&api_key={secret}"}),
        (fetch, {"url": f"http://{address}/?token={secret}"}),
        (query, {"statement": f"SELECT '{secret}'::int"}),
        (secret, {}),
    ]
    for one, arguments in calls:
        try:
            said.append(str(await ctx.use(one, **arguments)))
        except Exception as error:  # noqa: BLE001  whatever it is, it is told
            said.append(f"{type(error).__name__}: {error}")
    return said


thinks = llm_agent(
    "thinks",
    model="openai:scripted",
    input=Given,
    output=str,
    instructions="Tell.",
    tools=[
        lookup,
        mcp_tools(
            "spiller",
            command=[sys.executable, "-m", "tests.agents.spiller"],
            env=["SPILLED_TOKEN"],
            risk="low",
        ),
    ],
    base_url=os.environ.get("TEST_PROVIDER", "http://127.0.0.1:9") + "/v1",
    key="SPILLED_TOKEN",
    price=Price(input=1, output=10),
    retry=Retry(max=0),
    stream=True,
)

spill = workflow("spill", spills)
fail = workflow("fail", fan_out(fails, echoes, join=echoes, require=2))
decide = workflow(
    "decide",
    route(
        way=echoes,
        fallback="way",
        rules=[
            rule("known", go="way", when="input.secret == 'x'"),
            rule("word", go="way", keywords=("it",), field="secret"),
        ],
    ),
)
look = workflow("look", approve("look", risk="input.secret", confidence="input.secret", threshold=0.5))
wait = workflow("wait", wait_for("key.rotated", key="input.secret", output=dict[str, Any]))
several = workflow("several", each(echoes, items="parts"))
hurry = workflow("hurry", limited)
ask = workflow("ask", asks)
use = workflow("use", uses)
think = workflow("think", thinks)
came = on("token.came", start=spill, key="event.secret", input="event", name="came")
misfit = on(
    "token.came", start=spill, key="event.extra.other", input="{'secret': 1, 'extra': event}", name="misfit"
)


def told(notice: Notice) -> None:
    """Whom `BATON_NOTIFY` names; it cannot be told anything."""
    raise RuntimeError(f"no notice for {notice.body} with {os.environ['SPILLED_TOKEN']}")
