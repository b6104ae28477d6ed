"""What lets a paused run go on, by why it is paused."""

from __future__ import annotations

import re
from uuid import UUID

_BY_ANOTHER = re.compile(r"run ([0-9a-f-]{36}) is paused: ")
_LETTER = re.compile(r"; see: (baton dead show \d+)$")


def lets_go_on(run_id: UUID, reason: str) -> str:
    """The command: a step that was set aside is decided about first; a run goes on with the one that paused it."""
    letter = _LETTER.search(reason)
    if letter is not None:
        return letter[1]
    above = _BY_ANOTHER.match(reason)
    return f"baton runs resume {above[1] if above is not None else run_id}"
