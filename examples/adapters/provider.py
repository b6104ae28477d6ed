"""The model of these examples: OpenAI's where there is a key, else a provider on this machine that reads a script."""

from __future__ import annotations

import os
from functools import cache
from typing import NamedTuple

from schemas import Price
from workers.scripted import Asked, ScriptedProvider, Turn, answer, text


class Model(NamedTuple):
    """Where a client finds the model."""

    name: str
    base_url: str | None
    key: str
    price: Price | None


NOT_A_MODEL = "This is a script and no model: set OPENAI_API_KEY for one."
TEAMS = {"fire": "safety", "invoice": "billing", "password": "access"}


@cache
def model() -> Model:
    """The model of this process. Ask for it where an agent runs: the script is served from then on."""
    key = os.environ.get("OPENAI_API_KEY")
    if key:
        return Model("gpt-5-mini", None, key, None)
    provider = ScriptedProvider(_say).__enter__()  # it ends with its process
    return Model("gpt-5-mini", provider.base_url, "none", None)


def _say(asked: Asked) -> Turn:
    """Find the team by a word; the reply to the customer is the same for all."""
    said = asked.said.lower()
    team = next((team for word, team in TEAMS.items() if word in said), "support")
    reply = f"We are looking into it. {NOT_A_MODEL}"
    if asked.body.get("response_format") or "final_result" in asked.tools:
        return answer({"team": team, "reply": reply})
    return text(team if "which team" in said else reply)
