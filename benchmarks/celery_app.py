"""The same work as plain Celery, with its defaults: JSON, Redis for messages and results, early acknowledgement."""

from __future__ import annotations

import http.client
import os
import threading
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import urlsplit

from celery import Celery

STAGES = 5

_mine = threading.local()


def make_app(redis_url: str) -> Celery:
    """A Celery app on one Redis."""
    return Celery("plain", broker=redis_url, backend=redis_url, set_as_current=False)


app = make_app(os.environ.get("BENCHMARK_REDIS", "redis://"))
_task = cast(Callable[[Callable[..., Any]], Any], app.task)


def _stage(n: int) -> int:
    return n + 1


for _number in range(1, STAGES + 1):
    app.task(_stage, name=f"stage{_number}")


@_task
def branch(n: int) -> int:
    return n + 1


@_task
def total(numbers: list[int]) -> int:
    return sum(numbers)


@_task
def ask(n: int) -> int:
    """One request, over a connection that the thread keeps."""
    place = urlsplit(os.environ["BENCHMARK_SERVER"])
    if not hasattr(_mine, "connection"):
        _mine.connection = http.client.HTTPConnection(place.hostname or "", place.port)
    _mine.connection.request("GET", "/")
    return n + len(_mine.connection.getresponse().read())
