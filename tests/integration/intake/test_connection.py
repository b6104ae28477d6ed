"""`submit(connection=...)`: the run exists if and only if the caller commits, and nothing else changes."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row
from psycopg.types.string import TextLoader
from sqlalchemy import Engine as SqlEngine
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import NullPool

from orchestrator.client import Client, RunHandle
from orchestrator.definitions.vocabulary import each, fan_out, workflow
from schemas.errors import IdempotencyConflict, InputError, NotFound, Unavailable
from tests.integration.engine.bench import Bench, named
from tests.support import Databases, eventually

A, B, JOIN = named("a"), named("b"), named("j")
LINE = workflow("line", A >> B)
MANY = workflow("many", each(A, join=JOIN))
SPREAD = workflow("spread", fan_out(A, B, join=JOIN))


@contextmanager
def alchemy(url: str, **options: Any) -> Iterator[SqlEngine]:
    engine = create_engine(
        url.replace("postgresql://", "postgresql+psycopg://", 1), poolclass=NullPool, **options
    )
    yield engine
    engine.dispose()


def runs(bench: Bench) -> int:
    """Runs in the database, none of which is there in part."""
    (found,) = bench.query("""
        SELECT (SELECT count(*) FROM runs), (SELECT count(DISTINCT run_id) FROM steps),
               (SELECT count(DISTINCT run_id) FROM events),
               (SELECT count(*) FROM idempotency_keys WHERE run_id NOT IN (SELECT id FROM runs))""")
    assert len({*found[:3]}) == 1, found
    assert found[3] == 0
    return int(found[0])


def orders(bench: Bench) -> int:
    return int(bench.query("SELECT count(*) FROM orders")[0][0])


# --- whose transaction it is ------------------------------------------------------------------------------


@contextmanager
def psycopg_connection(url: str) -> Iterator[tuple[Any, Callable[[Any], Any]]]:
    with psycopg.connect(url) as conn:
        yield conn, conn.execute


@contextmanager
def psycopg_in_a_block(url: str) -> Iterator[tuple[Any, Callable[[Any], Any]]]:
    """An autocommit connection whose transaction somebody opened by hand."""
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("BEGIN")
        yield conn, conn.execute


@contextmanager
def psycopg_with_a_pipeline(url: str) -> Iterator[tuple[Any, Callable[[Any], Any]]]:
    with psycopg.connect(url) as conn, conn.pipeline():
        yield conn, conn.execute


@contextmanager
def alchemy_connection(url: str) -> Iterator[tuple[Any, Callable[[Any], Any]]]:
    with alchemy(url) as engine, engine.connect() as conn:
        yield conn, lambda statement: conn.execute(text(statement))


@contextmanager
def alchemy_session(url: str) -> Iterator[tuple[Any, Callable[[Any], Any]]]:
    with alchemy(url) as engine, Session(engine) as session:
        yield session, lambda statement: session.execute(text(statement))


@contextmanager
def alchemy_scoped_session(url: str) -> Iterator[tuple[Any, Callable[[Any], Any]]]:
    with alchemy(url) as engine:
        session = scoped_session(sessionmaker(engine))
        yield session, lambda statement: session.execute(text(statement))
        session.remove()


KINDS = [
    psycopg_connection,
    psycopg_in_a_block,
    psycopg_with_a_pipeline,
    alchemy_connection,
    alchemy_session,
    alchemy_scoped_session,
]


@pytest.mark.parametrize("lend", KINDS)
@pytest.mark.parametrize("first", ["the run", "the order"])
def test_the_run_exists_if_and_only_if_the_caller_commits(
    client: Client, bench: Bench, migrated: str, lend: Any, first: str
) -> None:
    with lend(migrated) as (connection, execute):
        # Given an order and its run in one transaction, in either order
        def place(number: int) -> RunHandle:
            order = f"INSERT INTO orders VALUES ({number})"  # noqa: S608  a number of ours
            if first == "the order":
                execute(order)
            handle = client.submit(LINE, number, idempotency_key=f"order {number}", connection=connection)
            if first == "the run":
                execute(order)
            return handle

        place(1)
        # When it is rolled back, there is neither
        connection.rollback()
        assert (runs(bench), orders(bench)) == (0, 0)
        if lend is psycopg_in_a_block:
            execute("BEGIN")
        # And when another one commits, there are both, but not before
        handle = place(2)
        assert (runs(bench), orders(bench)) == (0, 0)
        with pytest.raises(NotFound):
            handle.view()
        connection.commit()

    assert (runs(bench), orders(bench)) == (1, 1)
    assert handle.created
    assert handle.view().state == "queued"


def test_a_savepoint_of_the_caller_takes_the_run_with_it(client: Client, bench: Bench, migrated: str) -> None:
    with psycopg.connect(migrated) as conn:
        conn.execute("INSERT INTO orders VALUES (1)")
        with conn.transaction() as inner:
            client.submit(LINE, 1, connection=conn)
            raise psycopg.Rollback(inner)
    with alchemy(migrated) as engine, engine.begin() as sql:
        with sql.begin_nested() as nested:
            client.submit(LINE, 2, connection=sql)
            nested.rollback()
        kept = client.submit(LINE, 3, connection=sql)

    assert (runs(bench), orders(bench)) == (1, 1)
    assert kept.view().input == 3


def test_ten_thousand_runs_are_one_transaction_of_the_caller(
    client: Client, bench: Bench, migrated: str
) -> None:
    with psycopg.connect(migrated) as conn:
        handles = client.submit_many(LINE, range(10_000), connection=conn)
        assert runs(bench) == 0
        conn.rollback()
        assert runs(bench) == 0
        handles = client.submit_many(LINE, range(10_000), connection=conn)

    assert runs(bench) == 10_000
    assert len({handle.id for handle in handles}) == 10_000


def test_the_definition_is_there_whatever_becomes_of_the_transaction(
    client: Client, bench: Bench, migrated: str
) -> None:
    with psycopg.connect(migrated) as conn:
        client.submit(LINE, 1, connection=conn)
        conn.rollback()
        client.submit("line", 2, connection=conn)

    assert runs(bench) == 1
    bench.fire()
    bench.drain()
    assert bench.query("SELECT state FROM runs") == [("completed",)]


# --- what follows the commit ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("definition", "value", "first"),
    [
        (LINE, 1, ["0"]),
        (SPREAD, 1, ["0/a", "0/b"]),
        (MANY, [1, 2, 3], ["0/0", "0/1", "0/2"]),
        (MANY, [], ["0/join"]),
    ],
)
def test_the_first_steps_wait_unsent_and_are_found_after_the_commit(
    client: Client, bench: Bench, migrated: str, definition: Any, value: Any, first: list[str]
) -> None:
    # Given a run whose caller has not committed
    with psycopg.connect(migrated) as conn:
        handle = client.submit(definition, value, connection=conn)
        # When the timers look, they find nothing
        bench.fire()
        assert bench.messages == []

    # And after the commit they find the first steps, once
    bench.fire()
    assert sorted(one.path for one in bench.messages) == first
    bench.fire()
    assert len(bench.messages) == len(first)
    bench.drain()
    assert bench.end(handle.id).state == "completed"


def test_the_caller_may_send_after_the_commit_without_waiting_for_anyone(
    client: Client, bench: Bench, migrated: str
) -> None:
    with psycopg.connect(migrated) as conn:
        handles = client.submit_many(SPREAD, range(3), connection=conn)
        later = client.submit(LINE, 1, delay=60, connection=conn)
        assert client.send(handles) == 0  # before the commit there is nothing to send

    assert handles[0].send() == 2
    assert client.send(handles) == 4
    assert client.send(handles) == 0
    assert later.send() == 0
    bench.fire()
    assert bench.messages == []


def test_a_delayed_start_counts_from_the_submission(client: Client, bench: Bench, migrated: str) -> None:
    with psycopg.connect(migrated) as conn:
        client.submit(LINE, 1, delay=3600, connection=conn)

    ((left,),) = bench.query("SELECT extract(epoch FROM due_at - clock_timestamp())::float8 FROM steps")
    assert 3500 < left <= 3600


# --- what is left as it was -------------------------------------------------------------------------------


def test_the_session_is_left_as_it_was(client: Client, bench: Bench, migrated: str) -> None:
    # Given a connection that has its own ways, in a schema with tables of the same names
    with psycopg.connect(migrated, row_factory=dict_row, prepare_threshold=0) as conn:
        conn.adapters.register_loader("uuid", TextLoader)
        conn.adapters.register_loader("bool", TextLoader)
        conn.execute("CREATE SCHEMA shop")
        for table in ("runs", "steps", "definitions"):
            conn.execute(f"CREATE TABLE shop.{table} (id int)")
        conn.execute("CREATE TEMP TABLE events (id int)")
        conn.execute("SET search_path = shop")
        conn.commit()
        conn.execute("SET LOCAL search_path = shop, public")

        def settings() -> Any:
            told = conn.execute("SELECT name, setting FROM pg_settings ORDER BY name").fetchall()
            ours = (
                "SELECT count(*) FROM pg_prepared_statements WHERE statement ~ 'INSERT|SAVEPOINT|set_config'"
            )
            prepared = conn.execute(ours).fetchone()
            return told, prepared, conn.autocommit, conn.row_factory, conn.prepare_threshold

        settings()
        before = settings()
        # When it is lent for good and bad submissions
        for _ in range(7):
            client.submit(LINE, 1, connection=conn)
        client.submit(LINE, 1, idempotency_key="k", connection=conn)
        with pytest.raises(IdempotencyConflict):
            client.submit(LINE, 2, idempotency_key="k", connection=conn)
        # Then nothing of it is changed, in this transaction
        assert settings() == before
        conn.commit()
        # or in the next
        assert conn.execute("SHOW search_path").fetchone() == {"search_path": "shop"}
        assert conn.execute("SELECT count(*) AS n FROM runs").fetchone() == {"n": 0}
    assert runs(bench) == 8


def test_a_refused_submission_leaves_no_trace_in_a_transaction_that_goes_on(
    client: Client, bench: Bench, migrated: str
) -> None:
    client.submit(LINE, 1, idempotency_key="taken")
    with psycopg.connect(migrated) as conn:
        conn.execute("INSERT INTO orders VALUES (1)")
        with pytest.raises(IdempotencyConflict, match="'taken' belongs to run"):
            client.submit_many(LINE, [7, 8], idempotency_keys=["free", "taken"], connection=conn)
        conn.execute("INSERT INTO orders VALUES (2)")

    assert (runs(bench), orders(bench)) == (1, 2)
    assert client.submit(LINE, 9, idempotency_key="free").created


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_any_isolation_level_will_do(client: Client, bench: Bench, migrated: str, level: str) -> None:
    with psycopg.connect(migrated) as conn:
        conn.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
        conn.execute("SELECT FROM orders")  # takes the snapshot, before the definition is stored
        handle = client.submit(LINE, 1, idempotency_key="k", connection=conn)

    assert handle.view().state == "queued"
    assert runs(bench) == 1


def test_what_asks_for_the_transaction_to_be_repeated_reaches_whoever_owns_it(
    client: Client, migrated: str
) -> None:
    with psycopg.connect(migrated) as conn:
        conn.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
        conn.execute("SELECT FROM orders")
        client.submit(LINE, 1, idempotency_key="k")
        with pytest.raises(psycopg.errors.SerializationFailure):
            client.submit(LINE, 1, idempotency_key="k", connection=conn)
        conn.rollback()
        assert not client.submit(LINE, 1, idempotency_key="k", connection=conn).created


# --- what is refused --------------------------------------------------------------------------------------


def test_only_a_connection_with_a_transaction_will_do(
    client: Client, bench: Bench, migrated: str, databases: Databases
) -> None:
    def refused(connection: object, because: str) -> None:
        with pytest.raises(InputError, match=because) as told:
            client.submit(LINE, 1, connection=connection)
        assert told.value.next_step

    refused("postgresql://", r"it is builtins\.str, but must be a psycopg 3 Connection, or a SQLAlchemy")
    refused(sqlite3.connect(":memory:"), r"it is sqlite3\.Connection, but must be")
    with create_engine("sqlite://").connect() as lite:
        refused(lite, r"it is sqlite3\.Connection, but must be")
        refused(Session(lite), r"it is sqlite3\.Connection, but must be")
    with psycopg.connect(migrated, autocommit=True) as conn:
        refused(conn, "it has no transaction open")
    refused(conn, "it is closed")
    with psycopg.connect(migrated) as conn:
        with pytest.raises(psycopg.errors.DivisionByZero):
            conn.execute("SELECT 1/0")
        refused(conn, "its transaction has failed already")
    with alchemy(migrated, isolation_level="AUTOCOMMIT") as engine, engine.connect() as sql:
        refused(sql, "it has no transaction open")
    refused(sql, "it is closed")
    elsewhere = databases.create()
    with psycopg.connect(elsewhere) as conn:
        refused(conn, "it leads to the database 'test_[0-9]+', but Baton's tables are in another one")
    databases.drop(elsewhere)
    assert runs(bench) == 0


def test_an_asynchronous_connection_is_refused_with_the_way_out(client: Client, migrated: str) -> None:
    async def attempt() -> None:
        async with await psycopg.AsyncConnection.connect(migrated) as conn:
            with pytest.raises(InputError, match="it is asynchronous, which is not supported"):
                client.submit(LINE, 1, connection=conn)

    asyncio.run(attempt())


def test_a_connection_that_is_lost_is_no_riddle(client: Client, bench: Bench, migrated: str) -> None:
    conn = psycopg.connect(migrated)
    conn.execute("INSERT INTO orders VALUES (1)")
    bench.query(f"SELECT pg_terminate_backend({conn.info.backend_pid})")
    with pytest.raises(Unavailable, match="Postgres cannot be reached"):
        client.submit(LINE, 1, connection=conn)
    conn.close()
    assert runs(bench) == 0


# --- keys in open transactions ----------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["commit", "rollback"])
def test_a_key_taken_in_an_open_transaction_makes_others_wait_for_its_end(
    client: Client, bench: Bench, migrated: str, ending: str
) -> None:
    # Given a key that a caller's open transaction has taken
    with psycopg.connect(migrated) as conn:
        mine = client.submit(LINE, 1, idempotency_key="k", connection=conn)
        # When somebody else submits with the same key
        theirs: list[RunHandle] = []
        other = threading.Thread(target=lambda: theirs.append(client.submit(LINE, 1, idempotency_key="k")))
        other.start()
        waits = (
            "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        eventually(lambda: len(bench.query(waits)) == 1)
        # Then it is answered by how that transaction ends
        getattr(conn, ending)()
        other.join(10)

    assert runs(bench) == 1
    assert theirs[0].created == (ending == "rollback")
    assert (theirs[0].id == mine.id) == (ending == "commit")


def test_a_definition_that_was_pruned_meanwhile_is_stored_again(
    client: Client, bench: Bench, migrated: str
) -> None:
    client.register(LINE)
    bench.query("DELETE FROM definitions RETURNING id")
    client.submit(LINE, 1)
    assert bench.query("SELECT count(*) FROM definitions") == [(1,)]
    bench.query("DELETE FROM definitions RETURNING id")
    with psycopg.connect(migrated) as conn:
        client.submit(LINE, 1, connection=conn)
    assert bench.query("SELECT count(*) FROM definitions") == [(1,)]


def test_a_worker_starts_a_run_of_a_caller_as_any_other(client: Client, bench: Bench, migrated: str) -> None:
    with psycopg.connect(migrated) as conn:
        handle = client.submit(MANY, [1, 2], priority=7, tenant="acme", labels={"a": "b"}, connection=conn)
    bench.fire()
    bench.drain()

    view = handle.view()
    assert (view.state, view.priority, view.tenant, view.labels) == ("completed", 7, "acme", {"a": "b"})
