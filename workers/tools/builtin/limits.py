"""What a program of a model may use."""

from __future__ import annotations

from typing import NamedTuple


class SandboxLimits(NamedTuple):
    seconds: float
    memory: int
    """Bytes."""
    max_bytes: int
    """That it may print."""
    user: str
    """As whom it runs, where the worker is root and the sandbox needs somebody else."""
