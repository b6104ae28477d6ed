"""What a framework raises, as failures that say whether another attempt may help."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.credentials import own
from schemas.errors import AgentError, Permanent

PASSING = {408, 409, 425, 429}
"""Answers of a provider that may be others next time, as may all from 500."""


def told(error: Exception) -> AgentError | None:
    """An answer of a provider as a failure without the credentials that providers repeat in what they answer.

    None for anything else.
    """
    for one in _chain(error):
        status = getattr(one, "status_code", None)
        if isinstance(status, int):
            refused = 400 <= status < 500 and status not in PASSING
            return (Permanent if refused else AgentError)(own(str(one)))
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
