"""Agents of frameworks on a desk of this process, behind gates that note what passes them."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from orchestrator.store.schema import upgrade
from schemas import Price, Usage
from schemas.events import EventKind
from tests.integration.worker.test_asking import Desk
from tests.support import Databases, eventually
from workers import Agent
from workers.calls import Call
from workers.endings import PutOff
from workers.scripted import Script, ScriptedProvider

PRICE = Price(input=1, output=10)
SECRET = "sk-scripted-0123456789"
ONCE = {"Connection": "close"}
"""Headers of clients that end before the loop on which they were used does: nothing of them stays open."""


class Ticket(BaseModel):
    text: str


class Verdict(BaseModel):
    team: str
    urgent: bool = False


class Watch:
    """A gate that notes what passes it, and refuses what it is told to."""

    def __init__(self) -> None:
        self.passed: list[Call] = []
        self.ended: list[str] = []
        self.refuse: Exception | None = None
        self.put_off: set[int] = set()
        """Which entries are put off, by their number."""
        self._entries = itertools.count()

    @asynccontextmanager
    async def around(self, call: Call) -> AsyncIterator[None]:
        if self.refuse is not None:
            raise self.refuse
        if next(self._entries) in self.put_off:
            raise PutOff("a limit", 0.05)
        self.passed.append(call)
        try:
            yield
        except BaseException as error:
            self.ended.append(type(error).__name__)
            raise
        self.ended.append("well")


class Shop(Desk):
    """A desk whose agents call models through a gate."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.gate = Watch()
        self.runner._gates = (self.gate,)

    def ask(self, agent: Agent, value: Any = None) -> Any:
        """How a run of this agent ended."""
        run = self.start(agent, value=value or {"text": "The printer is on fire."})
        eventually(lambda: self._ended(run))
        self.last = run
        return self.end(run)

    def _ended(self, run: UUID) -> None:
        self.work()
        self.end(run)

    @property
    def spent(self) -> Usage:
        """What all attempts of the last run told that they consumed."""
        rows = self.query("SELECT usage FROM attempts WHERE run_id = %s AND usage IS NOT NULL", self.last)
        total = Usage()
        for (usage,) in rows:
            total += Usage.model_validate(usage)
        return rounded(total)

    def told(self, kind: EventKind = EventKind.PROGRESS) -> list[dict[str, Any]]:
        """The events of a kind of the last run."""
        return [event.data for event in self.events(self.last) if event.kind is kind]

    @property
    def said(self) -> list[dict[str, Any]]:
        """What was said in the last run: about what, and the text of it."""
        joined: dict[str, dict[str, Any]] = {}
        for one in self.told(EventKind.STEP_DELTA):
            about = {name: value for name, value in one.items() if name not in ("text", "attempt")}
            joined.setdefault(str(about), about | {"text": ""})["text"] += one["text"]
        return list(joined.values())

    @property
    def failure(self) -> str:
        ((error,),) = self.query(
            "SELECT error->>'message' FROM attempts WHERE run_id = %s ORDER BY attempt DESC LIMIT 1",
            self.last,
        )
        return str(error)


@pytest.fixture
def shop(databases: Databases) -> Iterator[Shop]:
    url = databases.create(databases.template("migrated", upgrade))
    made = Shop(url)
    yield made
    made.close()
    databases.drop(url)


def provided(script: Script) -> ScriptedProvider:
    return ScriptedProvider(script, price=PRICE)


def of(provider: ScriptedProvider, refused: int = 0) -> Usage:
    """What a provider would have charged for what it has answered."""
    tokens = provider.input_tokens + provider.output_tokens
    return rounded(Usage(tokens=tokens, usd=provider.usd, model_calls=len(provider.log) - refused))


def rounded(usage: Usage) -> Usage:
    """Sums of dollars differ in their last digits."""
    return usage.model_copy(update={"usd": round(usage.usd, 9)})
