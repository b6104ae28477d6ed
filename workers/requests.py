"""What Flower, logs and `celery inspect` are told of a message: who it is for, not what is in it."""

from __future__ import annotations

from typing import Any

from celery.worker.request import Request

NOT_TOLD = "(...)"


class Unquoted(Request):
    """Does not repeat what the sender says that the arguments look like; a subclass tells what may be known."""

    @property
    def argsrepr(self) -> str:
        return NOT_TOLD

    @property
    def kwargsrepr(self) -> str:
        return "{...}" if self.kwargs else "{}"

    def info(self, safe: bool = False) -> dict[str, Any]:
        return super().info(safe) | {"args": self.argsrepr, "kwargs": self.kwargsrepr}
