"""Every write of the result backend fails, dies or commits unheard: results stand, and each chord's body comes once."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from celery import Celery, states
from celery.app.task import Context
from celery.exceptions import BackendStoreError

from orchestrator.results import Backend, chords
from tests.chaos.engine.faults import Fault, FaultyPool, matters, writing

FAILURES = (psycopg.Error, BackendStoreError)


class Keeper(Backend):
    """On connections that can go wrong; it notes which bodies it publishes, and does not wait between tries."""

    def __init__(self, app: Any, url: str) -> None:
        super().__init__(app, url=url)
        self.close()
        self._pool = self.faults = FaultyPool(url)
        self.published: list[tuple[str, list[Any]]] = []

    def _sleep(self, amount: float) -> None:
        """Try again at once."""

    def _publish_body(self, chord_id: str, callback: Any) -> None:
        self.published.append((callback.id, self._join_header(chord_id)))


def body(values: list[Any]) -> list[Any]:
    """What a chord's body would do, if one were run here."""
    return values


@pytest.fixture(scope="module")
def keeper(migrated: str) -> Iterator[Keeper]:
    app = Celery("keeper", broker="memory://", backend="disabled://", set_as_current=False)
    app.task(name="body", shared=False)(body)
    made = Keeper(app, migrated)
    made.task_result_exists("")  # it looks for its tables only once, which is not counted
    yield made
    made.faults.close()
    app.close()


@pytest.fixture(autouse=True)
def _short_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever finds a chord without its publisher takes it over soon."""
    monkeypatch.setattr(chords, "PUBLISHING_LEASE", 0.02)


Act = Callable[[], object]
Scenario = Callable[[Keeper], tuple[Act, Callable[[], None]]]
"""Prepares what it needs, and gives the operation and what must be true once that has been repeated."""


def storing(keeper: Keeper) -> tuple[Act, Callable[[], None]]:
    task = uuid.uuid4().hex

    def check() -> None:
        meta = keeper.get_task_meta(task, cache=False)
        assert (meta["status"], meta["result"]) == (states.SUCCESS, 7)

    return lambda: keeper.mark_as_done(task, 7), check


def failing(keeper: Keeper) -> tuple[Act, Callable[[], None]]:
    task = uuid.uuid4().hex

    def check() -> None:
        assert keeper.get_task_meta(task, cache=False)["status"] == states.FAILURE

    return lambda: keeper.mark_as_failure(task, ValueError("lost")), check


def forgetting(keeper: Keeper) -> tuple[Act, Callable[[], None]]:
    task = uuid.uuid4().hex
    keeper.mark_as_done(task, 7)

    def check() -> None:
        assert keeper.get_task_meta(task, cache=False)["status"] == states.PENDING

    return lambda: keeper.forget(task), check


def saving_a_group(keeper: Keeper) -> tuple[Act, Callable[[], None]]:
    group = keeper.app.GroupResult(uuid.uuid4().hex, [keeper.app.AsyncResult("a")])
    return lambda: keeper.save_group(group.id, group), lambda: _is_saved(keeper, group.id, saved=True)


def deleting_a_group(keeper: Keeper) -> tuple[Act, Callable[[], None]]:
    group = keeper.app.GroupResult(uuid.uuid4().hex, [keeper.app.AsyncResult("a")])
    keeper.save_group(group.id, group)
    return lambda: keeper.delete_group(group.id), lambda: _is_saved(keeper, group.id, saved=False)


def _is_saved(keeper: Keeper, group_id: str, *, saved: bool) -> None:
    assert (keeper.restore_group(group_id, cache=False) is not None) == saved


def cleaning_up(keeper: Keeper) -> tuple[Act, Callable[[], None]]:
    task = uuid.uuid4().hex
    keeper.mark_as_done(task, 7)
    old = "UPDATE results SET stored_at = now() - interval '30 days' WHERE id = %s"
    keeper.with_connection(lambda conn: conn.execute(old, [task]))

    def check() -> None:
        assert not keeper.task_result_exists(task)

    return keeper.cleanup, check


class Chord:
    """A chord of two headers."""

    def __init__(self, keeper: Keeper, *, opened: bool = True) -> None:
        self.keeper, self.id = keeper, uuid.uuid4().hex
        self.body = keeper.app.tasks["body"].s().set(task_id=f"body of {self.id}")
        if opened:
            self.open()

    def open(self) -> None:
        self.keeper.apply_chord(
            (self.id, [self.keeper.app.AsyncResult(f"{self.id}-{n}") for n in range(2)]), {}
        )
        self.keeper.set_chord_size(self.id, 2)

    def finish(self, index: int) -> None:
        request = Context(
            id=f"{self.id}-{index}", group=self.id, group_index=index, chord=dict(self.body), errbacks=[]
        )
        self.keeper.mark_as_done(request.id, index, request)

    def check(self) -> None:
        """All is delivered once more: the body has come, with all values; again only under the same id."""
        for index in (0, 1):
            self.finish(index)
        bodies = [values for body, values in self.keeper.published if body == f"body of {self.id}"]
        assert bodies in ([[0, 1]], [[0, 1], [0, 1]])


def opening_a_chord(keeper: Keeper) -> tuple[Act, Callable[[], None]]:
    chord = Chord(keeper, opened=False)
    return chord.open, chord.check


def the_first_header(keeper: Keeper) -> tuple[Act, Callable[[], None]]:
    chord = Chord(keeper)
    return lambda: chord.finish(0), chord.check


def the_last_header(keeper: Keeper) -> tuple[Act, Callable[[], None]]:
    chord = Chord(keeper)
    chord.finish(0)
    return lambda: chord.finish(1), chord.check


SCENARIOS: dict[str, Scenario] = {
    one.__name__.replace("_", " "): one
    for one in (
        storing,
        failing,
        forgetting,
        saving_a_group,
        deleting_a_group,
        cleaning_up,
        opening_a_chord,
        the_first_header,
        the_last_header,
    )
}


def undisturbed(keeper: Keeper, name: str) -> list[str]:
    """The statements of an operation."""
    act, check = SCENARIOS[name](keeper)
    with keeper.faults.watch() as statements:
        act()
        met = list(statements)
    check()
    return met


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_fault_at_any_write_of_the_result_backend_is_made_good(keeper: Keeper, name: str) -> None:
    statements = undisturbed(keeper, name)
    writes = [index for index, one in enumerate(statements) if matters(one)]
    for index, fault in itertools.product(writes, Fault):
        act, check = SCENARIOS[name](keeper)
        with keeper.faults.watch({index: fault}):
            try:
                act()
            except FAILURES:
                act()  # the message was not acknowledged, so it comes again
            assert not keeper.faults.waiting
        check()


def test_every_write_of_the_result_backend_is_among_those_that_go_wrong(keeper: Keeper) -> None:
    met = {statement for name in SCENARIOS for statement in undisturbed(keeper, name)}
    elsewhere = {
        "chord.ADD_TO_CHORD",  # not repeated on errors, as it counts
        "chord.RECLAIM_CHORD",  # met when a publisher was lost, which a fault makes happen
    }

    assert writing("result") | writing("chord") == (met & (writing("result") | writing("chord"))) | elsewhere
