"""The loop of a model agent, on pydantic-ai: ask the model, call its tools, until it answers.

Every call is made through the journal of the step. A response of the model takes places in it for the tools that it
calls, in the order in which it names them, so that they may run at the same time. Loaded in workers only, when a model
agent first runs.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict, deque
from collections.abc import Awaitable, Sequence
from typing import Any, NamedTuple

from pydantic_ai import Agent, ModelRetry, RunContext
from pydantic_ai import Tool as ModelTool
from pydantic_ai.messages import ModelMessage, ModelResponse, ToolCallPart
from pydantic_ai.models import Model as Client
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import UsageLimits

from schemas.errors import Permanent, ToolError
from workers.asking import NOTHING, Question
from workers.calls import Call, Made
from workers.context import Context
from workers.journal import Found
from workers.models.brain import WARN_AT, Brain
from workers.models.clients import RESPONSE, client_of
from workers.models.named import Model
from workers.models.requests import Requests, Wording
from workers.tools.declared import AskFirst, Tool, ToolCall


class WentRound(Permanent):
    """The model was asked as often as it may be, and has given no answer."""


class Places(NamedTuple):
    """Where a call of a tool stands in the journal, and what may be asked before it."""

    question: int
    call: int


class Conversation:
    """One attempt to get an answer."""

    def __init__(self, brain: Brain, ctx: Context, model: Model) -> None:
        self._brain = brain
        self._ctx = ctx
        self._model = model
        self._requests = Requests(brain, ctx, model)
        self._places: defaultdict[str, deque[Places]] = defaultdict(deque)
        self._calls = 0
        self.heard: list[ModelMessage] = []
        """All that was said before the last answer of the model."""
        self._in_flight: set[asyncio.Future[None]] = set()

    async def run(self, value: Any, said: Sequence[ModelMessage] = ()) -> Any:
        """The model's answer to this input, or to what was `said` about it before, which ends with a request.

        Raises pydantic-ai's `UnexpectedModelBehavior` if none fits, and `WentRound` if there is none.
        """
        brain = self._brain
        agent: Agent[None, Any] = Agent(
            _Journaled(client_of(self._model), self),
            output_type=brain.output,
            instructions=brain.instructions,
            name=brain.agent,
            deps_type=type(None),
            model_settings=ModelSettings(**brain.settings),  # type: ignore[typeddict-item]
            retries=brain.corrections,
            tools=[self._offered(tool) for tool in brain.tools],
        )
        # The journal's count is the one that counts.
        result = await agent.run(
            None if said else self._prompt(value),
            message_history=said or None,
            usage_limits=UsageLimits(request_limit=None),
        )
        return result.output

    def _prompt(self, value: Any) -> str:
        given = self._brain.input.dump_python(value, mode="json")
        said = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
        if self._ctx.intent in (None, given):
            return said
        return f"{said}\n\nThe original request: {json.dumps(self._ctx.intent, ensure_ascii=False)}"

    def _offered(self, tool: Tool) -> ModelTool[None]:
        async def call(run: RunContext[None], **arguments: Any) -> Any:
            return await self._use(tool, run.tool_call_id or "", arguments)

        # A step that is set aside has nothing else in flight.
        alone = tool.gate is not None
        return ModelTool.from_schema(
            call, tool.name, tool.description, tool.schema, takes_ctx=True, sequential=alone
        )

    async def _use(self, tool: Tool, call_id: str, arguments: dict[str, Any]) -> Any:
        ctx, places = self._ctx, self._places[call_id].popleft()
        try:
            valid = tool.checked(arguments)
            if tool.gate is not None:
                await self._ask_first(tool.name, tool.gate, places.question, arguments)
        except ToolError as error:
            raise ModelRetry(str(error)) from None
        place = places.call
        told = ToolCall(tool.name, f"{ctx.idempotency_key}:{place}", ctx.tenant, ctx.labels)

        async def use() -> Made:
            return Made(await tool(told, valid, self._brain.tool_timeout))

        async def act() -> dict[str, Any]:
            call = self._call(tool.name, place, arguments)
            try:
                return {"result": (await ctx.through(call, use)).value}
            except ToolError as error:
                return {"error": str(error)}

        done = await self._beside(ctx.kept(place, f"tool {tool.name}", act, lambda found: found.value))
        if "error" in done:
            raise ModelRetry(done["error"])
        return done["result"]

    async def _beside(self, work: Awaitable[Any]) -> Any:
        """Await a call of a tool. If it fails, those beside it end first, and are kept: they would be cancelled."""
        flight: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._in_flight.add(flight)
        try:
            return await work
        except Exception as error:  # noqa: BLE001  raised again below
            failure = error
        finally:
            self._in_flight.discard(flight)
            flight.set_result(None)
        if self._in_flight:
            await asyncio.wait(self._in_flight)
        raise failure

    async def _ask_first(self, name: str, gate: AskFirst, place: int, arguments: dict[str, Any]) -> None:
        """Raises `ToolError` if nobody lets the model call this."""
        default = NOTHING if gate.expires is None else False
        text = f"May {self._brain.agent} call {name}?"
        question = Question(text, bool, gate.audience, gate.expires, default, context=arguments)
        allowed = await self._ctx.kept(
            place, f"ask tool {name}", question, lambda found: question.answered(found.value)
        )
        if not allowed:
            raise ToolError("this call is not allowed; do not repeat it")

    async def ask(
        self, messages: list[ModelMessage], settings: ModelSettings | None, parameters: ModelRequestParameters
    ) -> ModelResponse:
        """The model's next response, from the journal or from its provider."""
        if self._calls == self._brain.max_calls:
            raise WentRound(f"{self._model.id} was called {self._calls} times without giving an answer")
        self._calls += 1
        self.heard = messages
        if self._calls == WARN_AT:
            self._ctx.warn(f"{self._model.id} is called for the {WARN_AT}th time", calls=self._calls)

        place = self._ctx.place()
        wording = Wording(messages, settings, parameters)

        async def act() -> dict[str, Any]:
            return await self._requests.answered(place, wording)

        response: ModelResponse = await self._ctx.kept(place, "model", act, self._read)
        for part in response.parts:
            if isinstance(part, ToolCallPart):
                self._places[part.tool_call_id].append(Places(self._ctx.place(), self._ctx.place()))
        return response

    def _call(self, name: str, place: int, arguments: Any) -> Call:
        ctx = self._ctx
        return Call(
            "tool",
            name,
            self._brain.agent,
            ctx.workflow,
            ctx.tenant,
            ctx.run_id,
            ctx.path,
            ctx.attempt,
            place,
            f"{ctx.idempotency_key}:{place}",
            arguments,
        )

    def _read(self, found: Found) -> ModelResponse:
        """An answer from the journal; what it has cost, and what had to be done for it, is told once."""
        kept = found.value
        if found.owed:
            self._ctx.spend(**kept["usage"])
            for model, reason in kept.get("instead_of", {}).items():
                self._ctx.warn(f"{kept['model']} answered instead of {model}: {reason}", model=kept["model"])
        return RESPONSE.validate_python(kept["response"])


class _Journaled(WrapperModel):
    """The model as pydantic-ai sees it."""

    def __init__(self, wrapped: Client, conversation: Conversation) -> None:
        super().__init__(wrapped)
        self._conversation = conversation

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        return await self._conversation.ask(messages, model_settings, model_request_parameters)
