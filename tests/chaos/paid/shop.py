"""The provider of the model that buys: what it says, and what it was asked by whom, and when."""

from __future__ import annotations

import random
import re
import time
from typing import NamedTuple

from tests.agents.buying import PRICE
from workers.scripted import Asked, Refusal, Reply, ScriptedProvider, Turn
from workers.scripted.log import digest
from workers.scripted.script import Call

OUTPUT_TOKENS = 50
_NUMBER = re.compile(r"number\D+(\d+)")


class Request(NamedTuple):
    """One request of the model."""

    number: int
    """Of the order: its run."""
    turn: int
    asked: int
    """How often this turn had been asked for before: the answer says so, too."""
    credential: str
    """A digest of what its worker is authorized with."""
    at: float
    until: float
    """When it is answered."""
    refused: bool


def tokens(turn: int) -> tuple[int, int]:
    """What an answer takes."""
    return 100 + 10 * turn, OUTPUT_TOKENS


def usd(turn: int) -> float:
    """What an answer costs."""
    return PRICE.of(*tokens(turn))


class Shop:
    """Enter its `provider`; each answer says which of the requests for it this was."""

    def __init__(self, seed: int = 0, slowest: float = 0.15) -> None:
        self.requests: list[Request] = []
        self.provider = ScriptedProvider(self._answer, price=PRICE)
        self._random = random.Random(seed)
        self._slowest = slowest

    def _answer(self, asked: Asked) -> Turn:
        found = _NUMBER.search(asked.said)
        assert found is not None
        number, at = int(found[1]), time.time()
        delay = self._random.uniform(self._slowest / 3, self._slowest)
        refused = asked.again == 0 and (number + asked.turn) % 9 == 0
        self.requests.append(
            Request(number, asked.turn, asked.again, asked.credential or "", at, at + delay, refused)
        )
        if refused:
            return Refusal(429 if number % 2 else 500, retry_after=0.05)
        return _reply(asked, number, delay)


def _reply(asked: Asked, number: int, delay: float) -> Reply:
    given = {"number": number, "asked": asked.again}
    look_up = Call("look_up", given)
    match asked.turn:
        case 0:
            return Reply(calls=(look_up,), delay=delay, tokens=tokens(0))
        case 1:
            return Reply(calls=(look_up, Call("pay", given)), delay=delay, tokens=tokens(1))
    told = {one.tool: one.told for one in asked.used}
    output = given | {
        "found": int(told["look_up"]),
        "paid": "paid" if told["pay"] == "paid" else "unclear",
    }
    return Reply(output=output, delay=delay, tokens=tokens(asked.turn))


def credential_of(node: str) -> str:
    """The digest of what a worker of this name is authorized with."""
    return digest(node)
