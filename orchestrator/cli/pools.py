"""`baton pools` and `baton workers`: who does the work, and how much of it waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import options
from orchestrator.cli.completion import agent_names
from orchestrator.cli.output import ago, print_json, print_table

if TYPE_CHECKING:
    from schemas.runs import WorkerView

app = typer.Typer(help="The workers of each agent, and the work that waits for them.")
workers = typer.Typer(help="The worker processes, one by one.")


@app.callback(invoke_without_command=True)
def pools(ctx: typer.Context, json: options.Json = False) -> None:
    """The workers of each agent, and the work that waits for them."""
    if ctx.invoked_subcommand is None:
        list_pools(json=json)


@app.command("ls")
def list_pools(json: options.Json = False) -> None:
    """List the pools."""
    from orchestrator.cli.environment import connected

    with connected() as client:
        found = client.pools()
    if json:
        print_json(found)
        return
    print_table(
        ["AGENT", "QUEUE", "WORKERS", "AT A TIME", "RUNNING", "READY"],
        [(p.agent, p.queue, p.workers, p.concurrency, p.running, p.ready) for p in found],
        empty="There are no pools yet. Start some: baton up",
    )


@app.command("scale")
def scale(
    sizes: Annotated[
        list[str],
        typer.Argument(metavar="AGENT=N...", help="Worker processes per agent.", autocompletion=agent_names),
    ],
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """Change the number of worker processes of the stack that `baton up` runs here."""
    from orchestrator.cli import environment
    from orchestrator.local.control import request
    from schemas.settings import settings

    wanted = _sizes(sizes)
    environment.apply(data_dir=data_dir)
    answer = request(settings().data_dir, {"scale": wanted})
    answer.pop("urls")  # they hold passwords
    if json:
        print_json(answer)
        return
    for agent in wanted:
        typer.echo(f"{agent}: {answer['pools'][agent]['processes']} worker processes wanted")


@workers.callback(invoke_without_command=True)
def all_workers(ctx: typer.Context, json: options.Json = False) -> None:
    """The worker processes, one by one."""
    if ctx.invoked_subcommand is None:
        list_workers(json=json)


@workers.command("ls")
def list_workers(
    ended: Annotated[bool, typer.Option("--all", help="Also those that have stopped or died.")] = False,
    json: options.Json = False,
) -> None:
    """List the worker processes."""
    from orchestrator.cli.environment import connected

    with connected() as client:
        found = client.workers(ended=ended)
    if json:
        print_json(found)
        return
    print_table(
        ["WORKER", "QUEUES", "POOL", "AT A TIME", "ALIVE", "STARTED", "SEEN"],
        [_worker_row(worker) for worker in found],
        empty="There are no workers. Start some: baton up",
    )


def _sizes(given: list[str]) -> dict[str, int]:
    sizes = {}
    for one in given:
        agent, _, number = one.partition("=")
        if not agent or not number.isdecimal():
            raise typer.BadParameter(f"{one!r} is not AGENT=NUMBER, e.g. `researcher=4`.")
        sizes[agent] = int(number)
    return sizes


def _worker_row(worker: WorkerView) -> tuple[object, ...]:
    alive = "yes" if worker.alive else "no"
    times = (ago(worker.started_at), ago(worker.seen_at))
    return (worker.name, ", ".join(worker.queues), worker.pool, worker.concurrency, alive, *times)
