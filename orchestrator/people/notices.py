"""Tells people what waits for them: by signed webhooks, or by whatever else is plugged in.

What is to be told is a row, written in the transaction that it tells of. Any number of copies send such rows, with
nobody in charge and without a transaction open meanwhile; what fails is tried again, later and later.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

from orchestrator.masking.masker import discreet
from orchestrator.store import notice_queries as sql
from orchestrator.store.connect import Pool
from schemas.notices import Notice

log = logging.getLogger(__name__)

PAUSE = 1.0
"""Seconds between two looks of one copy."""

MOST = 32
"""Notices that one look takes."""

AT_A_TIME = 8

LEASE = 120.0
"""Seconds after which another copy sends what one has taken; all of a look must be sent within them."""

STALE = 86_400.0
"""Seconds after which nobody is told for the first time."""

TRIES = 12
LONGEST = 6 * 3_600.0
"""Seconds between two tries at most: about a day until the last."""


class Later(Exception):
    """The target asks for patience, in seconds."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class Target(Protocol):
    """Somebody who is told. Whatever `tell` raises is a failed try."""

    @property
    def name(self) -> str: ...
    def tell(self, notice: Notice) -> None: ...


class _Taken(NamedTuple):
    notice: Notice
    tries: int
    reached: tuple[str, ...]


class Notifier:
    """One copy: call `look` now and then."""

    def __init__(self, pool: Pool, targets: Sequence[Target]) -> None:
        self._pool = pool
        self._targets = targets

    def look(self) -> int:
        """Send what is due; how many notices. Raises psycopg's errors when Postgres is away."""
        with self._pool.connection() as conn:
            keys = {"most": MOST, "lease": LEASE, "stale": STALE}
            rows = conn.execute(sql.TAKE_NOTICES, keys).fetchall()
        taken = [_taken(row) for row in rows]
        if taken:
            with ThreadPoolExecutor(AT_A_TIME, thread_name_prefix="notice") as senders:
                for settled in senders.map(self._sent, taken):
                    with self._pool.connection() as conn:
                        conn.execute(sql.SETTLE_NOTICE, settled)
        return len(taken)

    def _sent(self, taken: _Taken) -> dict[str, Any]:
        """Tell those who were not told yet; what is to be written down of it."""
        reached, errors, patience = list(taken.reached), [], 0.0
        for target in self._targets:
            if target.name in reached:
                continue
            try:
                target.tell(taken.notice)
                reached.append(target.name)
            except Exception as error:  # noqa: BLE001  whatever a target raises is a failed try
                errors.append(discreet(f"{target.name}: {type(error).__name__}: {error}"))
                patience = max(patience, error.seconds if isinstance(error, Later) else 0.0)
        again_in = max(again(taken.tries), patience) if errors and taken.tries < TRIES else None
        if errors:
            what = "given up" if again_in is None else f"tried again in {again_in:.0f} s"
            log.warning("notice %s could not be sent (%s), %s", taken.notice.id, "; ".join(errors), what)
        return {
            "id": taken.notice.id,
            "tries": taken.tries,
            "reached": reached,
            "error": "; ".join(errors).replace("\0", "")[:2_000] or None,
            "again_in": again_in,
        }


def again(tries: int, draw: Callable[[], float] = random.random) -> float:
    """Seconds until the next try after this many: from 5 s on, three times as long each time, with equal jitter."""
    return min(LONGEST, 5.0 * 3.0 ** (tries - 1)) * (0.5 + draw() / 2)


def _taken(row: Sequence[Any]) -> _Taken:
    id_, kind, run_id, path, workflow, at, body, tries, reached = row
    notice = Notice(id=id_, kind=kind, run_id=run_id, path=path, workflow=workflow, at=at, body=body)
    return _Taken(notice, tries, tuple(reached))
