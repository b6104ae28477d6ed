"""`baton workflows` and `baton plan`: what can run, and what it can cost at most."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli import options
from orchestrator.cli.output import as_json, print_json, print_table, took

if TYPE_CHECKING:
    from schemas.workflows import Workflow

app = typer.Typer(no_args_is_help=True, help="The workflows that can run.")


@app.command("ls")
def ls(app: options.App = None, json: options.Json = False) -> None:
    """List the workflows of the app; without an app, those that the database knows."""
    from orchestrator.cli import environment
    from schemas.settings import settings

    environment.apply(app=app)
    if settings().app:
        found = sorted(environment.loaded().workflows.values(), key=lambda one: one.name)
    else:
        with environment.connected() as client:
            found = client.workflows()
    if json:
        print_json(found)
        return
    print_table(
        ["WORKFLOW", "VERSION", "AGENTS", "DESCRIPTION"],
        [(one.name, one.version, ", ".join(one.agents), _first_line(one.description)) for one in found],
        empty="The database knows no workflow yet. Name a module that holds some: --app MODULE",
    )


def plan(
    workflow: options.WorkflowName,
    app: options.App = None,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="Print only the Mermaid chart.")] = False,
    json: options.Json = False,
) -> None:
    """Show what a run of a workflow can cost at most, what it takes as input, and how it looks."""
    from orchestrator.cli import environment
    from orchestrator.plan import mermaid as chart

    environment.apply(app=app)
    definition = environment.find_workflow(workflow)
    if mermaid:
        typer.echo(chart(definition), nl=False)
    elif json:
        print_json(_facts(definition))
    else:
        _print(definition)


def _facts(workflow: Workflow) -> dict[str, Any]:
    from orchestrator.compile import compile_workflow
    from orchestrator.plan import bounds, mermaid

    worst = bounds(workflow)
    return {
        "workflow": workflow.name,
        "version": workflow.version,
        "definition": workflow.id,
        "description": workflow.description,
        "bounds": {
            "steps": worst.steps,
            "calls": worst.calls,
            "attempts": worst.attempts,
            "parallel": worst.parallel,
            "depth": worst.depth,
            "seconds": worst.seconds if math.isfinite(worst.seconds) else None,
            "messages": worst.attempts,
            "timeout": workflow.timeout,
            "budget": workflow.budget,
        },
        "queues": [agent.queue for agent in workflow.agents.values()],
        "input_schema": compile_workflow(workflow).input_schema,
        "mermaid": mermaid(workflow),
    }


def _print(workflow: Workflow) -> None:
    facts = _facts(workflow)
    worst, budget = facts["bounds"], workflow.budget
    amounts = ((budget.usd, "USD"), (budget.tokens, "tokens"), (budget.model_calls, "model calls"))
    limits = [f"{amount} {unit}" for amount, unit in amounts if amount is not None]
    typer.secho(f"{workflow.name}, version {workflow.version}", bold=True)
    if workflow.description:
        typer.echo(workflow.description)
    typer.echo()
    print_table(
        ["AT MOST", "", ""],
        [
            ("agent calls", f"{worst['calls']:,}", f"{worst['steps']:,} steps, {worst['depth']} deep"),
            ("attempts", f"{worst['attempts']:,}", "every retry used up; as many messages on the broker"),
            ("at a time", f"{worst['parallel']:,}", "attempts, if there are enough workers"),
            ("time", took(worst["seconds"]), "every timeout and wait used up, no queueing"),
            ("budget", ", ".join(limits) or "no limit", ""),
        ],
        empty="",
    )
    typer.echo(f"\nqueues:  {', '.join(facts['queues'])}")
    typer.echo(f"input:   {as_json(facts['input_schema'])}\n")
    typer.echo(facts["mermaid"], nl=False)


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]
