"""Circuit breakers that all workers share: whether something that keeps failing is worth a try."""

from orchestrator.breakers.circuits import Change, Circuits, End, Passage, Verdict

__all__ = ["Change", "Circuits", "End", "Passage", "Verdict"]
