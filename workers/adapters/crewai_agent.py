"""Crews of CrewAI as agents, in processes of an environment of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from asyncio.subprocess import PIPE, Process
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Unpack

from schemas.errors import BatonError, Fault, Permanent
from schemas.usage import Price
from workers.adapters.declared import Attempt, Options, declared
from workers.adapters.mapping import answer
from workers.adapters.meter import Meter, MeteredCall, Tokens
from workers.agent import Agent
from workers.context import Context
from workers.guards.pipes import logged

HOST = Path(__file__).with_name("crew_host.py")
LONGEST = 2**26
"""Bytes of the longest line that a crew may tell."""
QUIET = {"CREWAI_DISABLE_TELEMETRY": "true", "CREWAI_TRACING_ENABLED": "false", "OTEL_SDK_DISABLED": "true"}
"""What keeps CrewAI from sending home what a crew does, unless the worker's environment says otherwise."""


def crewai(
    name: str,
    target: str,
    *,
    input: Any,
    output: Any,
    python: str = ".venv-crewai/bin/python",
    prepare: Callable[[Context, Any], Mapping[str, Any]] | None = None,
    result: Callable[[Mapping[str, Any]], Any] | None = None,
    price: Price | None = None,
    **options: Unpack[Options],
) -> Agent:
    """Make an agent of a crew, a flow, or a function or class that makes one: `target="module:name"`.

    CrewAI needs older packages than Baton does, so it has an environment of its own, whose interpreter is `python`
    (`python -m venv .venv-crewai && .venv-crewai/bin/pip install crewai`). The module is imported there, from the
    worker's folder, and must import nothing of Baton. Each attempt is a process of its own, which takes some seconds to
    begin and ends with the attempt, however that ends; it does not see Baton's own environment variables.

    The crew's inputs are the fields of the input; `prepare(ctx, input)` gives others, and a function may take them. The
    output is the typed output of its last task, or the JSON in its text; `result({"raw": ..., "typed": ...})` takes
    something else.

    Each model call that CrewAI lets its hooks see passes the gates of the cluster before it is made, and is counted by
    its usage; `price` is what a call costs whose price is not known. What the crew's own sum tells beyond that is
    counted at the end, and the run is warned. Agents that begin and tools are progress of the run, and what an
    `LLM(stream=True)` says is in its events while it says it. Another attempt runs
    the whole crew again.
    """
    faults = []
    module, colon, attribute = target.partition(":")
    if not (module and colon and attribute):
        faults.append(Fault("target", "write MODULE:NAME, such as crews.support:crew"))

    def attempt(agent: Agent) -> Attempt:
        async def act(ctx: Context, value: Any, meter: Meter) -> Any:
            inputs = prepare(ctx, value) if prepare else _inputs(agent, value)
            ended = await _run(python, target, inputs, meter)
            calls = ended["calls"] - meter.counted.model_calls
            tokens = Tokens(ended["input"], ended["output"])
            if calls > 0 and sum(tokens) > meter.counted.tokens:
                meter.count_past("crewai:unnamed", 0, tokens, 0, calls)
            if result:
                return result({"raw": ended["raw"], "typed": ended["typed"]})
            return answer(agent, ended["raw"] if ended["typed"] is None else ended["typed"])

        return act

    return declared(name, input, output, price, attempt, faults, **options)


class CrewFailed(Exception):
    """The crew has failed, with what its process told of it."""

    def __init__(self, message: str, status_code: int | None = None) -> None:
        super().__init__(message)
        self.status_code = status_code


def _inputs(agent: Agent, value: Any) -> dict[str, Any]:
    data = agent.input.dump_python(value, mode="json")
    return data if isinstance(data, dict) else {"input": data}


async def _run(python: str, target: str, inputs: Mapping[str, Any], meter: Meter) -> dict[str, Any]:
    process = await _started(python, target)
    try:
        async with asyncio.TaskGroup() as calls:
            return await _Crew(process, meter, calls).run(inputs)
    except BaseExceptionGroup as several:
        raise several.exceptions[0] from None
    finally:
        _kill(process)
        await process.wait()


async def _started(python: str, target: str) -> Process:
    env = {key: value for key, value in os.environ.items() if not key.startswith("BATON_")}
    try:
        with logged(f"crew {target}") as said:
            return await asyncio.create_subprocess_exec(
                python,
                str(HOST),
                target,
                stdin=PIPE,
                stdout=PIPE,
                stderr=said,
                limit=LONGEST,
                env=QUIET | env,
                start_new_session=True,
            )
    except (FileNotFoundError, PermissionError):
        raise Permanent(
            f"there is no {python}, which is to run CrewAI:"
            " python -m venv .venv-crewai && .venv-crewai/bin/pip install crewai"
        ) from None


def _kill(process: Process) -> None:
    """End it with all that it has started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # all of it has ended


class _Crew:
    """One crew at work in its process."""

    def __init__(self, process: Process, meter: Meter, calls: asyncio.TaskGroup) -> None:
        assert process.stdin is not None  # noqa: S101  both are pipes
        assert process.stdout is not None  # noqa: S101
        self._process = process
        self._in, self._out = process.stdin, process.stdout
        self._meter = meter
        self._calls = calls
        self._asking: set[asyncio.Task[None]] = set()
        self._passages: defaultdict[str, deque[MeteredCall]] = defaultdict(deque)
        """Calls under way, by their models: CrewAI does not tell which of them has ended."""

    async def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        self._tell(inputs)
        async for line in self._out:
            told = json.loads(line)
            if "done" in told:
                for asking in self._asking:
                    asking.cancel()
                return dict(told["done"])
            if "error" in told:
                error = told["error"]
                raise CrewFailed(f"{error['type']}: {error['message']}", error["status_code"])
            await self._heard(told)
        code = await self._process.wait()
        raise CrewFailed(f"the process of the crew has ended with {code}: see the worker's log")

    async def _heard(self, told: dict[str, Any]) -> None:
        if "model" in told:
            # It may wait at a gate, and others go on.
            asking = self._calls.create_task(self._let(told["model"], told["name"], told["said"]))
            self._asking.add(asking)
            asking.add_done_callback(self._asking.discard)
        elif "ended" in told:
            passage = self._of(told["ended"])
            if passage is not None:
                await passage.end(Tokens(told["input"], told["output"]), told["heard"])
        elif "failed" in told:
            passage = self._of(told["failed"])
            if passage is not None:
                await passage.fail(CrewFailed(told["why"]))
        elif "said" in told:
            self._meter.ctx.say(told["said"], agent=told["agent"])
        elif "progress" in told:
            self._meter.ctx.progress(**told["progress"])

    async def _let(self, number: int, name: str, said: int) -> None:
        try:
            passage = await self._meter.begin(name, said)
        except BatonError as error:
            self._tell({"stop": number, "why": str(error)})
            return
        self._passages[name].append(passage)
        self._tell({"go": number})

    def _of(self, name: str) -> MeteredCall | None:
        under_way = self._passages[name]
        return under_way.popleft() if under_way else None

    def _tell(self, what: Mapping[str, Any]) -> None:
        self._in.write(json.dumps(what).encode() + b"\n")
