"""Workflows for the tests of the command line."""

from __future__ import annotations

from pydantic import BaseModel

from orchestrator import each, fan_out, workflow
from schemas import Budget, Gathered, Retry
from workers import agent


class Note(BaseModel):
    text: str


@agent(timeout=10, retry=Retry(max=2, base=1, factor=2, cap=60))
def draft(note: Note) -> Note:
    """Drafts."""
    return note


@agent(timeout=20, retry=Retry(max=0))
def check(note: Note) -> Note:
    """Checks."""
    return note


@agent(timeout=5, retry=Retry(max=1, base=3))
def merge(notes: Gathered[Note]) -> Note:
    """Merges."""
    return notes.results[0]


@agent(timeout=30, retry=Retry(max=0))
def split(note: Note) -> list[Note]:
    """Splits."""
    return [note]


@agent(timeout=1)
def shout(text: str) -> str:
    """Shouts."""
    return text.upper()


line = workflow("line", draft >> check, budget=Budget(usd=0.5, tokens=1000))
wide = workflow("wide", fan_out(draft, check, slow=draft >> check, join=merge, parallel=2, require=2))
many = workflow("many", split >> each(draft, join=merge, max_items=100, parallel=10, within=60), timeout=1000)
plain = workflow("plain", shout)
