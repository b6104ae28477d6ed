"""What the demo does to a worker, to show that nothing is lost: SIGKILL in the middle of a step."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING
from uuid import UUID

from rich.console import Console

from schemas.runs import RUN_ENDED, RunView, StepState, StepView

if TYPE_CHECKING:
    from orchestrator.client import Client
    from orchestrator.local.stack import Stack

_LOOK = 0.05  # seconds between two looks for a victim
_FIRST_DONE = 10  # steps that are done before the blow falls: there has to be something to lose


class Sabotage:
    """Kills one busy worker of a run from a thread of its own, as soon as the run is well under way."""

    def __init__(self, client: Client, stack: Stack, run_id: UUID, console: Console) -> None:
        self._client = client
        self._stack = stack
        self._run_id = run_id
        self._console = console
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._lurk, name="sabotage", daemon=True)
        self.killed: str | None = None
        """The name of the process that was killed."""

    def __enter__(self) -> Sabotage:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _lurk(self) -> None:
        while not self._over.wait(_LOOK):
            view = self._client.run(self._run_id)
            if view.state in RUN_ENDED or any(self._kill(step) for step in victims(view)):
                return

    def _kill(self, step: StepView) -> bool:
        name = (step.worker or "").partition("@")[0]
        for process in self._stack.supervisor.statuses():
            if process.name == name and process.pid is not None:
                os.kill(process.pid, signal.SIGKILL)
                self.killed = name
                self._console.print(
                    f"[bold red]Killed {name} (SIGKILL) while it worked on step {step.path}.[/] "
                    "Its steps run again elsewhere; what is done stays done."
                )
                return True
        return False


def victims(view: RunView) -> list[StepView]:
    """Steps whose worker is worth killing: running branches of a run that has something to lose."""
    done = sum(step.state is StepState.DONE for step in view.steps)
    if done < _FIRST_DONE:
        return []
    return [step for step in view.steps if step.state is StepState.RUNNING and step.worker]
