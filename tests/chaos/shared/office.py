"""The provider of two models: one that fails while it storms, and one that always answers."""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from tests.agents.errands import PRICE
from workers.scripted import Asked, Refusal, Reply, ScriptedProvider, Turn

_GIVEN = re.compile(r'\{[^{}]*\\*"parcel\\*"[^{}]*\}')


class Request(NamedTuple):
    """One request of a model."""

    model: str
    number: int
    """Of the errand: its run."""
    credential: str
    """A digest of what its worker is authorized with."""
    at: float
    until: float
    """When it is answered, at the earliest."""
    refused: bool


class Office:
    """Enter its `provider`; `is_stormy` says what the weather is."""

    def __init__(self, is_stormy: Callable[[], bool], seed: int = 0, slowest: float = 0.1) -> None:
        self.requests: list[Request] = []
        self.provider = ScriptedProvider(self._answer, price=PRICE)
        self._is_stormy = is_stormy
        self._random = random.Random(seed)
        self._slowest = slowest
        self._lock = threading.Lock()

    def _answer(self, asked: Asked) -> Turn:
        given = parcel_in(asked)
        refused = asked.model == "first" and self._is_stormy()
        at = time.time()
        with self._lock:
            delay = self._random.uniform(self._slowest / 5, self._slowest)
            self.requests.append(
                Request(asked.model, given["number"], asked.credential or "", at, at + delay, refused)
            )
        if refused:
            return Refusal(500, delay=delay)
        return Reply(output=given | {"model": asked.model}, delay=delay, tokens=(100, 20))


def parcel_in(asked: Asked) -> dict[str, Any]:
    """What the model was told to deliver."""
    found = _GIVEN.search(asked.said)
    assert found is not None, asked.said
    return dict(json.loads(found[0].replace("\\", "")))
