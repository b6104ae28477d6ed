"""`baton doctor`: what is misconfigured, and how to mend it."""

from __future__ import annotations

import typer

from orchestrator.cli import options
from orchestrator.cli.output import print_json

_MARKS = {"ok": ("✔", "green"), "warn": ("!", "yellow"), "fail": ("✘", "red")}


def doctor(app: options.App = None, json: options.Json = False) -> None:
    """Check Postgres, Redis, Celery and the app, and name a fix for every fault; exit code 1 on a failure."""
    from orchestrator.cli import environment
    from orchestrator.doctor import examine

    environment.apply(app=app)
    findings = examine()
    if json:
        print_json(findings)
    else:
        for finding in findings:
            mark, colour = _MARKS[finding.level]
            typer.secho(f"{mark} {finding.check:<12} ", fg=colour, nl=False)
            typer.echo(finding.sentence)
            if finding.fix:
                typer.secho(f"  {'':<12} → {finding.fix}", fg="cyan")
    if any(finding.level == "fail" for finding in findings):
        raise typer.Exit(1)
