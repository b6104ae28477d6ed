"""Results and groups as rows: what wins, how it is encoded, when it expires."""

from __future__ import annotations

import uuid
from typing import Any

import psycopg
import pytest
from celery import Celery
from celery.exceptions import ImproperlyConfigured
from celery.result import AsyncResult
from psycopg import sql

from orchestrator.results import Backend
from orchestrator.store.chord_queries import Header, count_part, open_chord


def state_of(backend: Backend, task_id: str) -> tuple[str, Any]:
    meta = backend.get_task_meta(task_id, cache=False)
    return meta["status"], meta["result"]


def test_an_unknown_task_is_pending_and_does_not_exist(backend: Backend) -> None:
    assert state_of(backend, "nobody") == ("PENDING", None)
    assert not backend.task_result_exists("nobody")
    backend.forget("nobody")


def test_the_first_success_stands(backend: Backend) -> None:
    backend.store_result("t", 1, "SUCCESS")
    backend.store_result("t", 2, "SUCCESS")
    backend.mark_as_failure("t", ValueError("late"))
    backend.mark_as_retry("t", ValueError("later"))
    backend.mark_as_started("t")
    assert state_of(backend, "t") == ("SUCCESS", 1)


def test_a_success_overwrites_what_came_before_it(backend: Backend) -> None:
    backend.mark_as_started("t", pid=7)
    assert state_of(backend, "t") == ("STARTED", {"pid": 7})
    backend.mark_as_failure("t", ValueError("no"))
    assert repr(state_of(backend, "t")[1]) == "ValueError('no')"
    backend.mark_as_done("t", "yes")
    assert state_of(backend, "t") == ("SUCCESS", "yes")


def test_a_forgotten_result_is_gone(lonely: Celery, backend: Backend) -> None:
    backend.mark_as_done("t", 1)
    result = AsyncResult("t", app=lonely)
    assert result.exists()
    result.forget()
    assert not result.exists()
    assert result.state == "PENDING"


VALUES = [None, "a\x00b ünï", 2**70, [1, {"a": [True]}], {"nested": {"list": [1.5]}}]


@pytest.mark.parametrize("compression", [None, "gzip"])
@pytest.mark.parametrize("serializer", ["json", "pickle", "yaml"])
def test_values_survive_every_serializer(lonely: Celery, serializer: str, compression: str | None) -> None:
    lonely.conf.update(
        result_serializer=serializer, accept_content=[serializer], result_compression=compression
    )
    backend = lonely.backend
    for value in VALUES:
        task_id = uuid.uuid4().hex
        backend.mark_as_done(task_id, value)
        assert state_of(backend, task_id) == ("SUCCESS", value)


def test_compressed_results_are_readable_after_the_setting_is_gone(lonely: Celery, url: str) -> None:
    lonely.conf.result_compression = "gzip"
    lonely.backend.mark_as_done("t", "x" * 10_000)
    with psycopg.connect(url) as conn:
        row = conn.execute("SELECT length(payload) FROM results").fetchone()
    assert row is not None
    assert row[0] < 1_000

    plain = Celery("plain", set_as_current=False, backend=f"orchestrator.results:Backend+{url}")
    assert plain.backend.get_result("t") == "x" * 10_000
    plain.backend.close()


def test_the_backend_hides_its_password_and_can_be_pickled(lonely: Celery) -> None:
    address = "postgresql://me:secret@db/baton"
    backend = Backend(lonely, url=address, expires=60)
    assert "secret" not in backend.as_uri()
    assert backend.as_uri(include_password=True) == address
    _, (cls, args, kwargs) = backend.__reduce__()
    assert (cls, args, kwargs) == (Backend, (), {"expires": 60.0, "url": address})


def test_without_tables_the_error_names_the_command(lonely: Celery) -> None:
    lonely.conf.result_backend_transport_options = {}
    with pytest.raises(ImproperlyConfigured, match="baton db upgrade"):
        lonely.backend.mark_as_done("t", 1)


