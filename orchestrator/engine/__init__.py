"""The verbs of a run: submit, claim, record, cancel, resume; each one transaction on Postgres."""

from orchestrator.engine.engine import Engine
from orchestrator.engine.intake import canonical
from orchestrator.engine.limits import Wanted
from orchestrator.engine.values import (
    Claimed,
    Finished,
    Note,
    Onward,
    Pointer,
    Ready,
    Recorded,
    Refused,
    Submission,
    Submitted,
    WorkerId,
)

__all__ = [
    "Claimed",
    "Engine",
    "Finished",
    "Note",
    "Onward",
    "Pointer",
    "Ready",
    "Recorded",
    "Refused",
    "Submission",
    "Submitted",
    "Wanted",
    "WorkerId",
    "canonical",
]
