"""The inputs of the runs that a worker is busy with, so that not every claim carries its run's whole input."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from uuid import UUID

from orchestrator.store import attempt_queries as sql
from orchestrator.store.connect import Conn

MOST = 1_000
"""Runs that are remembered, if their inputs are small."""

LARGEST = 64 * 1024 * 1024
"""Characters of JSON that are remembered in all."""


class Intents:
    """Run inputs by run id, the least recently used forgotten first; safe from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._texts: OrderedDict[UUID, str] = OrderedDict()
        self._size = 0

    def known(self, runs: Iterable[UUID]) -> list[UUID]:
        """Those of `runs` whose input is here."""
        with self._lock:
            return [run for run in set(runs) if run in self._texts]

    def of(self, conn: Conn, run: UUID, sent: str | None) -> str:
        """The input of a run as JSON text: as the claim sent it, as remembered, or read now."""
        with self._lock:
            text = self._texts.get(run)
            if text is not None:
                self._texts.move_to_end(run)
                return text
        if sent is None:
            row = conn.execute(sql.SELECT_INTENT, {"run": run}).fetchone()
            assert row is not None  # noqa: S101  a claimed step has a run
            sent = str(row[0])
        self._remember(run, sent)
        return sent

    def _remember(self, run: UUID, text: str) -> None:
        with self._lock:
            if run not in self._texts:
                self._texts[run] = text
                self._size += len(text)
            while len(self._texts) > MOST or (self._size > LARGEST and len(self._texts) > 1):
                _, dropped = self._texts.popitem(last=False)
                self._size -= len(dropped)
