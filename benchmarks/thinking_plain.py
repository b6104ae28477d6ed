"""The same conversations on pydantic-ai alone, where nothing is durable: tasks in, seconds and megabytes out."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.usage import UsageLimits

from benchmarks.thinking_agents import INSTRUCTIONS, PROVIDER, Task, Told, note


async def main() -> None:
    """One line of JSON for each line of JSON: a list of tasks, which are done at the same time."""
    model = OpenAIChatModel("scripted", provider=OpenAIProvider(base_url=PROVIDER, api_key="none"))

    async def think(task: Task) -> None:
        agent = Agent(model, output_type=Told, instructions=INSTRUCTIONS, tools=[note])
        await agent.run(task.model_dump_json(), usage_limits=UsageLimits(request_limit=None))

    for line in iter(sys.stdin.readline, ""):
        tasks = [Task.model_validate(one) for one in json.loads(line)]
        began = time.perf_counter()
        await asyncio.gather(*map(think, tasks))
        print(json.dumps([time.perf_counter() - began, _peak()]), flush=True)


def _peak() -> float:
    """The most megabytes that this process has held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    asyncio.run(main())
