"""Group commit among threads: batches, errors, and who leads next."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from orchestrator.engine.combine import Combiner


def test_a_lone_caller_is_served_at_once() -> None:
    batches: list[list[int]] = []

    def execute(items: Sequence[int]) -> list[int]:
        batches.append(list(items))
        return [item * 2 for item in items]

    combined = Combiner(execute)

    assert [combined(n) for n in range(3)] == [0, 2, 4]
    assert batches == [[0], [1], [2]]


class Gated:
    """An execution that waits for permission, and counts how many run at a time."""

    def __init__(self, fail: set[int] | None = None) -> None:
        self.batches: list[list[int]] = []
        self.go = threading.Event()
        self.begun = threading.Event()
        self.fail = fail or set()
        self._inside = threading.Lock()

    def __call__(self, items: Sequence[int]) -> list[int]:
        assert self._inside.acquire(blocking=False), "two batches at the same time"
        try:
            self.batches.append(list(items))
            self.begun.set()
            assert self.go.wait(20)
            if self.fail & set(items):
                raise ValueError("one of them is bad")
            return [item * 2 for item in items]
        finally:
            self._inside.release()


def waiting(combined: Combiner[int, int], number: int) -> None:
    from tests.support import eventually

    eventually(lambda: len(combined._waiting) == number)


def test_callers_that_come_meanwhile_share_the_next_batch() -> None:
    execute = Gated()
    combined = Combiner(execute)
    with ThreadPoolExecutor(9) as threads:
        first = threads.submit(combined, 0)
        assert execute.begun.wait(20)
        others = [threads.submit(combined, n) for n in range(1, 9)]
        waiting(combined, 8)
        execute.go.set()

        assert first.result(20) == 0
        assert [other.result(20) for other in others] == [2 * n for n in range(1, 9)]
    assert execute.batches[0] == [0]
    assert sorted(execute.batches[1]) == list(range(1, 9))
    assert len(execute.batches) == 2


def test_no_batch_is_larger_than_allowed_and_leadership_goes_on() -> None:
    execute = Gated()
    combined = Combiner(execute, most=3)
    with ThreadPoolExecutor(11) as threads:
        first = threads.submit(combined, 0)
        assert execute.begun.wait(20)
        others = [threads.submit(combined, n) for n in range(1, 11)]
        waiting(combined, 10)
        execute.go.set()
        assert first.result(20) == 0
        assert sorted(other.result(20) for other in others) == [2 * n for n in range(1, 11)]
    assert [len(batch) for batch in execute.batches] == [1, 3, 3, 3, 1]


def test_an_error_reaches_everyone_of_its_batch_and_nobody_else() -> None:
    execute = Gated(fail={1})
    combined = Combiner(execute)
    with ThreadPoolExecutor(4) as threads:
        first = threads.submit(combined, 0)
        assert execute.begun.wait(20)
        others = [threads.submit(combined, n) for n in range(1, 4)]
        waiting(combined, 3)
        execute.go.set()

        assert first.result(20) == 0
        for other in others:
            with pytest.raises(ValueError, match="one of them is bad"):
                other.result(20)
    # And the next caller is served
    assert combined(7) == 14


def test_an_execution_that_answers_too_little_is_an_error_for_all() -> None:
    combined: Combiner[int, int] = Combiner(lambda items: [])

    with pytest.raises(ValueError, match="argument"):
        combined(1)
    with pytest.raises(ValueError, match="argument"):
        combined(2)


def test_thousands_of_calls_from_many_threads_each_get_their_own_answer() -> None:
    running = threading.Lock()

    def execute(items: Sequence[int]) -> list[int]:
        assert running.acquire(blocking=False)
        running.release()
        return [item * 2 for item in items]

    combined = Combiner(execute, most=16)
    with ThreadPoolExecutor(24) as threads:
        assert list(threads.map(combined, range(6_000))) == [2 * n for n in range(6_000)]
