"""Asking a database, with rights that are too few to do harm."""

from __future__ import annotations

import asyncio
import json
import math
import os
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Unpack

import psycopg
from psycopg import AsyncConnection, AsyncServerCursor, errors, sql
from pydantic import BaseModel

from orchestrator.store.reading_queries import MAKE_READER, SELECT_TOO_MIGHTY, SET_FOR_READING, rows_of
from schemas.errors import AgentError, DefinitionError, Fault, Permanent, ToolError, ToolTimeout
from workers.asking import is_storable
from workers.tools.builtin.options import GRACE, Options
from workers.tools.declared import Tool, tool

ELSEWHERE = ("08", "53", "57", "58")
"""Classes of SQLSTATE that are no fault of a statement: connections, resources, operators, the system."""

PARAMETERS = "08P01"
"""What Postgres says of a `$1` in a statement that was given none."""


class Rows(BaseModel):
    """What a query gave."""

    rows: list[dict[str, Any]]
    more: bool
    """There are more rows than the tool gives."""


def sql_query(
    url_env: str,
    *,
    rows: int = 200,
    timeout: float = 5.0,
    max_bytes: int = 200_000,
    schemas: Sequence[str] = (),
    about: str = "",
    name: str = "sql_query",
    **options: Unpack[Options],
) -> Tool:
    """Make a tool that asks the Postgres database whose URL is in the environment variable `url_env`.

    One statement that gives rows, in a read-only transaction that is rolled back, `timeout` seconds long; at most
    `rows` rows and `max_bytes` of JSON come back. Names are looked up in `schemas`, if they are given; `about` tells
    the model what there is. **What it may read is decided by the rights of the URL's role**: make one for the tool,
    that can select what it should see. One that is a superuser, or reaches files, programs or sessions, is refused.
    `options` are those of `workers.tool`.
    """
    faults = []
    if rows < 1 or timeout <= 0 or max_bytes < 1:
        faults.append(Fault("", "rows, timeout and max_bytes must be positive"))
    if "://" in url_env:
        faults.append(Fault("url_env", "name the environment variable that holds the URL, not the URL"))
    if faults:
        raise DefinitionError(f"tool {name!r}", faults)
    reader = _Reader(url_env, rows, timeout, max_bytes, schemas)

    async def ask(query: str) -> Rows:
        return await reader.read(query)

    where = f" Names are looked up in {', '.join(schemas)}." if schemas else ""
    told = (
        f"Ask a PostgreSQL database with one SELECT; the first {rows} rows come back.{where} {about}".strip()
    )
    which = repr((url_env, rows, max_bytes, list(schemas)))
    return tool(name=name, description=told, timeout=timeout + 2 * GRACE, version=which, **options)(ask)


class _Reader:
    """Asks within its limits, on a connection for each question: settings of one never reach another."""

    def __init__(
        self, url_env: str, rows: int, timeout: float, max_bytes: int, schemas: Sequence[str]
    ) -> None:
        self._url_env = url_env
        self._rows = rows
        self._timeout = timeout
        self._max_bytes = max_bytes
        self._schemas = schemas

    async def read(self, query: str) -> Rows:
        """Raises `ToolError` for what the statement did wrong, and `AgentError` for what the server did."""
        statement = query.rstrip().rstrip(";")
        if not is_storable(statement):
            raise ToolError("a statement has no NUL characters and no lone surrogates")
        try:
            async with asyncio.timeout(self._timeout + GRACE):
                conn = await self._connected()
                try:
                    return await self._rows_of(conn, statement)
                finally:
                    await conn.close()
        except (TimeoutError, errors.QueryCanceled):
            raise ToolTimeout(f"the query took longer than {self._timeout:g} s") from None
        except psycopg.Error as error:
            raise self._told(error) from None

    async def _connected(self) -> AsyncConnection[Any]:
        url = os.environ.get(self._url_env)
        if not url:
            raise Permanent(
                f"the environment variable {self._url_env} is not set: it is to hold a URL of Postgres"
            )
        try:
            return await AsyncConnection.connect(url, client_encoding="utf8", application_name="baton tool")
        except psycopg.OperationalError as error:
            raise AgentError(f"the database of {self._url_env} cannot be reached: {error}") from None
        except psycopg.Error:
            # What libpq says of a URL repeats it, with its password.
            raise Permanent(f"what {self._url_env} holds is no URL of Postgres") from None

    async def _rows_of(self, conn: AsyncConnection[Any], statement: str) -> Rows:
        await conn.set_read_only(True)
        await self._check_rights(conn)
        path = sql.SQL(", ").join(sql.Identifier(one) for one in self._schemas).as_string(conn)
        await conn.execute(SET_FOR_READING, {"timeout": f"{math.ceil(self._timeout * 1000)}ms", "path": path})
        async with AsyncServerCursor(conn, "question") as cursor:
            await cursor.execute(rows_of(statement, self._rows + 1, self._max_bytes).encode())
            texts = [text for (text,) in await cursor.fetchmany(self._rows + 1)]
        found = [_row(text) for text in texts[: self._rows] if text is not None]
        if texts and texts[0] is None:
            raise ToolError(f"the first row alone has more than {self._max_bytes} bytes")
        return Rows(rows=found, more=len(found) < len(texts))

    async def _check_rights(self, conn: AsyncConnection[Any]) -> None:
        mighty = await (await conn.execute(SELECT_TOO_MIGHTY)).fetchone()
        if mighty is None:
            return
        user, role, why = mighty
        through = "" if user == role else f" through {role}, which"
        raise Permanent(
            f"the role {user} of {self._url_env}{through} {why}: a tool is given one that may read, and no more",
            next_step=MAKE_READER,
        )

    def _told(self, error: psycopg.Error) -> AgentError:
        """Of a statement the model hears what is wrong; a server that goes away is no fault of it."""
        said = error.diag
        state = said.sqlstate or ELSEWHERE[0]
        if said.message_primary is None or (state[:2] in ELSEWHERE and state != PARAMETERS):
            return AgentError(f"the database of {self._url_env} has not answered: {error}")
        return ToolError("; ".join(part for part in (said.message_primary, said.message_hint) if part))


def _row(text: str) -> dict[str, Any]:
    """A row of JSON. Numbers that would change stay texts."""
    pairs: list[tuple[str, Any]] = []

    def kept(found: list[tuple[str, Any]]) -> dict[str, Any]:
        pairs[:] = found  # the outermost object comes last
        return dict(found)

    try:
        row: dict[str, Any] = json.loads(
            text, object_pairs_hook=kept, parse_float=_number, parse_int=_integer
        )
    except RecursionError:
        raise ToolError("a row holds JSON that is nested too deeply") from None
    if len(row) < len(pairs):
        raise ToolError("two columns have the same name: give them others, with AS")
    return row


def _number(text: str) -> float | str:
    found = float(text)
    return found if math.isfinite(found) and Decimal(repr(found)) == Decimal(text) else text


def _integer(text: str) -> int | str:
    return int(text) if len(text) <= 19 else text
