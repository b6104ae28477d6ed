"""Agents of OpenAI's Agents SDK as agents."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from typing import Any, Unpack

from agents import Agent as ForeignAgent
from agents import (
    InputGuardrailTripwireTriggered,
    MaxTurnsExceeded,
    ModelProvider,
    RunConfig,
    RunHooks,
    Runner,
    UserError,
)
from agents.models.interface import Model
from agents.usage import Usage as TheirUsage

from schemas.errors import Fault, Permanent
from schemas.usage import Price
from workers.adapters.declared import Attempt, Options, declared
from workers.adapters.mapping import answer, prompt
from workers.adapters.meter import Meter, MeteredCall, Tokens
from workers.agent import Agent
from workers.context import Context


def openai_agents(
    name: str,
    agent: Any,
    *,
    input: Any,
    output: Any,
    prepare: Callable[[Context, Any], Any] | None = None,
    result: Callable[[Any], Any] | None = None,
    sdk_context: Callable[[Context], Any] | None = None,
    config: Callable[[], RunConfig] | None = None,
    max_turns: int = 10,
    stream: bool = False,
    price: Price | None = None,
    **options: Unpack[Options],
) -> Agent:
    """Make an agent of an `agents.Agent`, with its tools and those that it hands over to.

    It is asked with the input as text; `prepare(ctx, input)` gives it something else. The output is what the last agent
    ended with, or the JSON in its text; `result(run_result)` takes something else. Tools find Baton's `Context` in
    their `RunContextWrapper`, or what `sdk_context(ctx)` gives. `config()` gives the SDK's `RunConfig`; without one, no
    traces are sent to OpenAI. `max_turns` end the step for good.

    Each model call passes the gates of the cluster before it is made, and is counted by its usage; `price` is what a
    call costs whose price is not known. That holds for agents used as tools, unless they have model objects of their
    own: those calls are counted at the end of the run, and the run is warned. Agents that begin, hand over and use
    tools are progress of the run; with `stream`, what they say is in its events while they say it. At the agent's
    timeout the run is cancelled. Another attempt runs all of it again.
    """
    faults = []
    if not isinstance(agent, ForeignAgent):
        faults.append(Fault("agent", f"an agents.Agent is wanted, not {type(agent).__name__}"))

    def attempt(ours: Agent) -> Attempt:
        async def act(ctx: Context, value: Any, meter: Meter) -> Any:
            given = prepare(ctx, value) if prepare else prompt(ours, ctx, value)
            told = sdk_context(ctx) if sdk_context else ctx
            run_config = config() if config else RunConfig(tracing_disabled=True)
            ended = await _run(agent, given, told, _gated(run_config, meter), max_turns, stream, meter)
            return result(ended) if result else answer(ours, ended.final_output)

        return act

    return declared(name, input, output, price, attempt, faults, **options)


async def _run(
    agent: Any, given: Any, context: Any, config: RunConfig, max_turns: int, stream: bool, meter: Meter
) -> Any:
    heard = _Heard(meter, config)
    run = partial(_streamed, meter.ctx) if stream else Runner.run
    try:
        ended = await run(agent, given, context=context, run_config=config, max_turns=max_turns, hooks=heard)
    except (MaxTurnsExceeded, InputGuardrailTripwireTriggered, UserError) as error:
        raise Permanent(str(error)) from None
    if ended.interruptions:
        tools = ", ".join(str(one.name) for one in ended.interruptions)
        raise Permanent(f"{tools} wants an approval, and nobody could give it: use ctx.ask_human or approve")
    used = ended.context_wrapper.usage
    calls = used.requests - meter.counted.model_calls
    if calls > 0:
        missed = used.input_tokens - heard.tokens.input, used.output_tokens - heard.tokens.output
        meter.count_past("openai:unnamed", 0, Tokens(*missed), 0, calls)
    return ended


async def _streamed(ctx: Context, agent: Any, given: Any, **options: Any) -> Any:
    running = Runner.run_streamed(agent, given, **options)
    try:
        async for event in running.stream_events():
            if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
                ctx.say(event.data.delta, agent=running.current_agent.name)
    finally:
        running.cancel()  # what is complete stays so
    return running


def _gated(config: RunConfig, meter: Meter) -> RunConfig:
    provider = _GatedProvider(config.model_provider, meter)
    if isinstance(config.model, Model):
        return replace(config, model_provider=provider, model=_Gated(config.model, meter))
    return replace(config, model_provider=provider)


class _GatedProvider(ModelProvider):
    """Gives models whose calls pass the gates."""

    def __init__(self, provider: ModelProvider, meter: Meter) -> None:
        self._provider = provider
        self._meter = meter

    def get_model(self, model_name: str | None) -> Model:
        return _Gated(self._provider.get_model(model_name), self._meter)

    async def aclose(self) -> None:
        await self._provider.aclose()


class _Gated(Model):
    """A model whose calls pass the gates."""

    def __init__(self, model: Model, meter: Meter) -> None:
        self._model = model
        self._meter = meter
        self._name = _name(model)

    async def get_response(self, system_instructions: Any, input: Any, *args: Any, **kwargs: Any) -> Any:
        return await self._meter.made(
            self._name,
            _said(system_instructions, input),
            lambda: self._model.get_response(system_instructions, input, *args, **kwargs),
            lambda response: (_tokens(response.usage), len(str(response.output))),
        )

    async def stream_response(
        self, system_instructions: Any, input: Any, *args: Any, **kwargs: Any
    ) -> AsyncIterator[Any]:
        passage = await self._meter.begin(self._name, _said(system_instructions, input))
        tokens, heard = Tokens(0, 0), 0
        try:
            async for event in self._model.stream_response(system_instructions, input, *args, **kwargs):
                if event.type == "response.completed":
                    tokens, heard = _tokens(event.response.usage), len(str(event.response.output))
                yield event
        except BaseException as error:
            await passage.fail(error)
            raise
        await passage.end(tokens, heard)

    def get_retry_advice(self, request: Any) -> Any:
        return self._model.get_retry_advice(request)

    async def close(self) -> None:
        await self._model.close()

    async def _cleanup_on_run_end(self, owner: object) -> None:
        await self._model._cleanup_on_run_end(owner)


class _Heard(RunHooks[Any]):
    """Hears of what goes on in a run, and lets calls pass of agents that have a model object of their own."""

    def __init__(self, meter: Meter, config: RunConfig) -> None:
        self._meter = meter
        self._config = config
        self._passage: MeteredCall | None = None
        self.tokens = Tokens(0, 0)

    async def on_llm_start(self, context: Any, agent: Any, system_prompt: Any, input_items: Any) -> None:
        if self._config.model is None and isinstance(agent.model, Model):
            self._passage = await self._meter.begin(_name(agent.model), _said(system_prompt, input_items))

    async def on_llm_end(self, context: Any, agent: Any, response: Any) -> None:
        tokens, passage = _tokens(response.usage), self._passage
        self.tokens = Tokens(self.tokens.input + tokens.input, self.tokens.output + tokens.output)
        if passage is not None:
            self._passage = None
            await passage.end(tokens, len(str(response.output)))

    async def on_agent_start(self, context: Any, agent: Any) -> None:
        self._meter.ctx.progress(agent=agent.name)

    async def on_handoff(self, context: Any, from_agent: Any, to_agent: Any) -> None:
        self._meter.ctx.progress(handoff=to_agent.name)

    async def on_tool_start(self, context: Any, agent: Any, tool: Any) -> None:
        self._meter.ctx.progress(tool=tool.name)


def _name(model: Model) -> str:
    """The model as gates and prices know it, such as `openai:gpt-5-mini`."""
    name = str(getattr(model, "model", None) or type(model).__name__)
    provider, slash, rest = name.partition("/")
    return f"{provider}:{rest}" if slash else f"openai:{name}"


def _said(instructions: Any, input: Any) -> int:
    return len(str(instructions or "")) + len(str(input))


def _tokens(usage: TheirUsage | None) -> Tokens:
    return Tokens(usage.input_tokens, usage.output_tokens) if usage else Tokens(0, 0)
