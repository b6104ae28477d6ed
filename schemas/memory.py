"""What agents remember beyond a run: passages of text, found again by meaning and by words."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from schemas.base import Frozen
from schemas.runs import RunState
from schemas.usage import Usage

MAX_TEXT = 100_000
"""Characters of one memory."""

MOST = 100
"""Memories that are recalled at a time."""

COMMON = ""
"""The key of what a tenant remembers of nobody in particular."""

FUSION = 60
"""The constant k of reciprocal rank fusion, from Cormack, Clarke and Büttcher, "Reciprocal rank fusion outperforms
Condorcet and individual rank learning methods", SIGIR 2009."""


@dataclass(frozen=True)
class MemorySettings:
    """How the texts of an app's memory are searched."""

    language: str = "english"
    """A text search configuration of Postgres: what counts as a word, and as the same word. `simple` takes each word
    as it is written."""

    @property
    def embedder(self) -> str | None:
        """What makes vectors of texts, if anything does."""
        return None


class Memory(Frozen):
    """One memory."""

    id: int
    tenant: str
    key: str
    """Whom or what it is about; empty for nobody in particular."""
    kind: str
    text: str
    data: Any = None
    model: str | None = None
    """What its vector is from, if it has one."""
    run_id: UUID
    """The run that remembered it."""
    path: str
    remembered_at: datetime
    expires_at: datetime | None = None


class Recalled(Frozen):
    """A memory that was found, with why."""

    id: int
    text: str
    data: Any
    score: float = Field(ge=0, le=1)
    """How well it fits, the better one of `similarity` and `share`; what comes first is told by `fused`."""
    by: Literal["vector", "text", "both"]
    """What has found it."""
    similarity: float | None
    """The cosine of the angle between its vector and that of the query, below 0 as 0; where vectors were compared."""
    share: float | None
    """The part of the query's words that it contains; where it contains any."""
    fused: float = Field(ge=0, le=1)
    """By its ranks in both searches (see `FUSION`): 1 for the first in both, or in the only one that there is."""
    key: str
    kind: str
    remembered_at: datetime
    run_id: UUID


class Episode(Frozen):
    """A past run."""

    run_id: UUID
    workflow: str
    state: RunState
    input: Any
    output: Any
    """None unless the run was completed."""
    error: str | None
    """Why it failed."""
    started: datetime | None
    finished: datetime
    cost: Usage
