"""Agents that remember, on a bench: with a server that compares vectors, and with one that may not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import errors

from orchestrator.memory.episodes import Episodes
from orchestrator.memory.long_term import LongMemory
from orchestrator.shared_state import SharedState
from orchestrator.store.schema import upgrade
from schemas.usage import Price
from tests.integration.worker.test_asking import Desk
from tests.support import Databases
from workers import Agent, Context, agent, embedder, memory
from workers.attempts import Attempts
from workers.execute import Runner
from workers.hands import Hands
from workers.loop import LoopThread
from workers.memory.declared import Embedder, MemorySetup
from workers.memory.memories import Means
from workers.scripted import ScriptedProvider
from workers.scripted.embeddings import vector
from workers.tools.calling import Tooling

PRICE = Price(input=2, output=0)


class Mind(Desk):
    """A bench on which real agents remember."""

    def __init__(
        self, url: str, setup: MemorySetup | None = None, *, vectors: bool = True, gates: Any = ()
    ) -> None:
        super().__init__(url)
        self.memory = LongMemory(self.pool, setup, vectors=vectors)
        self.loop = loop = LoopThread()
        hands = Hands()
        means = Means(
            self.memory, Episodes(self.pool, self.engine.plans), setup or memory(), hands.sharing, loop
        )
        shared = SharedState(self.pool)
        self.runner = Runner(
            loop,
            self.threads,
            Attempts(),
            shared,
            self.engine,
            Tooling(loop, self.pool, hands.tools),
            hands,
            tuple(gates),
            means,
        )

    def do(self, act: Callable[[Context], Any], **fields: Any) -> Any:
        """What a sync agent gives that does this in a run of its own."""

        @agent(name="doing")
        def doing(ctx: Context, value: Any) -> Any:
            return act(ctx)

        run = self.begun(doing, **fields)
        end = self.views.end(run)
        assert end is not None
        assert end.error is None, end.error
        return end.output

    def begun(self, one: Agent, value: Any = None, **fields: Any) -> UUID:
        """A run of this agent, as far as it goes."""
        from orchestrator import workflow

        self.agents[one.name] = one
        run = self.submit(workflow("w", one.part), value, **fields)
        self.work()
        return run

    def told(self, run: UUID, kind: str) -> list[dict[str, Any]]:
        """What the events of one kind say."""
        return [event.data for event in self.events(run) if event.kind == kind]

    def close(self) -> None:
        super().close()


@pytest.fixture
def url(databases: Databases) -> Iterator[str]:
    made = databases.create(databases.template("migrated", upgrade))
    yield made
    databases.drop(made)


Minds = Callable[..., Mind]


@pytest.fixture
def mind_of(url: str) -> Iterator[Minds]:
    """Makes benches that remember as they are told, and closes them."""
    with ExitStack() as opened:

        def make(setup: MemorySetup, **options: Any) -> Mind:
            mind = Mind(url, setup, **options)
            opened.callback(mind.close)
            return mind

        yield make


@pytest.fixture
def words(url: str) -> Iterator[Mind]:
    """It is searched by words: nobody makes vectors."""
    made = Mind(url)
    yield made
    made.close()


@pytest.fixture
def provider() -> Iterator[ScriptedProvider]:
    with ScriptedProvider([]) as made:
        yield made


def vectors_of(provider: ScriptedProvider) -> Embedder:
    return embedder("openai:scripted-embeddings", base_url=provider.base_url, price=PRICE)


@pytest.fixture
def meaning(url: str, provider: ScriptedProvider) -> Iterator[Mind]:
    """It is searched by vectors, too, of the scripted provider."""
    made = Mind(url, memory(embed=vectors_of(provider)))
    yield made
    made.close()


def plain(url: str) -> str:
    """The same database, for a user who may not install anything."""
    with psycopg.connect(url, autocommit=True) as conn:
        with suppress(errors.DuplicateObject):
            conn.execute("CREATE ROLE plain LOGIN NOSUPERUSER")
        conn.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO plain")
        conn.execute("GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO plain")
    return url.replace("baton@", "plain@", 1)


@pytest.fixture
def denied(url: str, provider: ScriptedProvider) -> Iterator[Mind]:
    """There are vectors to be had, but this user may not install what compares them."""
    made = Mind(plain(url), memory(embed=vectors_of(provider)))
    yield made
    made.close()


def by_hand(texts: list[str]) -> list[list[float]]:
    """Vectors of a function of the app's own."""
    return [vector(text, 64) for text in texts]
