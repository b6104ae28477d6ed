"""What a producer may submit, what it is told, and what a lost answer leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import psycopg
import pytest

from orchestrator.client import Client
from orchestrator.definitions.vocabulary import workflow
from orchestrator.store.refusals import translation
from schemas.errors import (
    BatonError,
    BudgetTooSmall,
    IdempotencyConflict,
    InputError,
    NotFound,
    SchemaOutdated,
    Unavailable,
)
from schemas.usage import Budget
from tests.integration.engine.bench import Bench, named

LINE = workflow("line", named("a") >> named("b"))
OTHER = workflow("other", named("a"))


def runs(bench: Bench) -> int:
    return int(bench.query("SELECT count(*) FROM runs")[0][0])


# --- idempotency keys -------------------------------------------------------------------------------------


def test_a_key_stands_for_the_workflow_and_the_input_whatever_the_order_of_its_fields(
    client: Client, bench: Bench
) -> None:
    first = client.submit(LINE, {"a": 1, "b": {"c": 2, "d": [3]}}, idempotency_key="k")
    again = client.submit(LINE, {"b": {"d": [3], "c": 2}, "a": 1}, idempotency_key="k", priority=9)

    assert (first.created, again.created) == (True, False)
    assert again.id == first.id
    for definition, value in ((LINE, {"a": 1}), (LINE, None), (OTHER, {"a": 1, "b": {"c": 2, "d": [3]}})):
        with pytest.raises(IdempotencyConflict, match=f"key 'k' belongs to run {first.id}") as refused:
            client.submit(definition, value, idempotency_key="k")
        assert refused.value.next_step == f"baton runs show {first.id}"
    assert runs(bench) == 1


def test_many_clients_with_one_key_make_one_run(client: Client, bench: Bench, migrated: str) -> None:
    with ThreadPoolExecutor(8) as threads:
        for number in range(5):
            handles = list(
                threads.map(lambda _, n=number: client.submit(LINE, n, idempotency_key=f"k{n}"), range(8))
            )
            assert len({handle.id for handle in handles}) == 1
            assert repr(handles[0]) == f"RunHandle('{handles[0].id}')"
            assert [handle.created for handle in handles].count(True) == 1
    assert runs(bench) == 5


def test_a_key_may_stand_several_times_in_one_call_however_far_apart(client: Client, bench: Bench) -> None:
    # 1,500 runs are two transactions
    keys = [f"k{n % 750}" for n in range(1500)]
    handles = client.submit_many(LINE, [n % 750 for n in range(1500)], idempotency_keys=keys)

    assert [a.id for a in handles[:750]] == [b.id for b in handles[750:]]
    assert sum(handle.created for handle in handles) == 750
    assert runs(bench) == 750


def test_a_key_that_stands_for_two_inputs_of_one_call_is_refused_before_anything_is_made(
    client: Client, bench: Bench
) -> None:
    keys = [None, "k", *[f"k{n}" for n in range(1500)], "k"]
    with pytest.raises(IdempotencyConflict, match="key 'k' stands twice in this call, with different inputs"):
        client.submit_many(LINE, range(len(keys)), idempotency_keys=keys)

    assert runs(bench) == 0


def test_a_key_that_is_pruned_between_two_statements_is_taken_anew(
    client: Client, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a key whose run is pruned just after a submission has found it
    first = client.submit(LINE, 1, idempotency_key="k")
    execute = psycopg.Connection.execute
    pruned: list[bool] = []

    def prune(conn: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        if "JOIN idempotency_keys k" in str(query) and not pruned:
            pruned.append(True)
            bench.query("DELETE FROM idempotency_keys")
        return execute(conn, query, *args, **kwargs)

    monkeypatch.setattr(psycopg.Connection, "execute", prune)
    again = client.submit(LINE, 1, idempotency_key="k")

    assert pruned
    assert again.created
    assert again.id != first.id


# --- what is refused --------------------------------------------------------------------------------------


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({"idempotency_key": ""}, "idempotency key: it is empty"),
        ({"idempotency_key": "k" * 1001}, "idempotency key: it is longer than 1000 bytes"),
        ({"idempotency_key": "k\0"}, "idempotency key: it contains a character that Postgres cannot store"),
        ({"idempotency_key": "\ud800"}, "idempotency key: it contains a character"),
        ({"tenant": "t\0"}, "tenant: it contains a character"),
        ({"labels": {"a": "\ud800"}}, "label 'a': it contains a character"),
        ({"labels": {"a": 1}}, "label 'a': its name and its value must be texts"),
        ({"labels": {"a": "x" * 1000}}, "label 'a': it is longer than 1000 bytes"),
        ({"priority": 10}, "priority: 10 is not between 0 and 9"),
        ({"delay": -1}, "delay: -1 is not between 0 and"),
        ({"delay": float("nan")}, "delay: nan is not between 0 and"),
        ({"delay": 1e300}, "delay: 1e[+]300 is not between 0 and"),
        ({"input": object()}, "the input has no JSON form"),
        ({"input": "\ud800"}, "the input has no JSON form"),
        ({"input": deep(3000)}, "the input has no JSON form"),
        ({"input": "a\0b"}, "the input contains a NUL character"),
        ({"priority": 11, "delay": -1, "tenant": "\0"}, "tenant: .*; priority: .*; delay: "),
    ],
)
def test_what_postgres_cannot_store_is_refused_at_the_door(
    client: Client, bench: Bench, arguments: dict[str, Any], fault: str
) -> None:
    with pytest.raises(InputError, match=fault):
        client.submit(LINE, **{"input": 1, **arguments})

    assert runs(bench) == 0


def test_an_input_too_many_or_a_workflow_that_is_not_there(client: Client) -> None:
    with pytest.raises(InputError, match="2 inputs, but 1 idempotency keys"):
        client.submit_many(LINE, [1, 2], idempotency_keys=["k"])
    with pytest.raises(NotFound, match="no workflow 'nothing' in the database"):
        client.submit("nothing", 1)


# --- servers that are away --------------------------------------------------------------------------------


def test_no_error_of_the_driver_reaches_a_producer(redis_url: str, database: str) -> None:
    with Client("postgresql://baton@127.0.0.1:1/nowhere", redis_url) as client:
        for attempt in (lambda: client.submit(LINE, 1), lambda: client.register(LINE)):
            with pytest.raises(Unavailable, match="Postgres cannot be reached: ") as away:
                attempt()
            assert away.value.next_step == "baton doctor"
    with Client(database, redis_url) as client, pytest.raises(SchemaOutdated):
        client.submit(LINE, 1)


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (psycopg.errors.AdminShutdown("x"), Unavailable),
        (psycopg.errors.TooManyConnections("x"), Unavailable),
        (psycopg.errors.DiskFull("x"), Unavailable),
        (psycopg.OperationalError("server closed the connection unexpectedly"), Unavailable),
        (psycopg.InterfaceError("connection already closed"), Unavailable),
        (psycopg.errors.UndefinedColumn("x"), SchemaOutdated),
        (psycopg.errors.UntranslatableCharacter("x"), InputError),
        (psycopg.errors.ProgramLimitExceeded("x"), InputError),
        (psycopg.errors.InsufficientPrivilege("x"), BatonError),
        (psycopg.errors.ReadOnlySqlTransaction("x"), BatonError),
    ],
)
def test_each_error_of_the_driver_has_a_word_of_ours(error: psycopg.Error, ours: type[BatonError]) -> None:
    assert type(translation(error)) is ours


class Unlucky:
    """Loses a connection at one statement, before or after the server has executed it."""

    def __init__(self, statement: str, *, after: bool, times: int = 1) -> None:
        self._statement, self._after, self.left = statement, after, times
        self._execute: Callable[..., Any] = psycopg.Connection.execute

    def execute(self, conn: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        text = query.decode() if isinstance(query, bytes) else str(query)
        if not self.left or self._statement not in text:
            return self._execute(conn, query, *args, **kwargs)
        self.left -= 1
        if self._after:
            self._execute(conn, query, *args, **kwargs)
        conn.close()
        raise psycopg.OperationalError("the connection is lost")


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("statement", ["BEGIN", "INSERT INTO idempotency_keys", "INSERT INTO runs", "COMMIT"])
def test_a_connection_lost_at_any_statement_makes_the_run_once(
    client: Client, bench: Bench, monkeypatch: pytest.MonkeyPatch, statement: str, after: bool
) -> None:
    unlucky = Unlucky(statement, after=after)
    monkeypatch.setattr(psycopg.Connection, "execute", lambda *a, **k: unlucky.execute(*a, **k))
    sent: list[UUID] = []
    monkeypatch.setattr(client._dispatcher, "send", lambda ready: sent.extend(one.run.id for one in ready))

    handles = client.submit_many(LINE, [1, 2, 3], idempotency_keys=["x", None, "y"])

    assert unlucky.left == 0
    assert [handle.created for handle in handles] == [True] * 3
    assert sorted(row for (row,) in bench.query("SELECT id FROM runs")) == sorted(h.id for h in handles)
    assert sorted(sent) == sorted(handle.id for handle in handles)


def test_a_producer_that_cannot_know_is_told_and_may_ask_again(
    client: Client, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a commit whose answer is lost, and a server that is away then
    unlucky = Unlucky("COMMIT", after=True, times=1)
    monkeypatch.setattr(psycopg.Connection, "execute", lambda *a, **k: unlucky.execute(*a, **k))
    take = client._engine._create
    monkeypatch.setattr(client._engine, "_create", _once(take))
    with pytest.raises(Unavailable):
        client.submit(LINE, 1, idempotency_key="k")

    # When it is submitted again with the same key, then it is there, once
    monkeypatch.undo()
    assert not client.submit(LINE, 1, idempotency_key="k").created
    assert runs(bench) == 1


def _once(verb: Callable[..., Any]) -> Callable[..., Any]:
    calls: list[int] = []

    def called(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) > 1:
            raise psycopg.OperationalError("the server is away")
        return verb(*args, **kwargs)

    return called


# --- strict -----------------------------------------------------------------------------------------------


def test_a_strict_submission_that_could_exceed_its_budget_makes_no_run(client: Client, bench: Bench) -> None:
    limited = workflow("limited", named("a"), budget=Budget(tokens=5))

    for submit in (
        lambda: client.submit(limited, 1, strict=True),
        lambda: client.submit_many(limited, [1, 2], strict=True),
    ):
        with pytest.raises(BudgetTooSmall, match="nobody knows how many tokens it can take"):
            submit()
    assert runs(bench) == 0

    assert client.submit(LINE, 1, strict=True).created  # nothing limits it
    assert client.submit(limited, 1).created  # whoever does not ask is not refused
