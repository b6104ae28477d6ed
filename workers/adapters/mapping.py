"""From typed input to what a framework is asked, and from what it says to typed output."""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic import TypeAdapter, ValidationError

from schemas.errors import AgentError
from workers.agent import Agent
from workers.context import Context

_FENCED = re.compile(r"\s*```(?:json)?\s*\n(.*?)\n?```\s*", re.DOTALL)


def prompt(agent: Agent, ctx: Context, value: Any) -> str:
    """The input as text, and the run's original intent if that is something else."""
    given = agent.input.dump_python(value, mode="json")
    said = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
    if ctx.intent in (None, given):
        return said
    return f"{said}\n\nThe original request: {json.dumps(ctx.intent, ensure_ascii=False)}"


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
