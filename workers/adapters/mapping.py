"""From typed input to what a framework is asked, and from what it says to typed output."""

from __future__ import annotations

import re
from typing import Any

from pydantic import TypeAdapter, ValidationError

from schemas.errors import AgentError
from workers.agent import Agent
from workers.context import Context
from workers.cuts.told import Told

_FENCED = re.compile(r"\s*```(?:json)?\s*\n(.*?)\n?```\s*", re.DOTALL)


def prompt(agent: Agent, ctx: Context, value: Any) -> str:
    """The input as text, the run's original intent if that is something else, and the state that is declared."""
    given = agent.input.dump_python(value, mode="json")
    return Told(given, None if ctx.intent == given else ctx.intent, ctx.shown_state).text


def fits(output: TypeAdapter[Any], value: Any) -> bool:
    """Whether this is an output as it stands."""
    try:
        output.validate_python(value)
    except ValidationError:
        return False
    return True


def answer(agent: Agent, value: Any) -> Any:
    """What a framework ended with as the agent's output: as it stands, or the JSON in a text.

    Raises `AgentError`: a model may do better in another attempt.
    """
    if fits(agent.output, value) or not isinstance(value, str):
        return value  # what does not fit now is told when the output is checked
    fenced = _FENCED.fullmatch(value)
    try:
        return agent.output.validate_json(fenced[1] if fenced else value)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, fault["loc"]))
        raise AgentError(f"{agent.name} gave no answer that fits: {where} {fault['msg']}") from None
