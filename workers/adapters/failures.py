"""What a framework raises, as failures that say whether another attempt may help."""

from __future__ import annotations

from orchestrator.credentials import own
from schemas.errors import AgentError, Permanent, causes
from workers.calls import PASSING


def told(error: Exception) -> AgentError | None:
    """An answer of a provider as a failure without the credentials that providers repeat in what they answer.

    None for anything else.
    """
    for one in causes(error):
        status = getattr(one, "status_code", None)
        if isinstance(status, int):
            refused = 400 <= status < 500 and status not in PASSING
            return (Permanent if refused else AgentError)(own(str(one)))
    return None
