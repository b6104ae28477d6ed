"""How failures travel: through chains, chords and what is nested in them, to results and to errbacks."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from celery import Celery, chain, chord, group
from celery.exceptions import ChordError, TaskRevokedError, TimeoutError
from celery.result import AsyncResult

from tests.integration.results.canvas_app import (
    NoSuchPaper,
    add,
    errback,
    fail,
    keeps_failing,
    note,
    noted,
    old_errback,
    replaced_by,
    reports,
    same,
    silent,
    total,
)
from tests.support import eventually

pytestmark = pytest.mark.usefixtures("canvas")
T = 20


def test_an_exception_comes_back_with_its_type_arguments_and_traceback() -> None:
    result = fail.delay(why="burnt")
    with pytest.raises(NoSuchPaper) as caught:
        result.get(timeout=T)
    assert caught.value.args == ("burnt", 404)
    assert result.state == "FAILURE"
    assert "in fail" in result.traceback
    assert isinstance(result.get(propagate=False), NoSuchPaper)


def test_retries_come_to_an_end(key: str) -> None:
    with pytest.raises(NoSuchPaper, match="still"):
        keeps_failing.delay(key).get(timeout=T)
    assert noted(key) == ["0", "1", "2"]


@pytest.mark.parametrize("callback", [errback, old_errback], ids=["new style", "old style"])
def test_link_error_is_called(callback: Any, key: str) -> None:
    result = fail.apply_async(link_error=callback.s(key=key))
    with pytest.raises(NoSuchPaper):
        result.get(timeout=T)
    eventually(lambda: [word.split()[0] for word in noted(key)] == [result.id])


def test_a_chain_fails_as_a_whole_and_get_raises_the_cause() -> None:
    last = chain(add.s(1, 1), fail.s(), add.s(1), add.s(1))()
    with pytest.raises(NoSuchPaper):
        last.get(timeout=T)
    assert [node.state for node in (last, last.parent, last.parent.parent)] == ["FAILURE"] * 3
    assert last.parent.parent.parent.get(timeout=T) == 2


@pytest.mark.parametrize("after", [lambda: group(add.s(1), add.s(2)), lambda: group(add.s(1)) | total.s()])
def test_a_chain_fails_through_the_group_that_follows(after: Any) -> None:
    result = chain(add.s(1, 1), fail.s(), after())()
    with pytest.raises(NoSuchPaper):
        result.get(timeout=T)


def test_a_group_reports_every_failure() -> None:
    result = group(add.s(1, 1), fail.s(), add.s(2, 2))()
    with pytest.raises(NoSuchPaper):
        result.get(timeout=T)
    one, two, three = result.get(timeout=T, propagate=False)
    assert (one, type(two), three) == (2, NoSuchPaper, 4)
    assert result.failed()


HEADERS: dict[str, Any] = {
    "a header": lambda: [add.s(1, 1), fail.s(), add.s(2, 2)],
    "every header": lambda: [fail.s(), fail.s()],
    "a generator's header": lambda: (fail.s() if n else add.s(1, 1) for n in range(3)),
    "first of a chain": lambda: [chain(fail.s(), add.s(1), add.s(1)), add.s(2, 2)],
    "last of a chain": lambda: [chain(add.s(1, 1), fail.s()), add.s(2, 2)],
    "a replacement": lambda: [replaced_by.s(1, "failure"), add.s(2, 2)],
    "header of an inner chord": lambda: [chord([fail.s(), add.s(1, 1)], total.s()), add.s(2, 2)],
    "inner chord with a chain for body": lambda: [
        chord([fail.s(), add.s(1, 1)], chain(total.s(), add.s(1))),
        add.s(2, 2),
    ],
    "chord in a chord in a chord": lambda: [
        chord([chord([fail.s(), add.s(1, 1)], total.s()), add.s(1, 1)], total.s()),
        add.s(2, 2),
    ],
    "body of an inner chord": lambda: [chord([add.s(1, 1)], fail.s()), add.s(2, 2)],
    "before an inner group": lambda: [chain(fail.s(), group(add.s(1), add.s(2)), total.s()), add.s(2, 2)],
    "before an inner group that ends it": lambda: [chain(fail.s(), group(add.s(1), add.s(2))), add.s(2, 2)],
    "a silent sibling": lambda: [silent.s(1), fail.s()],
}


@pytest.mark.parametrize("case", HEADERS)
def test_a_failed_header_fails_the_body(case: str, key: str) -> None:
    result = chord(HEADERS[case](), total.s().on_error(errback.s(key=key)))()
    # Which of the two is raised depends on whether the header group is looked at: both name the cause.
    with pytest.raises((ChordError, NoSuchPaper)):
        result.get(timeout=T)
    eventually(lambda: AsyncResult(result.id, app=add.app).state == "FAILURE")
    eventually(lambda: result.id in [word.split()[0] for word in noted(key)])


def test_the_chord_error_names_the_header_that_failed() -> None:
    result = chord([add.s(1, 1), fail.s(why="eaten")], total.s())()
    header = result.parent
    eventually(lambda: AsyncResult(result.id, app=add.app).state == "FAILURE")
    stored = AsyncResult(result.id, app=add.app).result
    assert isinstance(stored, ChordError)
    assert header[1].id in str(stored)
    assert "eaten" in str(stored)


@pytest.mark.filterwarnings("ignore:task_allow_error_cb_on_chord_header")
def test_an_errback_of_nested_chords_is_called_once(key: str) -> None:
    inner = chord([fail.s(), add.s(1, 1)], total.s())
    middle = chord([inner, add.s(1, 1)], total.s())
    outer = chord([middle, add.s(1, 1)], total.s())
    outer.link_error(errback.s(key=key))
    result = outer()
    with pytest.raises((ChordError, NoSuchPaper)):
        result.get(timeout=T)
    eventually(lambda: AsyncResult(result.id, app=add.app).state == "FAILURE")
    assert len(noted(key)) == 1


@pytest.mark.parametrize(
    "body",
    [
        lambda: chain(total.s(), add.s(1), add.s(1)),
        lambda: chord([total.s(), total.s()], total.s()),
        lambda: group(total.s(), same.s()),
    ],
    ids=["chain", "chord", "group"],
)
def test_a_failed_header_fails_a_canvas_for_body(body: Any) -> None:
    result = chord([add.s(1, 1), fail.s()], body())()
    with pytest.raises((ChordError, NoSuchPaper)):
        result.get(timeout=T)


def test_an_errback_of_the_body_hears_of_the_bodys_own_failure(key: str) -> None:
    result = chord([add.s(1, 1)], fail.s().on_error(errback.s(key=key)))()
    with pytest.raises(NoSuchPaper):
        result.get(timeout=T)
    eventually(lambda: noted(key) == [f"{result.id} NoSuchPaper"])


def test_a_chord_waits_for_all_headers_before_it_fails(key: str) -> None:
    result = chord([fail.s(), reports.s(key)], total.s())()
    eventually(lambda: result.parent[0].state == "FAILURE")
    eventually(lambda: result.parent[1].state == "READING")
    assert AsyncResult(result.id, app=add.app).state == "PENDING"
    note(key, "go on")
    with pytest.raises((ChordError, NoSuchPaper)):
        result.get(timeout=T)
    eventually(lambda: AsyncResult(result.id, app=add.app).state == "FAILURE")


def test_a_revoked_header_fails_its_chord(canvas: Celery) -> None:
    doomed = uuid.uuid4().hex
    canvas.control.revoke(doomed)
    eventually(lambda: workers_that_revoked(canvas, doomed) == 2)

    result = chord([add.s(1, 1).set(task_id=doomed), add.s(2, 2)], total.s())()
    with pytest.raises((ChordError, TaskRevokedError)):
        result.get(timeout=T)
    assert AsyncResult(doomed, app=canvas).state == "REVOKED"
    eventually(lambda: AsyncResult(result.id, app=canvas).state == "FAILURE")


def workers_that_revoked(canvas: Celery, task_id: str) -> int:
    answers = canvas.control.inspect(timeout=1, limit=2).revoked() or {}
    return sum(task_id in revoked for revoked in answers.values())


def test_what_never_comes_times_out(canvas: Celery) -> None:
    with pytest.raises(TimeoutError):
        AsyncResult("nobody-knows-this", app=canvas).get(timeout=0.05)
