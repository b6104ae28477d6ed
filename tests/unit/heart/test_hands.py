"""Threads that wait for servers: so many, in turns, and none of them for itself."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future

import pytest

from tests.support import eventually
from workers.hands import CIRCUITS, Crew, Hands, Line

SIZE = 3
PATIENCE = 30.0


class Busy:
    """Calls that are under way, and those that were begun, in their order."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = 0
        self.most = 0
        self.begun: list[str] = []

    def work(self, name: str, end: threading.Event | None = None) -> str:
        with self._lock:
            self.begun.append(name)
            self._now += 1
            self.most = max(self.most, self._now)
        if end is not None:
            assert end.wait(PATIENCE)
        with self._lock:
            self._now -= 1
        return name


def test_as_many_threads_work_as_there_are_connections_whoever_asks() -> None:
    busy, crew, end = Busy(), Crew("hands", SIZE), threading.Event()
    lines = [Line(crew) for _ in range(4)]

    asked = [line.submit(busy.work, f"{n}", end) for n in range(50) for line in lines]
    eventually(lambda: len(busy.begun) == SIZE)
    end.set()

    assert [one.result(PATIENCE) for one in asked] == [f"{n}" for n in range(50) for _ in lines]
    assert busy.most == SIZE


def test_a_rush_in_one_line_does_not_hold_up_another() -> None:
    busy, crew, end = Busy(), Crew("hands", 1), threading.Event()
    rush, other = Line(crew), Line(crew)

    held = rush.submit(busy.work, "held", end)
    more = [rush.submit(busy.work, f"rush {n}") for n in range(100)]
    late = other.submit(busy.work, "late")
    end.set()

    assert late.result(PATIENCE) == "late"
    assert [one.result(PATIENCE) for one in (held, *more)] == ["held", *(f"rush {n}" for n in range(100))]
    assert busy.begun.index("late") <= 2


def test_calls_of_one_line_are_begun_in_their_order() -> None:
    busy = Busy()
    line = Line(Crew("hands", 1))

    for one in [line.submit(busy.work, str(n)) for n in range(500)]:
        one.result(PATIENCE)

    assert busy.begun == [str(n) for n in range(500)]


def test_calls_that_wait_for_others_of_their_crew_end_all_the_same() -> None:
    crew = Crew("hands", 2)
    first, second = Line(crew), Line(crew)

    def outer(deep: int) -> int:
        return 0 if deep == 0 else 1 + second.submit(outer, deep - 1).result(PATIENCE)

    assert [one.result(PATIENCE) for one in [first.submit(outer, 5) for _ in range(8)]] == [5] * 8


def test_what_hangs_at_one_server_holds_up_nobody_at_another() -> None:
    hands, end = Hands(SIZE, 1), threading.Event()
    stuck: list[Future[bool]] = [hands.circuits.submit(end.wait, PATIENCE) for _ in range(2 * CIRCUITS)]
    stuck += [hands.sharing.submit(end.wait, PATIENCE) for _ in range(2)]

    for line in (hands.journals, hands.tools, hands.limits, hands.budgets):
        assert line.submit(str, 1).result(PATIENCE) == "1"

    end.set()
    assert all(one.result(PATIENCE) for one in stuck)


async def asked(line: Line) -> None:
    with pytest.raises(ZeroDivisionError):
        await line.call(lambda: 1 // 0)
    assert await asyncio.gather(*(line.call(int, str(n)) for n in range(20))) == list(range(20))


def test_the_event_loop_goes_on_and_hears_what_was_raised() -> None:
    asyncio.run(asked(Hands().journals))


def test_a_call_that_nobody_awaits_any_longer_is_not_begun() -> None:
    busy, line, end = Busy(), Line(Crew("hands", 1)), threading.Event()
    held = line.submit(busy.work, "held", end)

    async def given_up() -> None:
        waiting = line.call(busy.work, "unwanted")
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(given_up())
    end.set()

    assert line.submit(busy.work, "next").result(PATIENCE) == "next"
    assert (held.result(PATIENCE), busy.begun) == ("held", ["held", "next"])
