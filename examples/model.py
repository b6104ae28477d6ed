"""The language model of the examples: the one that the environment names, or a script that plays one.

    BATON_MODEL=openai:gpt-5-mini                      with the key where its provider documents it
    BATON_MODEL=openai:qwen3 BATON_MODEL_BASE_URL=http://localhost:11434/v1 BATON_MODEL_PRICE=0,0
    OPENAI_API_KEY=...                                 alone: openai:gpt-5-mini

Without any of these nothing leaves this machine.
"""

from __future__ import annotations

import atexit
import os
from typing import Any, NamedTuple

from schemas import Price
from schemas.errors import DefinitionError, Fault
from schemas.settings import settings
from workers.scripted import Script, ScriptedProvider

USUAL = "openai:gpt-5-mini"


class Speaker(NamedTuple):
    """Who speaks, for people, and as arguments of `llm_agent`."""

    said: str
    options: dict[str, Any]


def speaker(script: Script) -> Speaker:
    """The model of the environment; without one, a provider in this process that says what the script tells it."""
    given = settings()
    if given.model:
        return Speaker(given.model, _named(given.model))
    if os.environ.get("OPENAI_API_KEY"):
        return Speaker(USUAL, {"model": USUAL})
    provider = ScriptedProvider(script)
    provider.__enter__()
    atexit.register(provider.__exit__, None, None, None)
    free = Price(input=0, output=0)
    return Speaker(
        "a script that plays one: set OPENAI_API_KEY or BATON_MODEL for a real one",
        {"model": "openai:scripted", "base_url": provider.base_url, "price": free},
    )


def _named(model: str) -> dict[str, Any]:
    given = settings()
    options: dict[str, Any] = {"model": model}
    if given.model_base_url:
        options |= {"base_url": given.model_base_url, "key": given.model_key}
    if given.model_price is not None:
        try:
            cost, made = (float(one) for one in given.model_price.split(","))
            options["price"] = Price(input=cost, output=made)
        except ValueError:
            fault = Fault("", f"{given.model_price!r} is not IN,OUT in US dollars for a million tokens")
            raise DefinitionError("BATON_MODEL_PRICE", [fault]) from None
    return options
