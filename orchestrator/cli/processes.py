"""`baton worker` and `baton flower`: become the Celery process of that name."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from orchestrator.cli import options
from orchestrator.cli.completion import agent_names

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from schemas.agents import AgentSpec

_CELERY = ("-m", "celery", "-A", "workers.app")


def worker(
    agents: Annotated[
        list[str],
        typer.Argument(metavar="AGENT...", help="Whose work it does.", autocompletion=agent_names),
    ],
    app: options.App = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Attempts at a time; else what the agents declare.")
    ] = None,
    pool: Annotated[
        Literal["threads", "prefork"], typer.Option(help="Threads for I/O, processes for CPU.")
    ] = "threads",
    drain: Annotated[
        float | None,
        typer.Option(min=0, help="Seconds to finish what runs after SIGTERM (30); the rest goes to others."),
    ] = None,
) -> None:
    """Run one worker of these agents in the foreground: `celery -A workers.app worker -Q agent.NAME,baton.submit`.

    Beside their steps it takes in what programs that have only Celery submit with the task `baton.submit`.
    """
    from orchestrator.cli import environment

    environment.apply(app=app, drain=drain)
    found = environment.loaded()
    specs = [found.agent(name) for name in dict.fromkeys(agents)]
    _become(worker_arguments(specs, concurrency, pool))


def flower(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where it listens, on 127.0.0.1.")] = 5555,
    app: options.App = None,
) -> None:
    """Run Flower, Celery's dashboard, in the foreground; it can look but not change."""
    from orchestrator.cli import environment

    environment.apply(app=app)
    _become(
        ("flower", "--address=127.0.0.1", f"--port={port}", "--read_only=True", "--purge_offline_workers=60")
    )


def worker_arguments(specs: Sequence[AgentSpec], concurrency: int | None, pool: str) -> tuple[str, ...]:
    """What `celery -A workers.app` needs to hear to serve these agents."""
    from schemas.intake import SUBMIT

    queues = ",".join([*(spec.queue for spec in specs), SUBMIT])
    threads = ("--concurrency", str(concurrency)) if concurrency else ()
    # The process id keeps the names of two workers on one machine apart; Celery needs them unique.
    name = f"{specs[0].name}-{os.getpid()}@%h"
    return (
        *("worker", "--queues", queues, "--hostname", name, "--loglevel", "INFO", "--pool", pool, *threads),
        *("--task-events", "--without-mingle", "--without-gossip"),
    )


def _become(arguments: Sequence[str]) -> NoReturn:
    from orchestrator.cli.environment import with_urls

    os.execve(sys.executable, [sys.executable, *_CELERY, *arguments], dict(with_urls()))  # noqa: S606
