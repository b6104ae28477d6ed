"""The tool that asks a database, against statements that want more than to ask."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from schemas.errors import AgentError, DefinitionError, Permanent, ToolError, ToolTimeout
from tests.integration.tools.using import use, used
from tests.support import eventually
from workers.tools import sql_query
from workers.tools.builtin import database as database_tool

ENV = "TEST_REPORTS_URL"
PASSWORD = "reader-secret"


class Library:
    """A database with books, a sequence, a secret, and a role that may read the books and even write them."""

    def __init__(self, url: str) -> None:
        self.admin = psycopg.connect(url, autocommit=True)
        self.role = f"reader_{conninfo_to_dict(url)['dbname']}"
        self.do(
            """
            CREATE ROLE {role} LOGIN PASSWORD {password};
            CREATE SCHEMA reports;
            CREATE TABLE reports.books (id int PRIMARY KEY, title text);
            INSERT INTO reports.books VALUES (1, 'Tides'), (2, 'Moons'), (3, 'Winds');
            CREATE SEQUENCE reports.numbers;
            CREATE TABLE secrets (word text);
            INSERT INTO secrets VALUES ('swordfish');
            CREATE FUNCTION reports.burn() RETURNS int LANGUAGE plpgsql SECURITY DEFINER AS
                $$ BEGIN DELETE FROM reports.books; RETURN 1; END $$;
            GRANT USAGE ON SCHEMA reports TO {role};
            GRANT ALL ON ALL TABLES IN SCHEMA reports TO {role};
            GRANT ALL ON ALL SEQUENCES IN SCHEMA reports TO {role}
            """
        )
        self.url = make_conninfo(url, user=self.role, password=PASSWORD)

    def do(self, statement: str, **names: str) -> None:
        identifiers = {name: sql.Identifier(one) for name, one in {"role": self.role, **names}.items()}
        self.admin.execute(sql.SQL(statement).format(password=sql.Literal(PASSWORD), **identifiers))  # type: ignore[arg-type]

    def ask(self, statement: Any) -> list[tuple[Any, ...]]:
        return self.admin.execute(statement).fetchall()

    def sessions(self) -> int:
        """Connections of the role."""
        return len(self.ask(sql.SQL("SELECT FROM pg_stat_activity WHERE usename = {}").format(self.role)))

    def close(self) -> None:
        self.do("DROP OWNED BY {role}; DROP ROLE {role}")
        self.admin.close()


@pytest.fixture
def library(database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Library]:
    found = Library(database)
    monkeypatch.setenv(ENV, found.url)
    yield found
    found.close()


ask = sql_query(ENV, schemas=["reports"], about="books (id, title)")


def test_rows_come_back_as_json(library: Library) -> None:
    assert use(
        ask, query="SELECT id, title AS \"Title\" FROM books WHERE title LIKE '%s' ORDER BY id DESC;\n"
    ) == {
        "rows": [{"id": 3, "Title": "Winds"}, {"id": 2, "Title": "Moons"}, {"id": 1, "Title": "Tides"}],
        "more": False,
    }
    values = (
        "1.5::float8 a, 0.1::numeric b, 'nan'::float8 c, now() > 'epoch' d, '{}'::jsonb e, NULL f, ARRAY[1] g"
    )
    (row,) = use(ask, query=f"SELECT {values}")["rows"]
    assert row == {"a": 1.5, "b": 0.1, "c": "NaN", "d": True, "e": {}, "f": None, "g": [1]}
    assert "books (id, title)" in ask.spec.description


def test_numbers_that_would_change_stay_texts(library: Library) -> None:
    query = "SELECT 12345678901234567890.12345::numeric a, 10::numeric ^ 400 b, 9223372036854775807 c"

    (row,) = use(ask, query=query)["rows"]

    assert row["a"] == "12345678901234567890.12345"
    assert isinstance(row["b"], str)
    assert row["c"] == 9223372036854775807


def test_what_is_wrong_with_a_query_is_told(library: Library) -> None:
    wrong = [
        ("SELECT titel FROM books", 'column "titel" does not exist; Perhaps you meant'),
        ("SELECT FROM WHERE", "syntax error"),
        ("", "syntax error"),
        ("SELECT 1 a, 2 a", "two columns"),
        ("SELECT '\0'", "NUL"),
        ("SELECT 1 -- why", None),
        ("SELECT $1", "0 parameters"),
        ("SELECT (repeat('[', 5000) || repeat(']', 5000))::json a", "nested too deeply|stack depth"),
    ]
    for query, reason in wrong:
        if reason is None:
            assert use(ask, query=query)["rows"]
            continue
        with pytest.raises(ToolError, match=reason):
            use(ask, query=query)


def test_there_is_a_limit_of_rows_and_of_bytes(library: Library) -> None:
    few = sql_query(ENV, rows=2, max_bytes=1_000)

    assert use(few, query="SELECT generate_series(1, 2) n") == {
        "rows": [{"n": 1}, {"n": 2}],
        "more": True,
    } | {"more": False}
    assert use(few, query="SELECT generate_series(1, 1000000000) n") == {
        "rows": [{"n": 1}, {"n": 2}],
        "more": True,
    }
    assert use(few, query="SELECT repeat('x', n * 700) FROM generate_series(1, 2) n")["more"] is True
    with pytest.raises(ToolError, match="the first row alone"):
        use(few, query="SELECT repeat('x', 10000000)")


WRITES = [
    "DELETE FROM books",
    "INSERT INTO books VALUES (4, 'Rain')",
    "WITH gone AS (DELETE FROM books RETURNING *) SELECT * FROM gone",
    "SELECT 1; DELETE FROM books",
    "SELECT 1) AS a) AS b) AS c; DELETE FROM books; --",
    "SELECT 1) AS baton_row) AS texts) AS sized; DELETE FROM books --",
    "WITH gone AS (DELETE FROM books RETURNING *) SELECT 1) AS baton_row) AS texts) AS sized --",
    "SELECT nextval('numbers')",
    "SELECT setval('numbers', 99)",
    "SELECT burn()",
    "SELECT set_config('transaction_read_only', 'off', true), burn()",
    "SELECT set_config('transaction_read_only', 'off', false), burn()",
    "SET TRANSACTION READ WRITE",
    "COMMIT; DELETE FROM books",
    "COMMIT",
    "SELECT * INTO stolen FROM books",
    "SELECT * FROM books FOR UPDATE",
    "CREATE TABLE more (id int)",
    "CREATE TEMP TABLE more (id int)",
    "COPY books TO PROGRAM 'touch /tmp/x'",
    "COPY (SELECT 1) TO STDOUT",
    "DO $$ BEGIN DELETE FROM reports.books; END $$",
    "CALL something()",
    "EXPLAIN ANALYZE DELETE FROM books",
    "VACUUM",
    "LISTEN x",
    "SET ROLE postgres",
    "RESET ALL",
    "SELECT query_to_xml('DELETE FROM reports.books', true, true, '')",
    "SELECT lo_creat(-1)",
    "SELECT lo_from_bytea(0, 'x')",
]
REACHES = [
    "SELECT * FROM public.secrets",
    "SELECT query_to_xml('SELECT * FROM public.secrets', true, true, '')",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT pg_ls_dir('/')",
    "SELECT lo_export(1, '/tmp/x')",
    "SELECT lo_import('/etc/passwd')",
    "SELECT pg_reload_conf()",
    "SELECT set_config('role', 'pg_read_all_data', false), * FROM public.secrets",
    "SELECT rolpassword FROM pg_authid",
]


def test_no_statement_writes_or_reaches_further(library: Library) -> None:
    for statement in WRITES + REACHES:
        with pytest.raises(ToolError):
            print(statement, use(ask, query=statement))

        assert library.ask("SELECT count(*) FROM reports.books") == [(3,)], statement
        assert library.ask("SELECT is_called FROM reports.numbers") == [(False,)], statement
        assert library.ask("SELECT count(*) FROM pg_largeobject_metadata") == [(0,)], statement


def test_nobody_elses_session_is_ended(library: Library) -> None:
    (pid,) = library.ask("SELECT pg_backend_pid()")[0]

    with pytest.raises(ToolError, match="permission denied"):
        use(ask, query=f"SELECT pg_terminate_backend({pid})")

    assert library.ask("SELECT 1") == [(1,)]


def test_settings_of_a_statement_last_no_longer_than_it(library: Library) -> None:
    one = "SELECT set_config('default_transaction_read_only', 'off', false) a"
    use(ask, query=f"{one}, set_config('search_path', 'public', false) b")

    assert use(ask, query="SELECT current_setting('search_path') a")["rows"] == [{"a": '"reports"'}]
    assert library.sessions() == 0


@pytest.mark.parametrize(
    "sleep",
    [
        "SELECT pg_sleep(60)",
        "SELECT set_config('statement_timeout', '0', true) a, pg_sleep(60)",
        "SELECT count(*) FROM generate_series(1, 10000000000)",
    ],
)
def test_a_query_has_its_time_and_ends_on_the_server_too(
    library: Library, sleep: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_tool, "GRACE", 30.0)
    began = time.monotonic()

    with pytest.raises(ToolTimeout, match=r"longer than 0\.2 s"):
        use(sql_query(ENV, timeout=0.2), query=sleep)

    assert time.monotonic() - began < 5
    eventually(lambda: library.sessions() == 0)


def test_a_query_that_is_given_up_ends_on_the_server_too(library: Library) -> None:
    async def given_up() -> None:
        asking = asyncio.create_task(used(sql_query(ENV, timeout=60), query="SELECT pg_sleep(60)"))
        while not await asyncio.to_thread(library.sessions):
            await asyncio.sleep(0.01)
        asking.cancel()
        await asyncio.wait([asking])

    asyncio.run(given_up())

    eventually(lambda: library.sessions() == 0)


@pytest.mark.parametrize(
    ("might", "why"),
    [
        ("ALTER ROLE {role} SUPERUSER", "is a superuser"),
        ("ALTER ROLE {role} CREATEROLE", "may create roles"),
        ("ALTER ROLE {role} REPLICATION", "may replicate"),
        ("GRANT pg_read_server_files TO {role}", "reaches beyond"),
        ("GRANT pg_execute_server_program TO {role} WITH INHERIT FALSE", "reaches beyond"),
        ("GRANT pg_signal_backend TO {role}", "reaches beyond"),
    ],
)
def test_a_role_that_may_too_much_is_refused(library: Library, might: str, why: str) -> None:
    library.do(might)

    with pytest.raises(Permanent, match=f"{library.role}.* {why}") as refused:
        use(ask, query="SELECT 1")

    assert "CREATE ROLE" in refused.value.next_step


def test_a_role_that_may_become_a_superuser_is_refused(library: Library) -> None:
    chief = f"chief_{library.role}"
    library.do("CREATE ROLE {chief} SUPERUSER; GRANT {chief} TO {role}", chief=chief)
    try:
        with pytest.raises(Permanent, match=f"through {chief}, which is a superuser"):
            use(ask, query="SELECT 1")
    finally:
        library.do("DROP ROLE {chief}", chief=chief)


def test_a_database_that_is_away_is_no_fault_of_the_model_and_no_password_is_told(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    for url, error, reason in [
        (None, Permanent, "is not set"),
        ("postgress://reader:reader-secret@host/db", Permanent, "is no URL"),
        (make_conninfo(library.url, host="127.0.0.1", port="9"), AgentError, "cannot be reached"),
        (make_conninfo(library.url, dbname="none"), AgentError, "cannot be reached"),
    ]:
        monkeypatch.setenv(ENV, url) if url else monkeypatch.delenv(ENV)
        with pytest.raises(error, match=f"{ENV} .*{reason}|{reason}") as told:
            use(ask, query="SELECT 1")
        assert not isinstance(told.value, ToolError)
        assert PASSWORD not in str(told.value)


def test_a_definition_with_faults_is_refused() -> None:
    for options in ({"url_env": "postgresql://u:p@h/d"}, {"url_env": ENV, "rows": 0}):
        with pytest.raises(DefinitionError):
            sql_query(**options)  # type: ignore[arg-type]
