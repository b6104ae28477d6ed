"""The connections of one process: how many there are, and what becomes of them when something breaks."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from orchestrator.store.connect import Conn, NoConnection, Pool

SIZE = 3


@pytest.fixture
def pool(database: str) -> Iterator[Pool]:
    made = Pool(database, size=SIZE, timeout=0.3)
    yield made
    made.close()


def sessions(database: str) -> int:
    with psycopg.connect(database) as conn:
        row = conn.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'baton'"
        ).fetchone()
    assert row is not None
    return int(row[0])


def pid(conn: Conn) -> int:
    row = conn.execute("SELECT pg_backend_pid()").fetchone()
    assert row is not None
    return int(row[0])


def end(database: str) -> None:
    """End all sessions of the pool."""
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'baton'"
        )


def borrow_all(pool: Pool) -> None:
    """Have all connections in use at once."""
    together = threading.Barrier(SIZE)

    def use(_: int) -> None:
        with pool.connection() as conn:
            together.wait(10)
            conn.execute("SELECT 1")

    with ThreadPoolExecutor(SIZE) as threads:
        list(threads.map(use, range(SIZE)))


def test_there_are_never_more_connections_than_allowed(database: str) -> None:
    pool = Pool(database, size=SIZE)

    def use(_: int) -> int:
        with pool.connection() as conn:
            return pid(conn)

    with ThreadPoolExecutor(12) as threads:
        pids = set(threads.map(use, range(200)))

    assert len(pids) <= SIZE
    assert sessions(database) <= SIZE
    pool.close()


def test_a_thread_that_gets_none_in_time_is_told_so(pool: Pool) -> None:
    told = pytest.raises(NoConnection, match=r"none of 3 connections became free in 0\.3 s")
    with pool.connection(), pool.connection(), pool.connection(), told, pool.connection():
        pass
    with pool.connection() as conn:
        assert pid(conn)


def test_connections_that_the_server_ended_are_replaced_at_once(pool: Pool, database: str) -> None:
    borrow_all(pool)
    end(database)

    began = time.monotonic()
    borrow_all(pool)

    assert time.monotonic() - began < 0.5


def test_a_connection_that_breaks_in_use_is_not_lent_again(pool: Pool, database: str) -> None:
    with pool.connection() as conn:
        end(database)
        with pytest.raises(psycopg.OperationalError):
            conn.execute("SELECT 1")
    with pool.connection() as conn:
        assert pid(conn)


def test_a_server_that_is_away_is_told_at_once_and_costs_no_connection() -> None:
    nowhere = Pool("postgresql://nobody@127.0.0.1:1/nothing", size=1)
    for _ in range(3):
        began = time.monotonic()
        with pytest.raises(psycopg.OperationalError, match="onnection refused"), nowhere.connection():
            pass
        assert time.monotonic() - began < 1


def test_what_was_left_open_is_rolled_back(pool: Pool) -> None:
    with pool.connection() as conn:
        conn.execute("CREATE TABLE kept (n int)")
        conn.execute("BEGIN")
        conn.execute("INSERT INTO kept VALUES (1)")
    with pool.connection() as conn:
        assert conn.execute("SELECT count(*) FROM kept").fetchone() == (0,)


def test_a_child_uses_none_of_its_parents_connections(pool: Pool) -> None:
    with pool.connection() as conn:
        parents = pid(conn)
    read, write = os.pipe()

    child = os.fork()
    if child == 0:
        with pool.connection() as conn:
            os.write(write, f"{pid(conn)}".encode())
        os._exit(0)
    os.waitpid(child, 0)

    assert int(os.read(read, 100)) != parents
    with pool.connection() as conn:
        assert pid(conn) == parents


def test_a_pool_that_was_closed_begins_anew(pool: Pool, database: str) -> None:
    with pool.connection():
        pool.close()
        pool.close()
    assert sessions(database) == 0
    with pool.connection() as conn:
        assert pid(conn)
