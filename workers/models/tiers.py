"""Models one above the other: the cheapest answers, and those above it what it could not, or was not sure of."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from typing import Any

from pydantic_ai.exceptions import UnexpectedModelBehavior, UserError
from pydantic_ai.messages import ModelMessage, ModelRequest, RetryPromptPart, ToolReturnPart

from orchestrator.credentials import own
from orchestrator.definitions.conditions import ConditionError, number
from schemas.errors import Permanent
from workers.context import Context
from workers.cuts.fitting import Cut, fitted, holds, shown
from workers.cuts.told import Told, tokens_of
from workers.models.brain import Brain
from workers.models.clients import check_price, client_of
from workers.models.conversation import Conversation, WentRound
from workers.models.failures import misfit
from workers.models.hearsay import Hearsay
from workers.models.named import Model
from workers.models.recollection import Opening, closing, opening
from workers.slices import Slice


async def converse(brain: Brain, ctx: Context, value: Any) -> Any:
    """The answer of a model agent. Raises `Permanent` if none of its models gives one that fits."""
    for model in (*brain.models, *brain.fallbacks):
        try:
            check_price(model)
            client_of(model)
        except Permanent as error:
            mend = f": {error.next_step}" if error.next_step else ""
            raise Permanent(f"agent {brain.agent}: {error}{mend}") from None
    try:
        whole = _told(brain, ctx, value)._replace(state=await shown(ctx, Slice(brain.agent, brain.state)))
        besides = tokens_of(brain.instructions)
        told, cuts = await fitted(brain.context, brain.agent, ctx, whole, besides=besides)
        asked = told.text
        past = await opening(brain.memory, ctx, asked)
        output = await _climb(brain, ctx, value, asked, past, cuts)
    except UserError as error:
        raise Permanent(own(str(error))) from None
    await closing(brain.memory, ctx, asked, brain.answers.dump_python(output, mode="json"))
    return output


def _told(brain: Brain, ctx: Context, value: Any) -> Told:
    given = brain.input.dump_python(value, mode="json")
    return Told(given, None if holds(given, ctx.intent) else ctx.intent)


async def _climb(brain: Brain, ctx: Context, value: Any, asked: str, past: Opening, cuts: list[Cut]) -> Any:
    """The first answer that fits and is sure enough; that of the last model, if it fits.

    Each model goes on from what the tools have done for those before it: they are not called again. Raises `Permanent`
    if the last one gives none.
    """
    reasons: dict[str, str] = {}
    done: Sequence[ModelMessage] = ()
    hearsay = Hearsay(brain.guard, ctx)
    hearsay.given(past.passages + asked)
    models = deque(brain.models)
    while models:
        model = models.popleft()
        conversation, is_last = Conversation(brain, ctx, model, hearsay, cuts), not models
        cuts = []
        try:
            output = await conversation.run(asked, done, past)
        except (UnexpectedModelBehavior, WentRound) as error:
            failure = _failure(brain, model, error)
            if is_last and conversation.is_new:
                raise failure from None
            if (
                is_last
            ):  # that was an earlier attempt's end: whoever resumed the run wants the model asked again
                models.append(model)
            doubt: str | None = str(failure)
        else:
            doubt = None if is_last else _doubt(brain, value, output)
        if doubt is None:
            _tell(brain, ctx, model, reasons)
            return output
        if not is_last:
            reasons[model.name] = doubt
        done = _settled(conversation.heard, conversation.tools)
    raise AssertionError("the last model has neither answered nor failed")


def _doubt(brain: Brain, value: Any, output: Any) -> str | None:
    """Why this answer is not good enough, if it is not. What cannot be told is not sure."""
    if brain.confidence is None:
        return None
    values = {
        "input": brain.input.dump_python(value, mode="json"),
        "output": brain.answers.dump_python(output, mode="json"),
    }
    try:
        sure = number(brain.confidence, values)
    except ConditionError as error:
        return str(error)
    if sure >= brain.threshold:
        return None
    return f"{brain.confidence} is {sure:g}, less than {brain.threshold:g}"


def _tell(brain: Brain, ctx: Context, model: Model, reasons: dict[str, str]) -> None:
    if len(brain.models) > 1:
        why = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        ctx.decide(model.name, why, [one.name for one in brain.models if one is not model])


def _settled(messages: Sequence[ModelMessage], tools: Collection[str]) -> Sequence[ModelMessage]:
    """What was said up to the last thing that a tool has given; nothing if none has."""
    for index in range(len(messages), 0, -1):
        message = messages[index - 1]
        if isinstance(message, ModelRequest) and any(
            isinstance(part, ToolReturnPart | RetryPromptPart) and part.tool_name in tools
            for part in message.parts
        ):
            return messages[:index]
    return ()


def _failure(brain: Brain, model: Model, error: UnexpectedModelBehavior | WentRound) -> Permanent:
    if isinstance(error, WentRound):
        return error
    return Permanent(own(f"{model.id} gave no answer that fits{misfit(error, brain.corrections)}"))