def test_without_an_address_it_refuses_to_start(lonely: Celery) -> None:
    with pytest.raises(ImproperlyConfigured, match="address"):
        Backend(lonely)


# -- expiry


def age(url: str, hours: float) -> None:
    """Make everything in the database older by so many hours."""
    with psycopg.connect(url, autocommit=True) as conn:
        for table, column in [
            ("results", "stored_at"),
            ("result_groups", "stored_at"),
            ("chord_parts", "stored_at"),
            ("chords", "opened_at"),
            ("chords", "done_at"),
        ]:
            statement = sql.SQL("UPDATE {} SET {column} = {column} - make_interval(secs => %s)")
            conn.execute(
                statement.format(sql.Identifier(table), column=sql.Identifier(column)), (hours * 3600,)
            )


def rows(url: str) -> dict[str, int]:
    counts = {}
    with psycopg.connect(url) as conn:
        for table in ("results", "result_groups", "chords", "chord_parts"):
            found = conn.execute(sql.SQL("SELECT FROM {}").format(sql.Identifier(table)))
            counts[table] = found.rowcount
    return counts


def part(chord_id: str, task_id: str, index: int) -> Header:
    return Header(chord_id, task_id, index, True, b'{"status": "SUCCESS", "result": 1}')


def test_cleanup_deletes_what_expired_and_nothing_else(lonely: Celery, url: str) -> None:
    lonely.conf.result_expires = 3600
    backend = lonely.backend
    backend.mark_as_done("old", 1)
    backend.save_group("old group", lonely.GroupResult("old group", [AsyncResult("old", app=lonely)]))
    age(url, 2)
    backend.mark_as_done("young", 1)
    backend.cleanup()
    assert rows(url) == {"results": 1, "result_groups": 0, "chords": 0, "chord_parts": 0}
    assert backend.task_result_exists("young")


def test_failures_may_expire_at_a_time_of_their_own(lonely: Celery) -> None:
    lonely.conf.update(result_expires=3600, result_failure_expires=3600 * 9)
    backend = lonely.backend
    backend.mark_as_done("good", 1)
    backend.mark_as_failure("bad", ValueError())
    age(backend.url, 2)
    backend.cleanup()
    assert [backend.task_result_exists(task) for task in ("good", "bad")] == [False, True]


@pytest.mark.parametrize("never", [None, 0])
def test_results_can_be_kept_for_ever(lonely: Celery, never: int | None) -> None:
    lonely.conf.result_expires = never
    lonely.backend.mark_as_done("t", 1)
    age(lonely.backend.url, 24 * 400)
    lonely.backend.cleanup()
    assert lonely.backend.task_result_exists("t")


def test_cleanup_spares_open_chords_and_their_headers(lonely: Celery, url: str) -> None:
    backend = lonely.backend
    backend.mark_as_done("header", 1)
    backend.with_connection(lambda conn: open_chord(conn, "open", b"{}"))
    backend.with_connection(lambda conn: count_part(conn, part("open", "header", 0)))
    backend.with_connection(lambda conn: count_part(conn, part("orphan", "lost", 0)))
    age(url, 24 * 30)
    backend.cleanup()
    assert rows(url) == {"results": 1, "result_groups": 0, "chords": 1, "chord_parts": 1}


def test_an_open_chord_is_given_up_only_when_asked_and_without_any_news(lonely: Celery, url: str) -> None:
    lonely.conf.result_chord_expires = 3600
    backend = lonely.backend
    for chord_id in ("silent", "alive"):
        backend.with_connection(lambda conn, chord_id=chord_id: open_chord(conn, chord_id, None))
    age(url, 2)
    backend.with_connection(lambda conn: count_part(conn, part("alive", "header", 0)))
    backend.cleanup()
    with psycopg.connect(url) as conn:
        assert conn.execute("SELECT id FROM chords").fetchall() == [("alive",)]
