"""Agents of pydantic-ai as agents, with the journal that those of `llm_agent` have."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any, Unpack

from pydantic import TypeAdapter
from pydantic_ai import ModelRetry, RunContext, ToolReturn
from pydantic_ai.agent import AbstractAgent
from pydantic_ai.capabilities import AbstractCapability, CapabilityOrdering
from pydantic_ai.exceptions import (
    ToolFailed,
    ToolFailedError,
    ToolRetryError,
    UnexpectedModelBehavior,
    UsageLimitExceeded,
    UserError,
)
from pydantic_ai.messages import ModelMessagesTypeAdapter, ModelResponse, ToolCallPart, ToolReturnContent
from pydantic_ai.models import CompletedStreamedResponse, Model, StreamedResponse
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.wrapper import WrapperModel

from schemas.errors import Fault, Permanent
from schemas.usage import Price, Usage
from workers.adapters.declared import Attempt, Options, declared
from workers.adapters.mapping import answer, prompt
from workers.adapters.meter import Meter, Tokens
from workers.agent import Agent
from workers.calls import Made
from workers.context import Context
from workers.journal import Found
from workers.models.speech import pieces

RESPONSE = TypeAdapter(ModelResponse)
RESULT: TypeAdapter[Any] = TypeAdapter(ToolReturn | ToolReturnContent)


def pydantic_ai(
    name: str,
    agent: Any,
    *,
    input: Any,
    output: Any,
    prepare: Callable[[Context, Any], Any] | None = None,
    result: Callable[[Any], Any] | None = None,
    deps: Callable[[Context], Any] | None = None,
    stream: bool = False,
    price: Price | None = None,
    **options: Unpack[Options],
) -> Agent:
    """Make an agent of a `pydantic_ai.Agent`, or of a function that makes one, with all that it has.

    It is asked with the input as text; `prepare(ctx, input)` gives another prompt, `deps(ctx)` its dependencies. The
    output is that of the agent, which is asked for `output` if it would give text; `result(run_result)` takes something
    else.

    Each call of a model and of a tool passes the gates of the cluster before it is made, and stands in the journal of
    the step when it has ended: another attempt neither makes nor pays for it again. Model calls are counted by their
    usage; `price` is what one costs whose price is not known. What a tool does inside, such as asking another agent,
    belongs to the tool: it is neither gated nor counted. Its result must have a JSON form. Functions that take the
    output run again. Each tool that is called is progress of the run; with `stream`, what its models say is in
    its events while they say it. At the agent's timeout the run is cancelled.
    """
    faults = []
    if not isinstance(agent, AbstractAgent) and not callable(agent):
        faults.append(Fault("agent", f"a pydantic_ai.Agent is wanted, not {type(agent).__name__}"))

    def attempt(ours: Agent) -> Attempt:
        async def act(ctx: Context, value: Any, meter: Meter) -> Any:
            given = prepare(ctx, value) if prepare else prompt(ours, ctx, value)
            theirs = agent if isinstance(agent, AbstractAgent) else agent()
            asked = {"output_type": output} if theirs.output_type is str and output is not str else {}
            try:
                ended = await theirs.run(
                    given,
                    deps=deps(ctx) if deps else None,
                    capabilities=[_Journaled(ctx, meter, stream)],
                    **asked,
                )
            except (UnexpectedModelBehavior, UsageLimitExceeded, UserError) as error:
                raise Permanent(f"{name} gave no answer that fits: {error}") from None
            return result(ended) if result else answer(ours, ended.output)

        return act

    return declared(name, input, output, price, attempt, faults, **options)


class _Journaled(AbstractCapability[Any]):
    """Puts the calls of one attempt into the journal of its step."""

    def __init__(self, ctx: Context, meter: Meter, stream: bool) -> None:
        self.stream = stream
        self._ctx = ctx
        self._meter = meter
        self._places: defaultdict[str, deque[int]] = defaultdict(deque)
        """Places of the journal for the tools that a response calls, so that they may run at the same time."""

    def get_ordering(self) -> CapabilityOrdering:
        return CapabilityOrdering(position="outermost")

    def get_wrapper_model(self, model: Model) -> Model:
        return _JournaledModel(model, self)

    async def say(self, speech: StreamedResponse, outputs: Collection[str]) -> ModelResponse:
        """Say what a model says, and give the whole of it."""
        async for piece in pieces(speech, outputs):
            self._ctx.say(piece.text, **piece.about)
        # An answer that is kept is not said again: what was said of it must stand before it.
        await self._ctx.heard()
        return speech.get()

    async def asked(self, model: Model, messages: list[Any], act: Callable[[], Any]) -> ModelResponse:
        """The model's response, from the journal or from its provider."""
        ctx, meter, place = self._ctx, self._meter, self._ctx.place()
        said = len(ModelMessagesTypeAdapter.dump_json(messages))

        async def request() -> Made:
            response: ModelResponse = await act()
            data = RESPONSE.dump_python(response, mode="json")
            used = Tokens(response.usage.input_tokens, response.usage.output_tokens)
            served = _served(model, response)
            used = used.or_estimate(said, len(str(data["parts"])))
            return Made(data, meter.usage(served, used), used.output)

        async def call() -> dict[str, Any]:
            passing = meter.call("model", _names(model)[0], place, f"{ctx.idempotency_key}:{place}", said)
            for other in _names(model)[1:]:
                meter.usage(other, Tokens(0, 0))
            made = await ctx.through(passing, request)
            return {"response": made.value, "usage": made.usage.model_dump(), "counted": made.counted}

        response: ModelResponse = await ctx.kept(place, "model", call, self._read)
        for part in response.parts:
            if isinstance(part, ToolCallPart):
                self._places[part.tool_call_id].append(ctx.place())
        return response

    def _read(self, found: Found) -> ModelResponse:
        if found.owed:
            counted = found.value.get("counted", False)
            self._ctx.account(Usage.model_validate(found.value["usage"]), counted=counted)
        return RESPONSE.validate_python(found.value["response"])

    async def wrap_tool_execute(
        self, ctx: RunContext[Any], *, call: ToolCallPart, tool_def: Any, args: Any, handler: Any
    ) -> Any:
        ours, places = self._ctx, self._places[call.tool_call_id]
        place = places.popleft() if places else ours.place()
        ours.progress(tool=call.tool_name)

        async def use() -> Made:
            return Made(RESULT.dump_python(await handler(args), mode="json"))

        async def act() -> dict[str, Any]:
            key = f"{ours.idempotency_key}:{place}"
            passing = self._meter.call("tool", call.tool_name, place, key, arguments=call.args_as_dict())
            try:
                return {"result": (await ours.through(passing, use)).value}
            except (ToolRetryError, ToolFailedError, ModelRetry, ToolFailed) as error:
                said = error.__cause__ if isinstance(error, ToolRetryError | ToolFailedError) else error
                if not isinstance(said, ModelRetry | ToolFailed):
                    raise
                return {"failed" if isinstance(said, ToolFailed) else "retry": said.message}

        done = await ours.kept(place, f"tool {call.tool_name}", act, lambda found: found.value)
        if "retry" in done:
            raise ModelRetry(done["retry"])
        if "failed" in done:
            raise ToolFailed(done["failed"])
        return RESULT.validate_python(done["result"])


