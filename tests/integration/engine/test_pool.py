"""The pool of connections: one per process, whoever uses it first."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from orchestrator.store.connect import Pool


def test_many_threads_that_use_a_pool_first_open_it_once(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    original = Pool._open
    monkeypatch.setattr(Pool, "_open", lambda self: opened.append(self) or original(self))
    together = threading.Barrier(8)

    def use(pool: Pool) -> None:
        together.wait()
        with pool.connection() as conn:
            conn.execute("SELECT 1")

    with ThreadPoolExecutor(8) as threads:
        for _ in range(20):
            opened.clear()
            pool = Pool(database, size=2)
            list(threads.map(use, [pool] * 8))
            pool.close()
            assert len(opened) == 1
