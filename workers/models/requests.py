"""One request of a model agent: to its model, and, if that does not answer, to those that stand in for it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

from openai import OpenAIError
from pydantic_ai.exceptions import AgentRunError
from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.settings import ModelSettings

from schemas.errors import AgentError, CallTimeout, CircuitOpen
from schemas.usage import Usage
from workers.calls import NONE, Call, Made, unpaid
from workers.context import Context
from workers.models.brain import Brain
from workers.models.clients import RESPONSE, bounds_of, client_of, usage_of
from workers.models.failures import ModelFailed, ModelRefused, failure, understood
from workers.models.named import Model
from workers.models.speech import pieces
from workers.models.standing_in import STAND_INS
from workers.storable import storable_data

AGAIN = 2
"""How often a request is repeated before the attempt fails, and the step's own retry goes on at this call."""
PAUSE = 0.2
"""Seconds before the first repetition, twice as many before the next."""
PATIENCE = 2.0
"""Seconds that are waited in a worker; a provider that wants more is asked by the step's next attempt."""


class Wording(NamedTuple):
    """What a model is asked."""

    messages: list[ModelMessage]
    settings: ModelSettings | None
    parameters: ModelRequestParameters


class Turn(NamedTuple):
    """One answer that is wanted."""

    place: int
    """In the journal."""
    wording: Wording
    tries: Iterator[int]
    """Each request has a number."""


class Requests:
    """How one attempt asks a model."""

    def __init__(self, brain: Brain, ctx: Context, model: Model) -> None:
        self._brain = brain
        self._ctx = ctx
        self._models = (model, *(one for one in brain.fallbacks if one != model))

    async def answered(self, place: int, wording: Wording) -> dict[str, Any]:
        """The first answer of its models, as it is kept in the journal. Raises what the last of them said."""
        turn = Turn(place, wording, itertools.count(1))
        refusals: list[tuple[Model, AgentError]] = []
        for model in self._models:
            is_last = model is self._models[-1]
            try:
                made = await self._patiently(model, turn, is_last=is_last)
            except AgentError as error:
                if not _leads_elsewhere(error):
                    raise
                refusals.append((model, error))
                continue
            for other, refusal in refusals:
                STAND_INS.tell(self._brain.agent, other, refusal, model)
            return {
                "response": made.value,
                "usage": made.usage.model_dump(),
                "counted": made.counted,
                "model": model.name,
                "instead_of": {one.name: str(error) for one, error in refusals},
            }
        raise _together([error for _, error in refusals])

    async def _patiently(self, model: Model, turn: Turn, *, is_last: bool) -> Made:
        """Repeat what fails in passing a few times, as long as no long wait is asked for."""
        pause = PAUSE
        for _ in range(AGAIN):
            try:
                return await self._through(model, turn)
            except ModelFailed as error:
                wait = max(pause, error.retry_after or 0.0)
                if wait > PATIENCE or isinstance(error, CallTimeout) or not (is_last or error.passing):
                    raise
            await asyncio.sleep(wait)
            pause *= 2
        return await self._through(model, turn)

    async def _through(self, model: Model, turn: Turn) -> Made:
        call = self._call(model, turn, *bounds_of(model, *turn.wording))

        async def act() -> Made:
            call.unseen = call.least
            return await self._made(model, turn, call)

        try:
            return await self._ctx.through(call, act)
        except BaseException:
            if (used := call.usage or call.unseen) != NONE:
                self._ctx.account(used, counted=call.counted)
            raise

    async def _made(self, model: Model, turn: Turn, call: Call) -> Made:
        limit = self._brain.call_timeout
        try:
            async with asyncio.timeout(limit) as clock:
                response = await self._requested(model, turn)
        except TimeoutError:
            if not clock.expired():
                raise
            raise _late(model, limit) from None
        except (AgentRunError, OpenAIError, ValueError) as error:
            if unpaid(error):
                call.unseen = NONE
            raise failure(model, error, client_of(model).base_url) from None
        usage = usage_of(model, turn.wording.messages, response)
        return Made(
            storable_data(RESPONSE.dump_python(response, mode="json")), usage, response.usage.output_tokens
        )

    async def _requested(self, model: Model, turn: Turn) -> ModelResponse:
        client = client_of(model)
        if not self._brain.stream:
            with understood():
                return await client.request(*turn.wording)
        told = {"call": turn.place, "try": next(turn.tries), "model": model.name}
        outputs = {tool.name for tool in turn.wording.parameters.output_tools}
        async with AsyncExitStack() as connected:
            with understood():
                speech = await connected.enter_async_context(client.request_stream(*turn.wording))
            async for piece in pieces(speech, outputs):
                self._ctx.say(piece.text, **told, **piece.about)
        # An answer that is kept is not said again: what was said of it must stand before it.
        await self._ctx.heard()
        return speech.get()

    def _call(self, model: Model, turn: Turn, least: Usage, worst: Usage) -> Call:
        ctx = self._ctx
        return Call(
            "model",
            model.name,
            self._brain.agent,
            ctx.workflow,
            ctx.tenant,
            ctx.run_id,
            ctx.path,
            ctx.attempt,
            turn.place,
            f"{ctx.idempotency_key}:{turn.place}",
            worst=worst,
            least=least,
            limits=tuple(model.limits),
            budget=self._brain.budget,
            breaker=model.breaker,
        )


class ModelTimeout(ModelFailed, CallTimeout):
    """A model has not answered in time."""

    cause = "too slow"


def _late(model: Model, limit: float) -> ModelTimeout:
    return ModelTimeout(f"model call {model.name} took longer than {limit:g} s")


def _leads_elsewhere(error: AgentError) -> bool:
    """Whether another model may answer what this one did not."""
    return isinstance(error, CircuitOpen) or (
        isinstance(error, (ModelFailed, ModelRefused)) and error.elsewhere
    )


def _together(errors: Sequence[AgentError]) -> AgentError:
    """Why none of the models has answered. Another attempt may help if it may with one of them."""
    if len(errors) == 1:
        return errors[0]
    told = "; ".join(str(error) for error in errors)
    waits = [error.retry_after for error in errors if not isinstance(error, ModelRefused)]
    if not waits:
        return ModelRefused(told, elsewhere=False)
    known = [wait for wait in waits if wait is not None]
    return ModelFailed(told, retry_after=min(known) if len(known) == len(waits) else None)