class _JournaledModel(WrapperModel):
    """The model as pydantic-ai sees it."""

    def __init__(self, wrapped: Model, journaled: _Journaled) -> None:
        super().__init__(wrapped)
        self._journaled = journaled

    async def request(
        self, messages: Any, model_settings: Any, model_request_parameters: Any
    ) -> ModelResponse:
        wording = messages, model_settings, model_request_parameters

        async def ask() -> ModelResponse:
            if not self._journaled.stream:
                return await self.wrapped.request(*wording)
            outputs = {tool.name for tool in model_request_parameters.output_tools}
            async with self.wrapped.request_stream(*wording) as speech:
                return await self._journaled.say(speech, outputs)

        return await self._journaled.asked(self.wrapped, messages, ask)

    @asynccontextmanager
    async def request_stream(
        self, messages: Any, model_settings: Any, model_request_parameters: Any, run_context: Any = None
    ) -> AsyncIterator[StreamedResponse]:
        """Streamed from the whole response, which is what the journal keeps."""
        response = await self.request(messages, model_settings, model_request_parameters)
        yield CompletedStreamedResponse(
            response, model_request_parameters=model_request_parameters, replay_events=True
        )


def _names(model: Model) -> list[str]:
    """The models that this may call, as gates and prices know them."""
    if isinstance(model, FallbackModel):
        return [name for one in model.models for name in _names(one)]
    return [f"{model.system}:{model.model_name}"]


def _served(model: Model, response: ModelResponse) -> str:
    """The one that has answered."""
    names = _names(model)
    return next((one for one in names if one.endswith(f":{response.model_name}")), names[0])
