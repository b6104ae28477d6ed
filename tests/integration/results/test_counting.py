"""A chord's body fires once, whoever races, and whatever is delivered twice or dies in between."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from celery import Celery, chord, group
from celery.app.task import Context

from orchestrator.results import Backend

WIDTH = 6


def body(values: Any) -> Any:
    return values


class Watched(Backend):
    """Notes which bodies are published, and with which values."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.published: list[tuple[str, list[Any]]] = []
        self.dies = False

    def _publish_body(self, chord_id: str, callback: Any) -> None:
        if self.dies:
            raise SystemExit
        self.published.append((chord_id, self._join_header(chord_id)))


@pytest.fixture
def watched(lonely: Celery) -> Iterator[Watched]:
    lonely.task(name="body", shared=False)(body)
    lonely.conf.result_backend_transport_options = {"create_tables": True, "pool_size": WIDTH}
    backend = Watched(lonely, url=lonely.conf.result_backend.partition("+")[2])
    yield backend
    backend.close()


class Headers:
    """The headers of one open chord."""

    def __init__(self, backend: Backend, size: int) -> None:
        self.backend, self.id = backend, uuid.uuid4().hex
        self.body = backend.app.tasks["body"].s().set(task_id=f"body of {self.id}")
        backend.apply_chord((self.id, [backend.app.AsyncResult(f"{self.id}-{n}") for n in range(size)]), {})
        backend.set_chord_size(self.id, size)

    def request(self, index: int) -> Context:
        return Context(
            id=f"{self.id}-{index}", group=self.id, group_index=index, chord=dict(self.body), errbacks=[]
        )

    def finish(self, index: int) -> None:
        self.backend.mark_as_done(f"{self.id}-{index}", index, self.request(index))


def together(*acts: Callable[[], object]) -> None:
    """Run all of them at the same moment, each in a thread; raise what they raise."""
    start = threading.Barrier(len(acts))

    def run(act: Callable[[], object]) -> None:
        start.wait(10)
        act()

    with ThreadPoolExecutor(len(acts)) as pool:
        for done in [pool.submit(run, act) for act in acts]:
            done.result(30)


def test_a_header_counts_once_however_often_it_is_delivered(watched: Watched) -> None:
    headers = Headers(watched, 2)
    for _ in range(3):
        headers.finish(0)
    watched.on_chord_part_return(headers.request(0), "SUCCESS", "another value")
    assert watched.published == []
    headers.finish(1)
    headers.finish(1)
    headers.finish(0)
    assert watched.published == [(headers.id, [0, 1])]


def test_two_last_headers_that_race_fire_the_body_once(watched: Watched) -> None:
    rounds = 150
    for _ in range(rounds):
        headers = Headers(watched, 2)
        together(lambda h=headers: h.finish(0), lambda h=headers: h.finish(1))
        assert watched.published.pop() == (headers.id, [0, 1])
        assert watched.published == []


def test_many_headers_that_race_and_come_twice_fire_the_body_once(watched: Watched) -> None:
    for _ in range(25):
        headers = Headers(watched, WIDTH)
        together(*(lambda h=headers, n=n % WIDTH: h.finish(n) for n in range(2 * WIDTH)))
        assert watched.published.pop() == (headers.id, list(range(WIDTH)))
        assert watched.published == []


def test_the_same_task_at_two_places_of_a_header_counts_twice(watched: Watched) -> None:
    headers = Headers(watched, 2)
    for index in (0, 1):
        request = headers.request(index)
        request.id = "one frozen task"
        watched.on_chord_part_return(request, "SUCCESS", index)
    assert watched.published == [(headers.id, [0, 1])]


def test_a_chord_can_be_made_to_wait_for_one_more(watched: Watched) -> None:
    headers = Headers(watched, 1)
    watched.add_to_chord(headers.id, None)
    headers.finish(0)
    assert watched.published == []
    headers.finish(1)
    assert watched.published == [(headers.id, [0, 1])]


def test_result_and_count_commit_together_or_not_at_all(watched: Watched, url: str) -> None:
    headers = Headers(watched, 1)
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("ALTER TABLE chord_parts ADD CONSTRAINT full_disk CHECK (false)")
        with pytest.raises(psycopg.errors.CheckViolation):
            headers.finish(0)
        assert not watched.task_result_exists(f"{headers.id}-0")
        conn.execute("ALTER TABLE chord_parts DROP CONSTRAINT full_disk")
    headers.finish(0)
    assert watched.published == [(headers.id, [0])]


def test_a_redelivered_header_replaces_a_publisher_that_died(watched: Watched, url: str) -> None:
    headers = Headers(watched, 2)
    headers.finish(0)
    watched.dies = True
    with pytest.raises(SystemExit):
        headers.finish(1)
    watched.dies = False
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("UPDATE chords SET fired_at = fired_at - interval '1 minute'")

    together(lambda: headers.finish(1), lambda: headers.finish(0))
    assert watched.published == [(headers.id, [0, 1])]


def test_one_connection_is_enough_to_publish_a_chord_as_body(lonely: Celery) -> None:
    lonely.conf.result_backend_transport_options = {"create_tables": True, "pool_size": 1, "pool_timeout": 2}
    same = lonely.task(name="same", shared=False)(body)
    header = chord(group(same.s(1), same.s(2)), chord([same.s(), same.s()], same.s()))
    header()
    backend: Backend = lonely.backend
    for message in drain(lonely):
        request = Context(message)
        backend.mark_as_done(request.id, "value", request)
    assert len(drain(lonely)) == 2, "the inner chord's headers were published"


def drain(app: Celery) -> list[dict[str, Any]]:
    """Take all messages from the broker; return their task requests."""
    found = []
    with app.connection_for_read() as connection, connection.SimpleQueue("celery") as queue:
        while queue.qsize():
            message = queue.get_nowait()
            found.append({**message.headers, **message.payload[2]})
            message.ack()
    return found
