"""A plain Celery program, nothing of Baton but its result backend: what the workers of these tests run."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery, chain, group
from celery.exceptions import Ignore
from redis import Redis

app = Celery("canvas", set_as_current=False)


def configure(broker: str, database: str) -> None:
    app.conf.update(
        broker_url=broker,
        result_backend=f"orchestrator.results:Backend+{database}",
        result_extended=True,
        result_backend_transport_options={"create_tables": True},
        task_create_missing_queues=True,
        worker_prefetch_multiplier=1,
        broker_connection_retry_on_startup=True,
    )


if "CANVAS_BROKER" in os.environ:
    configure(os.environ["CANVAS_BROKER"], os.environ["CANVAS_DATABASE"])


def note(key: str, word: str) -> None:
    """Leave a trace that a test can find."""
    with Redis.from_url(app.conf.broker_url) as client:
        client.rpush(key, word)


def noted(key: str) -> list[str]:
    with Redis.from_url(app.conf.broker_url) as client:
        return [word.decode() for word in client.lrange(key, 0, -1)]


class NoSuchPaper(Exception):
    """An exception of the program's own."""


@app.task
def add(x: int, y: int) -> int:
    return x + y


@app.task
def same(value: Any) -> Any:
    return value


@app.task
def total(numbers: list[Any]) -> int:
    return sum(total(n) if isinstance(n, list) else n for n in numbers)


@app.task
def fail(*_: Any, why: str = "lost") -> None:
    raise NoSuchPaper(why, 404)


@app.task(ignore_result=True)
def silent(value: Any) -> Any:
    return value


@app.task
def write_down(*args: Any, key: str, word: str = "") -> str:
    note(key, word or str(args[-1]))
    return word


@app.task
def errback(request: Any, exc: BaseException, traceback: Any, key: str) -> None:
    note(key, f"{request.id} {type(exc).__name__}")


@app.task
def old_errback(task_id: str, key: str = "") -> None:
    note(key, task_id)


@app.task(bind=True)
def identity(self: Any, *_: Any) -> list[str | None]:
    return [self.request.root_id, self.request.parent_id, self.request.id]


@app.task(bind=True)
def replaced_by(self: Any, value: Any, kind: str) -> Any:
    """Replace this task by another canvas that adds ten (and once more ten in a chain)."""
    match kind:
        case "task":
            raise self.replace(add.s(value, 10))
        case "chain":
            raise self.replace(chain(add.s(value, 10), add.s(10)))
        case "group":
            raise self.replace(group(add.s(value, 10), add.s(value, 20)))
        case "failure":
            raise self.replace(fail.si(why="replaced"))
    raise Ignore


@app.task(bind=True, max_retries=2)
def keeps_failing(self: Any, key: str) -> None:
    note(key, str(self.request.retries))
    raise self.retry(exc=NoSuchPaper("still"), countdown=0)


@app.task(bind=True, max_retries=2)
def works_at_last(self: Any, value: Any) -> Any:
    if self.request.retries < 2:
        raise self.retry(countdown=0)
    return value


@app.task(bind=True)
def reports(self: Any, key: str) -> str:
    """Set a state of its own and finish when the test allows it."""
    self.update_state(state="READING", meta={"page": 7})
    with Redis.from_url(app.conf.broker_url) as client:
        client.blpop([key], 20)
    return "read"


@app.task(bind=True)
def has_children(self: Any) -> str:
    add.delay(1, 1)
    return "parent"
