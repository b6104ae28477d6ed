"""The producer's side: enqueue runs, follow them, read what became of them."""

from orchestrator.client.client import Client
from orchestrator.client.handle import RunHandle

__all__ = ["Client", "RunHandle"]
