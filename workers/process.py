"""What one worker process holds: its identity, its engine, its event loop. Made on first use, again after a fork."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import cached_property
from typing import Any, Protocol
from uuid import UUID, uuid4

import psycopg
from celery import Celery

from orchestrator.breakers import Circuits
from orchestrator.engine import Engine, WorkerId
from orchestrator.intake.submitter import Submitter
from orchestrator.masking.masker import discreet_json
from orchestrator.memory.episodes import Episodes
from orchestrator.memory.long_term import LongMemory
from orchestrator.messaging.dispatch import Dispatcher
from orchestrator.people.targets import targets
from orchestrator.places import Places
from orchestrator.shared_state import SharedState
from orchestrator.store.connect import Pool
from schemas.settings import settings
from workers.agent import Agent
from workers.attempts import Attempts
from workers.execute import Runner
from workers.gates import gates
from workers.gates.breakers import Breakers
from workers.gates.limits import of_models
from workers.hands import Hands
from workers.loop import LoopThread
from workers.memory.declared import MemorySetup
from workers.memory.memories import Means
from workers.tools.calling import Tooling
from workers.tools.declared import Tool

log = logging.getLogger(__name__)


class Stoppable(Protocol):
    """Whatever has to be stopped with the worker."""

    def stop(self) -> None: ...


class Ending(Protocol):
    """Whatever sees to the worker's end."""

    def ask(self) -> None: ...
    def insist(self) -> None: ...
    def give_back(self) -> None: ...
    def conclude(self, exit_code: int) -> None: ...


class WorkerProcess:
    """The things that steps and the heart share. A prefork child has its parent's identity: the parent beats."""

    def __init__(self, app: Celery, places: Places) -> None:
        self.app = app
        self.places = places
        self.id: UUID = uuid4()
        self.name = f"pid-{os.getpid()}"
        self.in_threads = True
        self.concurrency = 1
        self.targets = targets(settings())
        """Who is told what waits for people."""
        self.heart: Stoppable | None = None
        self.drain: Ending | None = None
        self.leaving = False
        """Asked to end: nothing new is begun, what runs may go on for a while."""
        self.closed = False
        """The drain is over: whatever stands in our name is being given to others."""
        self.returned: frozenset[str] = frozenset()
        """The task ids of messages that were fetched, not begun, and given back when the worker was asked to end."""
        self.tools: Mapping[str, Tool] = {}
        """Those that agents may name."""
        self.agents: Mapping[str, Agent] = {}
        """Those of the app."""
        self._prepared: dict[str, list[object]] = {}
        self._preparing = threading.Lock()
        self.attempts = Attempts()
        self.memory = MemorySetup()
        """How the agents of this app remember."""

    def born(self, name: str, *, in_threads: bool, concurrency: int) -> None:
        """Learn from Celery who this is. The engine is made afterwards."""
        self.name = name
        self.in_threads = in_threads
        self.concurrency = concurrency

    @property
    def pool_name(self) -> str:
        return "threads" if self.in_threads else "prefork"

    @cached_property
    def pool(self) -> Pool:
        return Pool(self.places.database_url, size=settings().pool_size)

    @cached_property
    def engine(self) -> Engine:
        return Engine(self.pool, WorkerId(self.id, self.name))

    @cached_property
    def pulse(self) -> Engine:
        """The engine of the heart, on a connection of its own: it must not stand in line behind steps."""
        return Engine(Pool(self.places.database_url, size=1), WorkerId(self.id, self.name))

    @cached_property
    def dispatcher(self) -> Dispatcher:
        return Dispatcher(self.app, self.engine.leave_unsent)

    @cached_property
    def submitter(self) -> Submitter:
        return Submitter(self.engine, self.dispatcher)

    @cached_property
    def runner(self) -> Runner:
        threads: Executor | None = None
        if self.in_threads:
            # Attempts that time out keep their thread, so there is room for as many again.
            threads = ThreadPoolExecutor(2 * self.concurrency, thread_name_prefix="agent")
        limits = of_models(agent.model_limits for agent in self.agents.values())
        passed = gates(self.engine, self.dispatcher.send, self.breakers, self.hands, limits)
        budgets, *_ = passed
        return Runner(
            self.loop,
            threads,
            self.attempts,
            self.shared,
            self.engine,
            self.tooling,
            self.hands,
            passed,
            self.means,
            self.breakers,
            self.agents,
            budgets.hold,
        )

    @cached_property
    def breakers(self) -> Breakers:
        return Breakers(Circuits(self.places.breakers_url), self.engine.notify, self.hands.circuits)

    @cached_property
    def tooling(self) -> Tooling:
        return Tooling(self.loop, self.pool, self.hands.tools, self.tools)

    @cached_property
    def _beside(self) -> Pool:
        """Connections for what agents share: writers that wait for each other hold up no outcome."""
        return Pool(self.places.database_url, size=_beside())

    @cached_property
    def shared(self) -> SharedState:
        return SharedState(self._beside)

    @cached_property
    def means(self) -> Means:
        """What agents remember with."""
        return Means(
            LongMemory(self._beside, self.memory, vectors=settings().vectors),
            Episodes(self._beside, self.engine.plans),
            self.memory,
            self.hands.sharing,
            self.loop,
        )

    @cached_property
    def loop(self) -> LoopThread:
        return LoopThread()

    @cached_property
    def hands(self) -> Hands:
        return Hands(settings().pool_size, _beside())

    def prepare(self, task_id: str, done: object) -> None:
        """Keep what the pool did of a step already, until the task of its message asks for it.

        One step may be delivered twice at the same time, so there may be several under one id; none replaces
        another, or what follows from an outcome would wait for recovery.
        """
        with self._preparing:
            self._prepared.setdefault(task_id, []).append(done)

    def take_prepared(self, task_id: str) -> object | None:
        """What was kept for this task id, the oldest first; None if there is nothing."""
        with self._preparing:
            kept = self._prepared.get(task_id)
            if not kept:
                return None
            done = kept.pop(0)
            if not kept:
                del self._prepared[task_id]
            return done

    def set_aside(self, queue: str, reason: str, message: Any) -> None:
        """Keep a message that no agent can run as a dead letter."""
        log.error("set aside a message on %s: %s", queue, reason)
        text = json.dumps(message, default=repr, ensure_ascii=False)
        try:
            self.engine.set_aside(queue, reason, text)
        except psycopg.Error as error:
            log.error("it could not be stored (%s), so here it is: %s", error, discreet_json(text))  # noqa: TRY400

    def retire(self, exit_code: int) -> None:
        """The worker has ended its work: stop beating, and do not wait for threads that may never end."""
        if self.drain is not None:
            self.drain.give_back()  # while the heart still says that they are ours: no loss is counted
        if self.heart is not None:
            self.heart.stop()
        if "loop" in self.__dict__:
            self.loop.end()
        if self.drain is not None:
            self.drain.conclude(exit_code)

    def forked(self) -> None:
        """Forget, in a prefork child, whatever must not be shared with the parent."""
        made = (
            "engine",
            "dispatcher",
            "submitter",
            "runner",
            "breakers",
            "tooling",
            "means",
            "loop",
            "hands",
        )
        for name in made:
            self.__dict__.pop(name, None)
        self.attempts = Attempts()


def _beside() -> int:
    """Connections for what agents share."""
    return max(1, settings().pool_size // 2)
