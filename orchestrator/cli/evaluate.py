"""`baton eval`: how good a workflow is, measured with real runs; and `baton eval route`, how well a router decides."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from orchestrator.cli import options
from orchestrator.cli.output import console, print_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager
    from uuid import UUID

    from orchestrator.client import Client
    from orchestrator.evaluation.running import Evaluator
    from schemas.runs import RunFigures
    from schemas.workflows import Workflow


_ID = 6
"""Characters of a definition's id that tell it from the name of a workflow."""


class _RunByDefault(TyperGroup):
    """`baton eval WORKFLOW` means `baton eval run WORKFLOW`."""

    default = "run"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, "--help", "-h"):
            args = [self.default, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_RunByDefault,
    no_args_is_help=True,
    help="Measure how good a workflow is, with real runs: baton eval WORKFLOW CASES --check MODULE:FUNCTION.",
)

Cases = Annotated[
    Path,
    typer.Argument(
        metavar="CASES", help='A file with one case in each line: {"input": ..., "expected": ..., "id": ...}.'
    ),
]
Name = Annotated[
    str | None,
    typer.Option(help="The evaluation's name: under the same name again, it goes on where it was."),
]
Labels = Annotated[
    list[str] | None, typer.Option("--label", metavar="NAME=VALUE", help="For its runs. May be repeated.")
]
Parallel = Annotated[int, typer.Option(min=1, help="Runs at a time.")]
Within = Annotated[
    str | None, typer.Option(metavar="TIME", help="Wait no longer than this: 90, 30s, 5m, 2h.")
]
AtLeast = Annotated[
    float | None,
    typer.Option(metavar="NUMBER", help="Exit with 1 if it is less good than this, such as 0.9."),
]


@app.command("run")
def run(
    workflow: options.WorkflowName,
    cases: Cases,
    check: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:FUNCTION",
            help="Judges an `output` (and takes `expected`, `input`, `id`): a bool, a number, or a dict of them. "
            "Without it, the output must equal what was expected.",
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="VERSION|WORKFLOW",
            help="Compare with a stored version of it, with a definition's id, or with another workflow.",
        ),
    ] = None,
    name: Name = None,
    label: Labels = None,
    parallel: Parallel = 8,
    within: Within = None,
    at_least: AtLeast = None,
    app: options.App = None,
    json: options.Json = False,
) -> None:
    """Run every case of a file through a workflow, and say how good, how dear and how fast that was."""
    from orchestrator.cli import environment
    from orchestrator.cli.evaluation_report import show
    from orchestrator.definitions.compile import compile_workflow
    from orchestrator.evaluation.cases import expects_something, read_cases
    from orchestrator.evaluation.checks import load_check
    from orchestrator.evaluation.measuring import evaluate

    environment.apply(app=app)
    definition = environment.find_workflow(workflow)
    judge = load_check(check)
    looks = () if check is not None else (expects_something,)
    with environment.connected() as client:
        other = _other(client, definition, against) if against is not None else None
        text = _text(cases)
        found = [
            read_cases(text, str(cases), compile_workflow(one).input_schema, *looks)
            for one in (definition, other)
            if one is not None
        ]
        total = len(found[0]) * len(found)
        with _running(client, definition, name, label, parallel, within, total) as runner:
            told = evaluate(runner, client.result, found[0], judge, definition, other)
    if json:
        print_json(told)
    else:
        show(told)
    _require(told.measured.quality, at_least, "quality")


@app.command("route")
def route(
    workflow: options.WorkflowName,
    cases: Cases,
    step: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Which router, such as 0/*/0; without it, the first one."),
    ] = None,
    name: Name = None,
    label: Labels = None,
    parallel: Parallel = 8,
    within: Within = None,
    at_least: AtLeast = None,
    app: options.App = None,
    json: options.Json = False,
) -> None:
    """Ask a router about every case, and compare its choices with the expected ones; nobody is sent anywhere.

    The `input` of a case is what the router receives, and `expected` is the name of a way.
    """
    from orchestrator.cli import environment
    from orchestrator.cli.evaluation_report import show_route
    from orchestrator.definitions.compile import compile_workflow
    from orchestrator.evaluation.cases import read_cases
    from orchestrator.evaluation.routing import evaluate_route, expects_a_way, find_router

    environment.apply(app=app)
    definition = environment.find_workflow(workflow)
    plan = compile_workflow(definition)
    path, node = find_router(plan, step)
    found = read_cases(_text(cases), str(cases), plan.input_schema_at(path), expects_a_way(node))
    with (
        environment.connected() as client,
        _running(client, definition, name, label, parallel, within, len(found)) as runner,
    ):
        told = evaluate_route(runner, client.result, found, definition, path, node)
    if json:
        print_json(told)
    else:
        show_route(told)
    _require(told.accuracy, at_least, "accuracy")


def _text(file: Path) -> str:
    """Raises `InputError` for a file that cannot be read."""
    from orchestrator.cli.inputs import read

    return read(f"@{file}") or ""


def _other(client: Client, definition: Workflow, against: str) -> Workflow:
    """The definition to compare with. Raises `NotFound`, and `InputError` if it is the same."""
    from orchestrator.cli import environment
    from schemas.errors import Fault, InputError

    if against.isdecimal():
        found = environment.stored_version(client, definition.name, int(against))
    else:
        stored = client.versions(definition.name)
        alike = [one for known, one in stored.items() if len(against) >= _ID and known.startswith(against)]
        found = alike[0] if len(alike) == 1 else environment.find_workflow(against)
    if found.id == definition.id:
        raise InputError("--against", [Fault("", f"{against!r} is the very definition that is evaluated")])
    return found


def _require(found: float, at_least: float | None, what: str) -> None:
    if at_least is not None and found < at_least:
        typer.secho(f"{what} {found:.3f} is less than {at_least:g}", fg="red", err=True)
        raise typer.Exit(1)


def _running(
    client: Client,
    definition: Workflow,
    name: str | None,
    label: list[str] | None,
    parallel: int,
    within: str | None,
    total: int,
) -> AbstractContextManager[Evaluator]:
    from contextlib import contextmanager
    from datetime import UTC, datetime

    from orchestrator.cli.inputs import labels, seconds
    from orchestrator.evaluation.running import Evaluator

    called = name or f"{definition.name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    labelled, limit = labels(label or []), seconds(within, "--within") if within is not None else None

    @contextmanager
    def running() -> Iterator[Evaluator]:
        """With a progress bar, if anybody can see it; whoever interrupts is told how to go on."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        screen = console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=screen, disable=not screen.is_terminal, transient=True) as progress:
            bar = progress.add_task(called, total=total)

            def ended(_: RunFigures | None) -> None:
                progress.advance(bar)

            def stalled(run_id: UUID) -> None:
                notes: Sequence[str] = client.run(run_id).notes
                progress.console.print(
                    f"nothing has ended for a while: run {run_id}", *notes, sep="\n  ", markup=False
                )

            try:
                yield Evaluator(
                    client,
                    called,
                    labels=labelled,
                    parallel=parallel,
                    within=limit,
                    on_end=ended,
                    on_stall=stalled,
                )
            except KeyboardInterrupt:
                typer.secho(
                    f"Its runs go on. Go on with it: the same, with --name {called}", fg="cyan", err=True
                )
                raise

    return running()
