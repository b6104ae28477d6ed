"""What a worker logs when one model answers instead of another: once in a while, however many calls there are."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from schemas.errors import AgentError, CircuitOpen
from workers.models.failures import ModelFailed, ModelRefused
from workers.models.named import Model

log = logging.getLogger(__name__)

WINDOW = 60.0
"""Seconds for which the same is not said again, where no breaker says."""


class StandIns:
    """What one process has said of models that stand in; safe from many threads."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._until: dict[tuple[str, str, str], float] = {}

    def tell(self, agent: str, model: Model, error: AgentError, instead: Model) -> None:
        """`instead` has answered, because of this error of `model`: without the provider's words, which may hold
        what it was asked. They are in the run's events, where they are masked.
        """
        cause = _cause(error)
        window = model.breaker.open if model.breaker is not None else WINDOW
        if self._is_new((agent, model.name, cause), window):
            log.warning(
                "agent %s: %s answers instead of %s: %s; not said again for %g s",
                agent,
                instead.name,
                model.name,
                cause,
                window,
            )

    def _is_new(self, what: tuple[str, str, str], window: float) -> bool:
        with self._lock:
            now = self._now()
            if self._until.get(what, now) > now:
                return False
            self._until[what] = now + window
        return True


def _cause(error: AgentError) -> str:
    if isinstance(error, ModelFailed | ModelRefused):
        return error.cause
    return "its circuit is open" if isinstance(error, CircuitOpen) else type(error).__name__


STAND_INS = StandIns()
