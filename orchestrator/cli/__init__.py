"""The command `baton`. Heavy things are imported inside the commands, so that `--help` answers at once."""

from __future__ import annotations


def main() -> None:
    """Run the command line of this process."""
    from orchestrator.cli.app import app

    app()
