"""Graphs of LangGraph as agents."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Unpack
from uuid import UUID

from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.messages import AIMessage
from langchain_core.outputs import LLMResult
from langgraph.pregel import Pregel

from schemas.errors import Fault, Permanent
from schemas.usage import Price
from workers.adapters.declared import Attempt, Options, declared
from workers.adapters.mapping import answer, fits, prompt
from workers.adapters.meter import Meter, MeteredCall, Tokens
from workers.agent import Agent
from workers.context import Context


def langgraph(
    name: str,
    graph: Any,
    *,
    input: Any,
    output: Any,
    prepare: Callable[[Context, Any], Any] | None = None,
    result: Callable[[Any], Any] | None = None,
    config: Mapping[str, Any] | None = None,
    stream: bool = False,
    price: Price | None = None,
    **options: Unpack[Options],
) -> Agent:
    """Make an agent of a compiled graph, such as `create_agent(...)` gives.

    A graph over messages is given the input as a message, any other one the fields of the input; `prepare(ctx, input)`
    gives it something else. The output is its `structured_response`, or its state, or the text of its last message, the
    first of them that fits; `result(state)` takes something else. `config` is LangGraph's.

    Each model call that the graph makes passes the gates of the cluster before it is made, and is counted by its
    usage; `price` is what a call costs whose price is not known. A node that ends and what it writes to its stream are
    progress of the run; with `stream`, what its models say is in the run's events while they say it. At the agent's
    timeout the graph is cancelled; a sync node runs on in its thread and its result is dropped. Another attempt runs
    the whole graph again, on a thread of its own if there is a checkpointer.

    An async node that calls a model with `.invoke()` holds up its worker: that call is counted, but passes no gate, and
    the run is warned. A graph that interrupts itself fails for good: use `ctx.ask_human` or `approve`.
    """
    faults = []
    if hasattr(graph, "compile") and not isinstance(graph, Pregel):
        faults.append(Fault("graph", "it is not compiled: give graph.compile()"))
    elif not isinstance(graph, Pregel):
        faults.append(Fault("graph", f"a compiled graph is wanted, not {type(graph).__name__}"))

    def attempt(agent: Agent) -> Attempt:
        async def act(ctx: Context, value: Any, meter: Meter) -> Any:
            given = prepare(ctx, value) if prepare else _state(agent, graph, ctx, value)
            state = await _run(graph, given, _config(ctx, meter, config or {}), ctx, stream)
            return result(state) if result else _output(agent, state)

        return act

    return declared(name, input, output, price, attempt, faults, **options)


def _state(agent: Agent, graph: Any, ctx: Context, value: Any) -> Any:
    data = agent.input.dump_python(value)
    if "messages" in graph.channels and not (isinstance(data, dict) and "messages" in data):
        return {"messages": [("user", prompt(agent, ctx, value))]}
    return data


def _config(ctx: Context, meter: Meter, given: Mapping[str, Any]) -> dict[str, Any]:
    calls = _ModelCalls(meter)
    thread = {"thread_id": f"{ctx.idempotency_key}:{ctx.attempt}"}
    return {
        **given,
        "configurable": {**thread, **given.get("configurable", {})},
        "callbacks": [*given.get("callbacks", ()), _Beside(calls), _Inside(calls)],
    }


async def _run(graph: Any, given: Any, config: dict[str, Any], ctx: Context, stream: bool) -> Any:
    state: Any = None
    modes = ["values", "updates", "custom", *(["messages"] if stream else [])]
    async for kind, chunk in graph.astream(given, config, stream_mode=modes):
        if kind == "values":
            state = chunk
        elif kind == "messages":
            message, about = chunk
            if isinstance(message, AIMessage) and message.text:
                ctx.say(str(message.text), node=about["langgraph_node"])
        elif kind == "custom":
            ctx.progress(**chunk if isinstance(chunk, dict) else {"custom": chunk})
        elif "__interrupt__" in chunk:
            raise Permanent(
                "the graph interrupts itself, and nobody could resume it: use ctx.ask_human or approve"
            )
        else:
            for node in chunk:
                ctx.progress(node=node)
    return state


def _output(agent: Agent, state: Any) -> Any:
    if not isinstance(state, dict):
        return answer(agent, state)
    structured = state.get("structured_response")
    if structured is not None:
        return structured
    if state.get("messages") and not fits(agent.output, state):
        return answer(agent, str(state["messages"][-1].text))
    return state


class _ModelCalls:
    """The model calls of one run of a graph, as its callbacks tell of them from the loop and from threads of nodes."""

    def __init__(self, meter: Meter) -> None:
        self.loop = asyncio.get_running_loop()
        self._meter = meter
        self._passages: dict[UUID, MeteredCall] = {}
        self._past: dict[UUID, tuple[str, int]] = {}
        """What is called past the gates."""

    async def begin(self, run: UUID, prompts: list[str], told: Mapping[str, Any]) -> None:
        self._passages[run] = await self._meter.begin(_name(told), sum(map(len, prompts)))

    async def end(self, run: UUID, response: LLMResult) -> None:
        passage = self._passages.pop(run, None)
        if passage is not None:
            await passage.end(_tokens(response), _length(response))

    async def fail(self, run: UUID, error: BaseException) -> None:
        passage = self._passages.pop(run, None)
        if passage is not None:
            await passage.fail(error)

    def begin_past(self, run: UUID, prompts: list[str], told: Mapping[str, Any]) -> None:
        if run not in self._passages:
            self._past[run] = _name(told), sum(map(len, prompts))

    def end_past(self, run: UUID, response: LLMResult) -> None:
        if run in self._past:
            self._meter.count_past(*self._past.pop(run), _tokens(response), _length(response))


class _Beside(AsyncCallbackHandler):
    """Hears of the calls that are awaited on the loop of the attempt; on any other one it cannot refuse them."""

    raise_error = True

    def __init__(self, calls: _ModelCalls) -> None:
        self._calls = calls

    async def on_llm_start(
        self,
        serialized: dict[str, Any],
        prompts: list[str],
        *,
        run_id: UUID,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        told = {**kwargs, **(metadata or {})}
        if asyncio.get_running_loop() is self._calls.loop:
            await self._calls.begin(run_id, prompts, told)
        else:
            self._calls.begin_past(run_id, prompts, told)

    async def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        if asyncio.get_running_loop() is self._calls.loop:
            await self._calls.end(run_id, response)
        else:
            self._calls.end_past(run_id, response)

    async def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        if asyncio.get_running_loop() is self._calls.loop:
            await self._calls.fail(run_id, error)


class _Inside(BaseCallbackHandler):
    """Hears of the calls that sync nodes make, in threads of theirs: LangChain would not let `_Beside` refuse them."""

    raise_error = True
    run_inline = True

    def __init__(self, calls: _ModelCalls) -> None:
        self._calls = calls

    def on_llm_start(
        self,
        serialized: dict[str, Any],
        prompts: list[str],
        *,
        run_id: UUID,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self._there(lambda: self._calls.begin(run_id, prompts, {**kwargs, **(metadata or {})}))

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        self._there(lambda: self._calls.end(run_id, response))

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        self._there(lambda: self._calls.fail(run_id, error))

    def _there(self, act: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do this on the loop of the attempt and wait for it, in a thread that may wait."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            asyncio.run_coroutine_threadsafe(act(), self._calls.loop).result()


def _name(told: Mapping[str, Any]) -> str:
    """The model as gates and prices know it, such as `openai:gpt-5-mini`."""
    asked = told.get("invocation_params") or {}
    model = told.get("ls_model_name") or asked.get("model") or asked.get("model_name") or asked.get("_type")
    return f"{told.get('ls_provider') or 'langchain'}:{model or 'unnamed'}"


def _tokens(response: LLMResult) -> Tokens:
    tokens = Tokens(0, 0)
    for generation in (one for several in response.generations for one in several):
        used = getattr(getattr(generation, "message", None), "usage_metadata", None)
        if used:
            tokens = Tokens(tokens.input + used["input_tokens"], tokens.output + used["output_tokens"])
    if any(tokens):
        return tokens
    used = (response.llm_output or {}).get("token_usage") or {}
    return Tokens(used.get("prompt_tokens") or 0, used.get("completion_tokens") or 0)


def _length(response: LLMResult) -> int:
    return sum(len(one.text) for several in response.generations for one in several)
