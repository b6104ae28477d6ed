"""The loop of a model agent, on pydantic-ai: ask the model, call its tools, until it answers.

Every call is made through the journal of the step. A response of the model takes places in it for the tools that it
calls, in the order in which it names them, so that they may run at the same time. Loaded in workers only, when a model
agent first runs.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Awaitable, Collection, Sequence
from typing import Any

import pydantic_core
from pydantic_ai import Agent, ModelRetry, RunContext
from pydantic_ai import Tool as ModelTool
from pydantic_ai.messages import ModelMessage, ModelResponse, ToolCallPart
from pydantic_ai.models import Model as Client
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import UsageLimits

from schemas.errors import Permanent, ToolError
from schemas.events import EventKind
from schemas.usage import Usage
from workers.context import Context
from workers.cuts.fitting import Cut
from workers.endings import SetAside
from workers.journal import Found
from workers.models.brain import WARN_AT, Brain
from workers.models.clients import RESPONSE, client_of
from workers.models.cutting import Conversed
from workers.models.hearsay import Hearsay
from workers.models.named import Model
from workers.models.recollection import Opening
from workers.models.requests import Requests, Wording
from workers.models.untrusted import instructed
from workers.storable import unstorable
from workers.tools.calling import Caller, JournalPlaces
from workers.tools.declared import Tool

NOTHING = Opening()


class WentRound(Permanent):
    """The model was asked as often as it may be, and has given no answer."""


class Conversation:
    """One attempt to get an answer."""

    def __init__(
        self, brain: Brain, ctx: Context, model: Model, hearsay: Hearsay, cuts: Sequence[Cut] = ()
    ) -> None:
        """`hearsay` is the same for all conversations of an attempt; `cuts` were made in what is asked, and are told
        with the first answer.
        """
        self._hearsay = hearsay
        self._brain = brain
        self._ctx = ctx
        self._model = model
        self._requests = Requests(brain, ctx, model)
        self._conversed = Conversed(brain)
        self._cuts = list(cuts)
        self._caller: Caller = ctx.tooling.caller(ctx, brain.tool_timeout, hearsay)
        self._places: defaultdict[str, deque[JournalPlaces]] = defaultdict(deque)
        self._calls = 0
        self.is_new = False
        """Whether its model was asked by this attempt, and not only read from the journal."""
        self.heard: list[ModelMessage] = []
        """All that was said before the last answer of the model."""
        self.tools: set[str] = set()
        """The names of those that the model may call."""
        self._in_flight: set[asyncio.Future[None]] = set()

    async def run(self, asked: str, said: Sequence[ModelMessage] = (), past: Opening = NOTHING) -> Any:
        """The model's answer to what is `asked`, or to what was `said` about it before, which ends with a request.

        Raises pydantic-ai's `UnexpectedModelBehavior` if none fits, and `WentRound` if there is none.
        """
        brain = self._brain
        tools = await self._caller.tools(brain.tools)
        self.tools = {tool.name for tool in tools}
        agent: Agent[None, Any] = Agent(
            _Journaled(client_of(self._model), self),
            output_type=brain.output,
            instructions=instructed(brain.instructions, tools),
            name=brain.agent,
            deps_type=type(None),
            model_settings=ModelSettings(**brain.settings),  # type: ignore[typeddict-item]
            retries=brain.corrections,
            tools=[self._offered(tool) for tool in tools],
        )
        agent.output_validator(self._storable)
        # The journal's count is the one that counts.
        result = await agent.run(
            None if said else past.passages + asked,
            message_history=said or past.turns or None,
            usage_limits=UsageLimits(request_limit=None),
        )
        return result.output

    def _storable(self, output: Any) -> Any:
        """The output, if it can be kept; else the model hears why not."""
        wrong = unstorable(self._brain.answers.dump_python(output, mode="json"))
        if wrong is not None:
            raise ModelRetry(f"it holds {wrong}: leave that out")
        return output

    def _offered(self, tool: Tool) -> ModelTool[None]:
        async def call(run: RunContext[None], /, **arguments: Any) -> Any:
            return await self._use(tool, run.tool_call_id or "", arguments)

        # A step that is set aside has nothing else in flight.
        alone = self._caller.may_ask(tool)
        return ModelTool.from_schema(
            call, tool.name, tool.spec.description, tool.spec.parameters, takes_ctx=True, sequential=alone
        )

    async def _use(self, tool: Tool, call_id: str, arguments: dict[str, Any]) -> Any:
        places = self._places[call_id].popleft()
        try:
            return await self._caller.use(tool, arguments, places, self._beside)
        except ToolError as error:
            raise ModelRetry(str(error)) from None
        except SetAside:
            await self._landed()
            raise

    async def _beside(self, work: Awaitable[Any]) -> Any:
        """Await a call of a tool. If it fails, those beside it end first, and are kept."""
        flight: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._in_flight.add(flight)
        try:
            return await work
        except Exception as error:  # noqa: BLE001  raised again below
            failure = error
        finally:
            self._in_flight.discard(flight)
            flight.set_result(None)
        await self._landed()
        raise failure

    async def _landed(self) -> None:
        """Wait for the calls in flight: they would be cancelled."""
        if self._in_flight:
            await asyncio.wait(self._in_flight)

    async def ask(
        self, messages: list[ModelMessage], settings: ModelSettings | None, parameters: ModelRequestParameters
    ) -> ModelResponse:
        """The model's next response, from the journal or from its provider."""
        self.heard = messages
        if self._calls == self._brain.max_calls:
            raise WentRound(f"{self._model.id} was called {self._calls} times without giving an answer")
        self._calls += 1
        self._hearsay.caution()
        if self._calls == WARN_AT:
            self._ctx.warn(f"{self._model.id} is called for the {WARN_AT}th time", calls=self._calls)

        place = self._ctx.place()
        fitting, cuts = self._conversed.fitted(messages)
        cuts, self._cuts = self._cuts + cuts, []

        async def act() -> dict[str, Any]:
            self.is_new = True
            wording = Wording(fitting, settings, parameters)
            return {**await self._requests.answered(place, wording), "cuts": cuts}

        response: ModelResponse = await self._ctx.kept(place, "model", act, self._read)
        known = {one.name for one in (*parameters.function_tools, *parameters.output_tools)}
        for part in response.parts:
            if isinstance(part, ToolCallPart):
                await self._placed(part, JournalPlaces(self._ctx.place(), self._ctx.place()), known)
        return response

    async def _placed(self, part: ToolCallPart, places: JournalPlaces, known: Collection[str]) -> None:
        """Set the place of a call aside, or write down that it cannot be one; pydantic-ai tells the model."""
        wrong = None if part.tool_name in known else "there is no such tool for this agent"
        given, unreadable = _arguments(part.args)
        if wrong is None and unreadable is None:
            self._places[part.tool_call_id].append(places)
        else:
            await self._caller.refuse(part.tool_name, given, places.call, wrong or f"{unreadable}")

    def _read(self, found: Found) -> ModelResponse:
        """An answer from the journal; what it has cost, and what had to be done for it, is told once."""
        kept = found.value
        if found.owed:
            self._ctx.account(Usage.model_validate(kept["usage"]), counted=kept.get("counted", False))
            for model, reason in kept.get("instead_of", {}).items():
                self._ctx.warn(f"{kept['model']} answered instead of {model}: {reason}", model=kept["model"])
            for cut in kept.get("cuts", ()):
                self._ctx.note(EventKind.STEP_CUT, cut)
        return RESPONSE.validate_python(kept["response"])


def _arguments(text: Any) -> tuple[Any, str | None]:
    """The arguments of a call, and what is wrong with them if they are a text that is no JSON."""
    if not isinstance(text, str):
        return text or {}, None
    try:
        return pydantic_core.from_json(text or "{}"), None
    except ValueError as error:
        return text, f"its arguments are no JSON: {error}"


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
