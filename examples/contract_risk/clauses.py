"""A contract as its numbered clauses, each with its line and its sentences."""

from __future__ import annotations

import re

from pydantic import BaseModel, Field

LONGEST_TITLE = 6
"""Words."""

_HEADING = re.compile(r"^(\d{1,2}(?:\.\d{1,2})*)\.?\s+(\S.*)$")
_FRAME = re.compile(r"^[\s=\-_~*]+$|^\s*\*\s|\s\*$")
_END = re.compile(r"(?<=[.;])\s+(?=[\"(A-Z])")


class Contract(BaseModel):
    """A contract in plain text, with numbered clauses."""

    text: str = Field(max_length=2_000_000)


class Clause(BaseModel):
    """One clause: its number, what it is called, and what it says."""

    number: str
    title: str
    line: int
    text: str
    """On one line, as it stands there otherwise."""

    @property
    def sentences(self) -> list[str]:
        return [one for one in _END.split(self.text) if one]


class Clauses(BaseModel):
    clauses: list[Clause]


def clauses(text: str) -> list[Clause]:
    """The numbered clauses that say something; a heading above other clauses says nothing itself."""
    found: list[Clause] = []
    runs_on = False  # the line before belongs to what this one says
    for number, raw in enumerate(text.splitlines(), start=1):
        line = _FRAME.sub("", raw).strip()
        heading = _HEADING.match(line)
        if heading is not None:
            found.append(Clause(number=heading[1], title=_short(heading[2]), line=number, text=""))
            said = heading[2]
        elif found and line:
            last = found[-1]
            said = f"{said} {line}" if last.text or runs_on else line
            found[-1] = last.model_copy(update={"text": said})
        runs_on = bool(line)
    return [one for one in found if one.text]


def _short(title: str) -> str:
    words = title.split()
    return title if len(words) <= LONGEST_TITLE else f"{' '.join(words[:LONGEST_TITLE])} …"
