"""Moving a whole run takes as few statements for ten thousand steps as for ten, and less than a second."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import psycopg
import pytest

from orchestrator.definitions.vocabulary import each, workflow
from tests.integration.engine.bench import Bench, named

WIDE = 10_000


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The statements that this process sends meanwhile."""
    sent: list[Any] = []
    execute = psycopg.Connection.execute

    def counting(self: Any, query: Any, *args: Any, **options: Any) -> Any:
        sent.append(query)
        return execute(self, query, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(psycopg.Connection, "execute", counting)
        yield sent


def wide(bench: Bench, width: int) -> UUID:
    """A run of so many steps, some of which run."""
    run = bench.submit(workflow("w", each(named("a"), max_items=WIDE, parallel=width)), list(range(width)))
    for n in range(3):
        bench.claim(run, f"0/{n}")
    return run


@pytest.mark.parametrize("verb", ["cancel", "pause", "resume"])
def test_a_run_of_ten_thousand_steps_is_moved_at_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    took, statements = {}, {}
    for width in (10, WIDE):
        run = wide(bench, width)
        if verb == "resume":
            bench.engine.pause(run)
        move: Callable[[UUID], object] = getattr(bench.engine, verb)
        with counted(monkeypatch) as sent:
            began = time.monotonic()
            move(run)
            took[width] = time.monotonic() - began
        statements[width] = len(sent)

    print(f"{verb}: {took[WIDE]:.2f} s for {WIDE:,} steps, {statements[WIDE]} statements")
    assert statements[WIDE] == statements[10] <= 8
    if verb == "cancel":
        assert took[WIDE] < 1.0
