"""State that agents share, and the conversations they keep."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from schemas.base import Frozen

MAX_VALUE = 1_000_000
"""Bytes of one value as JSON."""

MAX_HISTORY = 1_000
"""Messages that are read at a time."""


class Merge(StrEnum):
    """How a value becomes part of one that others write to as well. Missing values count as empty, or as nothing."""

    APPEND = "append"
    """To a list."""
    UNION = "union"
    """Into a list without repetitions."""
    MAX = "max"
    MIN = "min"
    ADD = "add"
    """To a number."""
    REPLACE = "replace"


class Scope(StrEnum):
    """Who shares a state."""

    RUN = "run"
    """The steps of one run."""
    STEP = "step"
    """The attempts of one step."""
    KEY = "key"
    """All runs of a tenant that name the same key."""
    SESSION = "session"
    """A conversation, likewise."""


class Versioned(Frozen):
    """A value, and how often it has been written."""

    value: Any = None
    version: int = 0
    """0 for one that nobody has written."""


class SessionMessage(Frozen):
    """One message of a conversation."""

    number: int
    """From 1, without gaps."""
    message: Any
    run_id: UUID
    path: str
    at: datetime
