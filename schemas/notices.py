"""What people are told about waits; each notice may arrive more than once, always under the same id."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from schemas.base import Frozen


class Notice(Frozen):
    """One thing to tell.

    Kinds: `approval.asked`, `approval.escalated`, `approval.settled`, `approval.informed` (a medium risk, which goes
    on), `question.asked`, `question.escalated`, `question.settled`, `tool.informed` (a call of a tool of medium
    risk that was made), `breaker.opened`, `breaker.closed` (a circuit).
    """

    id: UUID
    kind: str
    run_id: UUID
    path: str
    workflow: str
    at: datetime
    body: dict[str, Any]
    """What it is about: the number of the wait, its name, who is asked, why; the payload itself is not in it."""
