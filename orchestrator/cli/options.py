"""Options and arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.completion import run_ids, workflow_names

App = Annotated[
    str | None,
    typer.Option(
        "--app",
        envvar="BATON_APP",
        metavar="MODULE",
        help="Where your agents and workflows are: modules or .py files, separated by commas.",
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        envvar="BATON_DATA_DIR",
        metavar="FOLDER",
        help="Where the servers of this machine keep their files (.baton).",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Run = Annotated[
    str,
    typer.Argument(metavar="RUN", help="Its id, the beginning of its id, or `last`.", autocompletion=run_ids),
]
WorkflowName = Annotated[
    str, typer.Argument(metavar="WORKFLOW", help="Its name.", autocompletion=workflow_names)
]
Watch = Annotated[
    bool, typer.Option("--watch", "-w", help="Show the run until it ends, then what it produced.")
]
