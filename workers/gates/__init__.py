"""What the calls of models and tools have to pass, whichever worker makes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from orchestrator.engine import Engine, Ready
from schemas.limits import Limit
from workers.gates.breakers import BreakerGate, Breakers
from workers.gates.budget import BudgetGate
from workers.gates.limits import LimitGate
from workers.hands import Hands


def gates(
    engine: Engine,
    send: Callable[[Sequence[Ready]], object],
    breakers: Breakers,
    hands: Hands,
    of_models: Mapping[str, Sequence[Limit]] | None = None,
) -> tuple[BudgetGate, LimitGate, BreakerGate]:
    """The gates of this process, the outermost first.

    `send` sends steps that have become ready to their workers; `of_models` are the limits of models by their names.
    """
    return (
        BudgetGate(engine, send, hands.budgets),
        LimitGate(engine, send, hands.limits, of_models),
        BreakerGate(breakers),
    )
