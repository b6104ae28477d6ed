"""What the calls of models and tools have to pass, whichever worker makes them."""

from __future__ import annotations

from orchestrator.engine import Engine
from orchestrator.places import Places
from workers.calls import Gate


def gates(engine: Engine, places: Places) -> tuple[Gate, ...]:
    """The gates of this process, the outermost first: budgets, limits, breakers."""
    return ()
