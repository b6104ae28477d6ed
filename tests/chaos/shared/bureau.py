"""Agents that run errands in one process, with all that workers share, so that a test can break it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from redis import Redis

from orchestrator.breakers import Circuits
from orchestrator.engine import Claimed, Pointer
from orchestrator.engine.limits import Wanted
from orchestrator.memory.episodes import Episodes
from orchestrator.memory.long_term import LongMemory
from orchestrator.people.approvals import Approvals
from orchestrator.shared_state import SharedState
from orchestrator.store.schema import upgrade
from tests.agents import errands as agents
from tests.agents.errands import BREAKER
from tests.chaos import ledger
from tests.chaos.ledger import CALM, STORMY, Ledger
from tests.chaos.paid.test_rules import Cut
from tests.chaos.shared.facts import RING, Facts, gather
from tests.chaos.shared.office import Office
from tests.integration.worker.test_asking import Desk
from tests.support import Databases, eventually
from workers import memory
from workers.attempts import Attempts
from workers.circuits import AgentCircuits
from workers.execute import Runner
from workers.gates.breakers import BreakerGate, Breakers
from workers.gates.limits import LimitGate
from workers.memory.memories import Means

NODE = "worker-0"
HURRY = """
UPDATE steps SET due_at = now() WHERE path = %s AND state = 'ready' AND due_at > now() + interval '1 second' RETURNING 1
"""
"""Who came while a probe was under way waits for as long as its lease may last: not here."""
OPEN = "SELECT EXISTS (SELECT FROM runs WHERE finished_at IS NULL)"


class Apart(dict[Any, Any]):
    """The flights of a process in which each call is made as if it were the only one of its process."""

    def get(self, key: Any, default: Any = None) -> Any:
        return default

    def __delitem__(self, key: Any) -> None:
        self.pop(key, None)


class Bureau(Desk):
    """A desk at which several errands are run at the same time, each as in a worker of its own."""

    def __init__(self, url: str, broker: str) -> None:
        super().__init__(url)
        self.circuits = Circuits(broker)
        self.outside = Ledger(broker)
        breakers = Breakers(self.circuits, self.engine.notify, self.hands.circuits)
        setup = memory()
        means = Means(
            LongMemory(self.pool, setup, vectors=False),
            Episodes(self.pool, self.engine.plans),
            setup,
            self.hands.sharing,
            self.loop,
        )
        self.cut = Cut()
        gates = (self.cut, LimitGate(self.engine, self.send, self.hands.limits), BreakerGate(breakers))
        tooling = self.tooling(self.loop)
        tooling.flights._here = Apart()
        self.runner = Runner(
            self.loop,
            self.threads,
            Attempts(),
            SharedState(self.pool),
            self.engine,
            tooling,
            self.hands,
            gates,
            means,
            agents=self.agents,
        )
        self.runner._circuits = AgentCircuits(breakers, self.loop)

    def run(self, numbers: Sequence[int], *, cut: Sequence[str] = (), storm: int = 0) -> Facts:
        """These errands, all at once; what is known when nothing is left to do.

        The first tries of calls named in `cut` are not kept. It storms until `storm` doors did not open, and the first
        model refuses enough to be left alone.
        """
        self.cut._names = cut
        office = Office(lambda: len(office.requests) < (BREAKER.minimum if storm else 0))
        with office.provider as provider:
            clerk = agents.clerk_at(provider.base_url)
            self.agents |= {one.name: one for one in (agents.scout, agents.ring, agents.pack, clerk)}
            for number in numbers:
                errand = {"number": number, "customer": f"c{number}"}
                self.submit(agents.errands, errand, tenant=("near", "far")[number % 2])
            self.outside.weather(STORMY if storm else CALM)
            self.work(storm)
        facts = gather(self.query, office.requests, self.outside.visits())
        facts.workers, facts.expected = {NODE: self.engine.me.id}, len(numbers)
        return facts

    def work(self, storm: int = 0) -> None:
        with ThreadPoolExecutor(24) as hands:
            until = time.monotonic() + 60
            while self.query(OPEN) == [(True,)]:
                assert time.monotonic() < until
                if storm and sum(one.tool == "ring" for one in self.outside.visits()) >= storm:
                    storm = 0
                    self.outside.weather(CALM)
                if not storm:
                    self.query(HURRY, RING)
                self._decide()
                eventually(lambda: self.messages or self.fire())
                taken = [self._claimed(one.run.id, one.path, one.agent) for one in self.messages]
                self.messages.clear()
                list(hands.map(self.attempt, [one for one in taken if isinstance(one, Claimed)]))

    def _claimed(self, run: Any, path: str, name: str) -> object:
        limits = self.agents[name].spec.limits
        pointer = Pointer(run, path)
        return (
            self.engine.claim_within(Wanted(pointer, name, limits)) if limits else self.engine.claim(pointer)
        )

    def _decide(self) -> None:
        people = self.people
        assert isinstance(people, Approvals)
        for one in people.approvals():
            people.answer(one.id, one.request["context"]["number"] % 2 == 0, by="ann")

    def close(self) -> None:
        self.circuits.close()
        self.outside.close()
        super().close()


def opened(databases: Databases, broker: str, patch: pytest.MonkeyPatch) -> Iterator[Bureau]:
    patch.setenv(ledger.NODE, NODE)
    outside = Redis.from_url(broker)
    patch.setattr(ledger, "_client", lambda: outside)
    url = databases.create(databases.template("migrated", upgrade))
    made = Bureau(url, broker)
    yield made
    outside.close()
    made.close()
    databases.drop(url)
