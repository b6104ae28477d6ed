"""The verbs of a worker that are not about one outcome: it lives, what it holds, what it cannot use."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any
from uuid import UUID

from orchestrator.engine.losses import Losses
from orchestrator.engine.values import Held, Holding, Pointer, Ready, WorkerBeat
from orchestrator.masking.masker import discreet, discreet_data, discreet_json
from orchestrator.store import notice_queries
from orchestrator.store import worker_queries as sql

LONGEST_BODY = 10_000
"""Characters of a body that nobody understands."""

MASKED = "masked"
"""The field of a dead letter that says what is not in it any more."""


class Custody(Losses):
    """What stands in the name of a worker."""

    def held(self, pointer: Pointer) -> Held | None:
        """The attempt of this step that this engine's worker holds, if it does."""
        keys = {"run": pointer.run_id, "path": pointer.path, "worker": self.me.id}
        with self.pool.connection() as conn:
            row = conn.execute(sql.SELECT_HELD, keys).fetchone()
        return None if row is None else Held(*pointer, *row)

    def unwanted(self, pointers: Collection[Pointer]) -> list[Pointer]:
        """Those of these steps whose outcome would be refused, because they were cancelled or ran out of time."""
        if not pointers:
            return []
        keys = {"runs": [p.run_id for p in pointers], "paths": [p.path for p in pointers]}
        with self.pool.connection() as conn:
            return [Pointer(*row) for row in conn.execute(sql.SELECT_UNWANTED, keys).fetchall()]

    def beat(self, beat: WorkerBeat, held: int) -> list[Holding]:
        """Say that a worker lives and has `held` messages; what stands in its name."""
        keys = {
            "id": beat.worker.id,
            "name": beat.worker.name,
            "queues": list(beat.queues),
            "throttled": list(beat.throttled),
            "concurrency": beat.concurrency,
            "pool": beat.pool,
            "held": held,
            "lease": beat.lease,
        }
        with self.pool.connection() as conn:
            return [Holding(*row) for row in conn.execute(sql.BEAT, keys).fetchall()]

    def take_forgotten(self, attempts: Collection[tuple[UUID, str, int]]) -> list[Ready]:
        """The steps of these attempts (run, path, number) whose claim Postgres forgot in a crash: send them again."""
        if not attempts:
            return []
        runs, paths, numbers = (list(column) for column in zip(*attempts, strict=True))
        keys = {"runs": runs, "paths": paths, "attempts": numbers}
        with self.pool.connection() as conn:
            rows = conn.execute(sql.TAKE_FORGOTTEN, keys).fetchall()
            return self.located(conn, rows)

    def stop_worker(self) -> None:
        """Say that this engine's worker has ended."""
        with self.pool.connection() as conn:
            conn.execute(sql.STOP_WORKER, {"id": self.me.id})

    def notify(self, kind: str, run: UUID, path: str, body: Mapping[str, Any]) -> None:
        """Have people told of something that a step has noticed."""
        text = discreet_json(json.dumps(body, default=str))
        told = {"kinds": [kind], "runs": [run], "paths": [path], "bodies": [text]}
        with self.pool.connection() as conn:
            conn.execute(notice_queries.INSERT_NOTICES, told)

    def set_aside(self, queue: str, reason: str, message: str) -> None:
        """Keep a message that cannot be executed (JSON text) as a dead letter, without the credentials in it."""
        texts = {
            "queue": _storable(queue),
            "reason": _storable(discreet(reason)),
            "message": _storable(_without_credentials(message)),
        }
        with self.pool.connection() as conn:
            conn.execute(
                sql.INSERT_DEAD_LETTER, texts | {"message": _NUL.sub(r"\1\\ufffd", texts["message"])}
            )


def _without_credentials(message: str) -> str:
    """The message, which says so if it could not be sent again as it was; a long text of it is cut."""
    kept, found = discreet_data(json.loads(message))
    match kept:
        case str():
            kept = kept[:LONGEST_BODY]
        case {"body": str(body)}:
            kept["body"] = body[:LONGEST_BODY]
    if found and isinstance(kept, dict):
        kept[MASKED] = str(found)
    return json.dumps(kept, ensure_ascii=False)


_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")
"""A NUL character in JSON text, and the escaped backslashes before it."""


def _storable(text: str) -> str:
    """The text with a replacement for what Postgres has no place for."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
