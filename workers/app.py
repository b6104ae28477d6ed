"""The Celery app of the pools: `celery -A workers.app worker -Q agent.NAME`. The only wiring."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from celery import Celery, concurrency, signals
from kombu.transport import TRANSPORT_ALIASES

from orchestrator.definitions.compile import compile_workflow
from orchestrator.definitions.reactions import Reaction
from orchestrator.engine.plans import Plans
from orchestrator.incoming.subscriptions import Subscriptions
from orchestrator.loading import Loaded, load
from orchestrator.masking.logs import guard_logs, guard_streams
from orchestrator.messaging import redis_transport
from orchestrator.messaging.broker import TRANSPORT, make_app
from orchestrator.places import Places, find
from orchestrator.store.connect import Pool
from orchestrator.store.revision import check
from schemas.agents import DEFAULT_CONCURRENCY
from schemas.errors import BatonError
from schemas.intake import SUBMIT
from schemas.settings import settings
from schemas.workflows import Workflow
from workers.agent import Agent
from workers.drain import DrainStep
from workers.handover import HandOverStep
from workers.heart import HeartStep
from workers.memory.declared import MemorySetup
from workers.process import WorkerProcess
from workers.step import StepTask
from workers.submit import SubmitTask
from workers.tools.declared import Tool

log = logging.getLogger(__name__)

GRACE = 5.0
"""Seconds between the soft and the hard time limit of a prefork child."""


# `--pool threads` is the threads of Celery for sync agents, and one event loop for async ones.
concurrency.ALIASES["threads"] = "workers.pool:StepPool"


# In a process of ours `redis://` means our transport. Naming it in `broker_transport` instead would hide the scheme
# from Flower, whose page on the broker then stays empty.
TRANSPORT_ALIASES["redis"] = TRANSPORT


def build() -> Celery:
    """The app of this process, on the servers and with the agents that its environment names."""
    places = find()
    app = make_app(places)
    app.conf.broker_transport = None
    app.events_cls = "workers.guards.celery_events:DiscreetEvents"
    app.conf.worker_consumer = "workers.consumer:PatientConsumer"
    if not any(argument.startswith(("-P", "--pool")) for argument in sys.argv):
        # Only then: Celery takes `--pool prefork` for no wish at all where the app has one.
        app.conf.worker_pool = "threads"
    app.baton = WorkerProcess(app, places)
    found = _loaded()
    if isinstance(found.memory, MemorySetup):
        app.baton.memory = found.memory
    app.baton.tools = {
        name: tools[0]
        for name, tools in found.tools.items()
        if len(tools) == 1 and isinstance(tools[0], Tool)
    }
    agents = {name: agent for name, agent in found.agents.items() if isinstance(agent, Agent)}
    app.baton.agents = agents
    for agent in agents.values():
        _register(app, agent)
    app.register_task(type("Submit", (SubmitTask,), {"process": app.baton, "__module__": __name__})())
    app.steps["consumer"].update((HeartStep, HandOverStep, DrainStep))
    _listen(app, agents, found)
    return app


def _loaded() -> Loaded:
    """The app that the environment names; nothing for a process that only looks, such as Flower."""
    return load(settings().app) if settings().app else Loaded(())


def _register(app: Celery, agent: Agent) -> None:
    """One named Celery task for each agent."""
    spec = agent.spec
    task = type(
        f"Step_{spec.name}",
        (StepTask,),
        {
            "name": spec.queue,
            "agent": agent,
            "process": app.baton,
            "rate_limit": spec.rate_limit,
            "soft_time_limit": spec.timeout,
            "time_limit": spec.timeout + GRACE,
            "__module__": __name__,
            "__doc__": spec.description,
        },
    )
    app.register_task(task())


def _listen(app: Celery, agents: Mapping[str, Agent], found: Loaded) -> None:
    process: WorkerProcess = app.baton

    def set_up(options: dict[str, Any], conf: Any, **_: Any) -> None:
        check(process.places.database_url)
        queues = _names(options.get("queues"))
        _refuse_unknown(queues, agents)
        _store(found.workflows.values() if SUBMIT in queues else (), found.reactions.values(), process.places)
        if not options.get("concurrency"):
            wanted = [
                a.spec.concurrency or DEFAULT_CONCURRENCY for a in agents.values() if a.spec.queue in queues
            ]
            conf.worker_concurrency = max(wanted, default=DEFAULT_CONCURRENCY)

    def born(sender: str, instance: Any, **_: Any) -> None:
        in_threads = "prefork" not in instance.pool_cls.__module__
        guard_streams()  # whoever has set them anew
        process.born(sender, in_threads=in_threads, concurrency=instance.concurrency)

    def unknown(message: Any, name: str | None = None, **_: Any) -> None:
        process.set_aside(_queue_of(message), f"no agent here runs {name!r}", _readable(message))

    def rejected(message: Any, exc: Any = None, **_: Any) -> None:
        process.set_aside(_queue_of(message), f"it is no task message: {exc}", _readable(message))

    def unreadable(queue: str, reason: str, text: str) -> None:
        process.set_aside(queue, reason, text)

    def retire(sender: Any, **_: Any) -> None:
        process.retire(sender.exitcode or 0)

    redis_transport.on_unreadable = unreadable
    signals.celeryd_init.connect(_friendly(set_up), weak=False)
    signals.celeryd_after_setup.connect(born, weak=False)
    signals.worker_process_init.connect(lambda **_: process.forked(), weak=False)
    signals.task_unknown.connect(unknown, weak=False)
    signals.task_rejected.connect(rejected, weak=False)
    signals.worker_shutdown.connect(retire, weak=False)


def _names(queues: Any) -> list[str]:
    return queues.split(",") if isinstance(queues, str) else list(queues or ())


def _store(workflows: Iterable[Workflow], reactions: Iterable[Reaction], places: Places) -> None:
    """Whoever takes in submissions knows the workflows of its app, and all know what reacts to events.

    What is stored already stays as old as it is.
    """
    pool = Pool(places.database_url, size=1)
    try:
        plans = Plans(pool)
        for workflow in workflows:
            plans.save(compile_workflow(workflow))
        Subscriptions(pool, plans).deploy(reactions, newest=False)
    finally:
        pool.close()


def _refuse_unknown(queues: list[str], agents: Mapping[str, Agent]) -> None:
    known = {SUBMIT, *(agent.spec.queue for agent in agents.values())}
    for queue in queues:
        if queue not in known:
            modules = settings().app or "no module: BATON_APP is not set"
            raise BatonError(
                f"no agent serves the queue {queue!r} (loaded: {modules})",
                next_step=f"one of: {', '.join(sorted(known)) or 'BATON_APP=your.module'}",
            )


def _friendly(set_up: Any) -> Any:
    """Celery logs what a signal handler raises and goes on; a worker that cannot work must end instead."""

    def guarded(**arguments: Any) -> None:
        try:
            set_up(**arguments)
        except BatonError as error:
            sys.exit(f"{error}\n  next: {error.next_step}")

    return guarded


def _queue_of(message: Any) -> str:
    return str((message.delivery_info or {}).get("routing_key", "?"))


def _readable(message: Any) -> dict[str, Any]:
    body = message.body
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else str(body)
    return {"headers": dict(message.headers or {}), "body": text}


if str(Path.cwd()) not in sys.path:
    sys.path.insert(0, str(Path.cwd()))

guard_logs()
guard_streams()
try:
    app = build()
except BatonError as error:
    sys.exit(f"{error}\n  next: {error.next_step}")
