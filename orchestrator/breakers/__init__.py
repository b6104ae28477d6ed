"""Circuit breakers that all workers share: whether something that keeps failing is worth a try."""

from orchestrator.breakers.circuits import CircuitChange, CircuitPass, Circuits, End, Evidence

__all__ = ["CircuitChange", "CircuitPass", "Circuits", "End", "Evidence"]
