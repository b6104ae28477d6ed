"""What must happen next: definitions become plans, plans become messages, Postgres remembers everything."""

from orchestrator.vocabulary import each, fan_out, workflow

__all__ = ["each", "fan_out", "workflow"]
