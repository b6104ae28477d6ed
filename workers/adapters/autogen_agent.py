"""Agents and teams of AutoGen as agents."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, Unpack

from autogen_agentchat.base import TaskResult
from autogen_agentchat.messages import BaseChatMessage, ModelClientStreamingChunkEvent
from autogen_core import CancellationToken
from autogen_core.models import ChatCompletionClient, CreateResult

from schemas.errors import AgentError, Fault
from schemas.usage import Price
from workers.adapters.declared import Attempt, Options, declared
from workers.adapters.mapping import answer, prompt
from workers.adapters.meter import Meter, Tokens
from workers.agent import Agent
from workers.context import Context

GRACE = 5.0
"""Seconds in which what is cancelled may end."""

Gate = Callable[[ChatCompletionClient], ChatCompletionClient]
"""Makes of a model client one whose calls are counted and pass the gates."""


def autogen(
    name: str,
    build: Callable[[Gate], Any],
    *,
    input: Any,
    output: Any,
    prepare: Callable[[Context, Any], Any] | None = None,
    result: Callable[[Any], Any] | None = None,
    price: Price | None = None,
    **options: Unpack[Options],
) -> Agent:
    """Make an agent of an AgentChat agent or team, such as `lambda gated: AssistantAgent("writer", gated(client))`.

    These remember what was said to them, so `build(gated)` makes a new one for each attempt; model clients may be
    shared. The task is the input as text; `prepare(ctx, input)` gives another one. The output is the content of the
    last message, or the JSON in its text; `result(task_result)` takes something else.

    Each call of a client that was given through `gated` passes the gates of the cluster before it is made, and is
    counted by its usage; `price` is what a call costs whose price is not known. Of other clients, what messages tell of
    their usage is counted at the end, and the run is warned. Messages are progress of the run, and
    what agents with `model_client_stream=True` say is in its events while they say it. At the agent's timeout
    the run is cancelled. Another attempt runs all of it again.
    """
    faults: list[Fault] = []
    if not callable(build):
        faults.append(
            Fault("build", "an agent of AutoGen remembers: give a function that makes one, lambda gated: ...")
        )

    def attempt(agent: Agent) -> Attempt:
        async def act(ctx: Context, value: Any, meter: Meter) -> Any:
            task = prepare(ctx, value) if prepare else prompt(agent, ctx, value)
            ended = await _run(build(lambda client: _Gated(client, meter)), task, ctx)
            _count_past(ended, meter)
            return result(ended) if result else _output(agent, ended)

        return act

    return declared(name, input, output, price, attempt, faults, **options)


async def _run(runnable: Any, task: Any, ctx: Context) -> TaskResult:
    token = CancellationToken()
    running = asyncio.ensure_future(_ended(runnable.run_stream(task=task, cancellation_token=token), ctx))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        # First the token, which reaches what agents of a team do: a team that is cancelled waits for them to end.
        token.cancel()
        running.cancel()
        await asyncio.wait({running}, timeout=GRACE)
        raise


async def _ended(messages: AsyncIterator[Any], ctx: Context) -> TaskResult:
    ended: TaskResult | None = None
    async for one in messages:
        if isinstance(one, TaskResult):
            ended = one
        elif isinstance(one, ModelClientStreamingChunkEvent):
            ctx.say(one.content, source=one.source)
        elif one.source != "user":
            ctx.progress(source=one.source, message=type(one).__name__)
    if ended is None:
        raise AgentError("it ended without a result")
    return ended


def _count_past(ended: TaskResult, meter: Meter) -> None:
    """Count what messages tell of more than was counted: a client that nobody has gated."""
    told = [one.models_usage for one in ended.messages if one.models_usage is not None]
    given, made = sum(one.prompt_tokens for one in told), sum(one.completion_tokens for one in told)
    if given + made > meter.counted.tokens:
        calls = max(1, len(told) - meter.counted.model_calls)
        meter.count_past("autogen:unnamed", 0, Tokens(given, made), 0, calls)


def _output(agent: Agent, ended: TaskResult) -> Any:
    said = [one for one in ended.messages if isinstance(one, BaseChatMessage)]
    if not said:
        raise AgentError("it ended without a message")
    return answer(agent, said[-1].content if hasattr(said[-1], "content") else said[-1].to_text())


class _Gated(ChatCompletionClient):
    """A client whose calls pass the gates."""

    def __init__(self, client: ChatCompletionClient, meter: Meter) -> None:
        self._client = client
        self._meter = meter
        self._name = _name(client)

    async def create(self, messages: Any, **options: Any) -> CreateResult:
        return await self._meter.made(
            self._name, len(str(messages)), lambda: self._client.create(messages, **options), _used
        )

    async def create_stream(self, messages: Any, **options: Any) -> AsyncGenerator[str | CreateResult, None]:
        passage = await self._meter.begin(self._name, len(str(messages)))
        used = Tokens(0, 0), 0
        try:
            async for piece in self._client.create_stream(messages, **options):
                if isinstance(piece, CreateResult):
                    used = _used(piece)
                yield piece
        except BaseException as error:
            await passage.fail(error)
            raise
        await passage.end(*used)

    async def close(self) -> None:
        await self._client.close()

    def actual_usage(self) -> Any:
        return self._client.actual_usage()

    def total_usage(self) -> Any:
        return self._client.total_usage()

    def count_tokens(self, messages: Any, **options: Any) -> int:
        return int(self._client.count_tokens(messages, **options))

    def remaining_tokens(self, messages: Any, **options: Any) -> int:
        return int(self._client.remaining_tokens(messages, **options))

    @property
    def capabilities(self) -> Any:
        return self._client.capabilities

    @property
    def model_info(self) -> Any:
        return self._client.model_info


def _used(result: CreateResult) -> tuple[Tokens, int]:
    return Tokens(result.usage.prompt_tokens, result.usage.completion_tokens), len(str(result.content))


def _name(client: ChatCompletionClient) -> str:
    """The model as gates and prices know it, such as `openai:gpt-5-mini`, as far as its client tells."""
    module = type(client).__module__.split(".")
    provider = module[2] if module[:2] == ["autogen_ext", "models"] else "autogen"
    try:
        config = client.dump_component().config
    except (NotImplementedError, TypeError, ValueError):
        config = {}
    return f"{provider}:{config.get('model') or type(client).__name__}"
