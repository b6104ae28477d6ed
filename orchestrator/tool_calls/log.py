"""What is written of each call of a tool, for people who ask what an agent has done."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pydantic_core
from psycopg.rows import dict_row

from orchestrator.engine.patience import patiently
from orchestrator.identify import new_id
from orchestrator.store import tool_queries as sql
from orchestrator.store.connect import Pool
from schemas.tools import ToolRecord

LONGEST = 16_000
"""Characters of JSON text that arguments or a result may have; of longer ones the beginning is kept."""

BEGINNING = 4_000
LONGEST_ERROR = 4_000


@dataclass(frozen=True)
class EndedCall:
    """A call that has ended."""

    run_id: UUID
    path: str
    attempt: int
    place: int
    agent: str
    tool: str
    part_of: str | None
    idempotency_key: str
    arguments: Any
    result: Any = None
    error: str | None = None
    cached: bool = False
    runs_on: bool = False
    seconds: float = 0.0
    informs: bool = False
    """Whether those are told who are told of what waits for people."""


class CallLog:
    """Safe from many threads."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def write(self, call: EndedCall) -> None:
        """Write a call down, in one statement."""
        self._write(
            {
                "id": new_id(),
                "run": call.run_id,
                "path": call.path,
                "attempt": call.attempt,
                "place": call.place,
                "agent": call.agent,
                "tool": call.tool,
                "part_of": call.part_of,
                "key": call.idempotency_key,
                "arguments": bounded(call.arguments),
                "result": bounded(call.result) if call.error is None else None,
                "error": call.error and _plain(call.error)[:LONGEST_ERROR],
                "cached": call.cached,
                "runs_on": call.runs_on,
                "seconds": call.seconds,
                "informs": call.informs,
            }
        )

    @patiently
    def _write(self, columns: dict[str, Any]) -> None:
        with self._pool.connection() as conn:
            conn.execute(sql.INSERT_CALL, columns)

    def of_run(self, run_id: UUID) -> list[ToolRecord]:
        """The calls of a run, in the order in which they ended."""
        with self._pool.connection() as conn, conn.cursor(row_factory=dict_row) as cursor:
            rows = cursor.execute(sql.SELECT_CALLS, {"run": run_id}).fetchall()
        return [ToolRecord.model_validate(row) for row in rows]


def bounded(value: Any) -> str:
    """A value as JSON text that Postgres can store, cut if it is long."""
    try:
        text = pydantic_core.to_json(value, inf_nan_mode="strings", fallback=repr).decode()
    except (pydantic_core.PydanticSerializationError, ValueError):
        text = json.dumps(_plain(repr(value)))
    text = text.replace("\\u0000", "\\ufffd")
    if len(text) > LONGEST:
        return json.dumps({"cut": text[:BEGINNING], "characters": len(text)})
    return text


def _plain(text: str) -> str:
    """Without NUL characters and lone surrogates, for which Postgres has no room."""
    return text.replace("\0", "�").encode("utf-8", "replace").decode()
