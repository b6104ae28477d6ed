"""Every primitive of Celery's canvas, on real workers of two kinds at once."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery, chain, chord, group
from celery.result import AsyncResult, GroupResult, allow_join_result

from tests.integration.results.canvas_app import (
    add,
    has_children,
    identity,
    note,
    noted,
    replaced_by,
    reports,
    same,
    silent,
    total,
    works_at_last,
    write_down,
)
from tests.support import eventually

pytestmark = pytest.mark.usefixtures("canvas")
T = 20


def test_a_task_returns_its_value_and_all_that_celery_keeps() -> None:
    result = add.delay(2, 3)
    assert result.get(timeout=T) == 5
    assert (result.state, result.successful(), result.name, result.args) == (
        "SUCCESS",
        True,
        add.name,
        [2, 3],
    )
    assert result.date_done is not None
    assert result.queue == "celery"


def test_children_lead_to_their_results() -> None:
    result = has_children.delay()
    assert result.get(timeout=T) == "parent"
    (child,) = AsyncResult(result.id, app=add.app).children
    assert child.get(timeout=T) == 2


def test_a_state_of_the_tasks_own_is_seen_before_it_ends(key: str) -> None:
    result = reports.delay(key)
    eventually(lambda: result.state == "READING")
    assert result.info == {"page": 7}
    note(key, "go on")
    assert result.get(timeout=T) == "read"


def test_a_retried_task_succeeds_at_last() -> None:
    assert works_at_last.delay("now").get(timeout=T) == "now"


def test_link_runs_after_its_task(key: str) -> None:
    result = add.apply_async((1, 1), link=write_down.s(key=key))
    assert result.get(timeout=T) == 2
    eventually(lambda: noted(key) == ["2"])


def test_chain_passes_values_and_ancestry_on() -> None:
    assert chain(add.s(1, 1), add.s(2), add.s(3))().get(timeout=T) == 7
    last = chain(identity.si(), identity.si(), identity.si())()
    values = [node.get(timeout=T) for node in (last, last.parent, last.parent.parent)]
    root = last.parent.parent.id
    assert [root_id for root_id, _, _ in values] == [root] * 3
    assert [parent for _, parent, _ in values] == [last.parent.id, root, None]


def test_group_keeps_its_order_however_it_is_read() -> None:
    result = group(add.s(n, n) for n in range(12))()
    expected = [2 * n for n in range(12)]
    assert result.get(timeout=T) == expected
    assert result.join(timeout=T) == expected
    assert result.join_native(timeout=T) == expected
    assert {task_id: meta["result"] for task_id, meta in result.iter_native(timeout=T)} == {
        member.id: value for member, value in zip(result, expected, strict=True)
    }
    assert result.completed_count() == 12
    assert result.successful()


def test_a_group_calls_back_for_every_member() -> None:
    seen: dict[str, Any] = {}
    result = group(add.s(n, 1) for n in range(5))()
    result.get(timeout=T, callback=seen.__setitem__)
    assert sorted(seen.values()) == [1, 2, 3, 4, 5]


def test_nested_groups_are_one_group() -> None:
    nested = group(same.si(1), group(same.si(2), group(same.si(3), same.si(4))))
    assert nested().get(timeout=T) == [1, 2, 3, 4]


def test_a_group_inside_a_chain_inside_a_group_keeps_its_shape() -> None:
    nested = group(add.s(1, 1), chain(add.s(1, 1), group(add.s(1), add.s(2))))
    assert nested().get(timeout=T) == [2, [3, 4]]


def test_map_starmap_and_chunks() -> None:
    assert same.map([1, 2]).delay().get(timeout=T) == [1, 2]
    assert add.starmap([(1, 2), (3, 4)]).delay().get(timeout=T) == [3, 7]
    assert add.chunks([(n, n) for n in range(5)], 2)().get(timeout=T) == [[0, 2], [4, 6], [8]]
    assert (add.chunks([(1, 1), (2, 2)], 1).group() | total.s())().get(timeout=T) == 6


CHORDS: dict[str, tuple[Any, Any]] = {
    "list header": (lambda: chord([add.s(n, n) for n in range(5)], same.s()), [0, 2, 4, 6, 8]),
    "generator header": (lambda: chord((add.s(n, n) for n in range(5)), same.s()), [0, 2, 4, 6, 8]),
    "group then task": (lambda: group(add.s(n, 1) for n in range(4)) | same.s(), [1, 2, 3, 4]),
    "single header": (lambda: chord([add.s(1, 1)], same.s()), [2]),
    "empty header": (lambda: chord([], same.s()), []),
    "wide header": (lambda: chord([add.s(n, 0) for n in range(150)], total.s()), sum(range(150))),
    "silent headers": (lambda: chord([silent.s(n) for n in range(4)], same.s()), [0, 1, 2, 3]),
    "silent and loud": (lambda: chord([silent.s(1), add.s(1, 1), silent.s(3)], same.s()), [1, 2, 3]),
    "chains in header": (
        lambda: chord([chain(add.s(n, 1), add.s(1)) for n in range(3)], same.s()),
        [2, 3, 4],
    ),
    "chord in header": (
        lambda: chord([chord([add.s(1, 1), add.s(2, 2)], total.s()), add.s(1, 0)], same.s()),
        [6, 1],
    ),
    "chain with a chord inside, in header": (
        lambda: chord([chain(add.s(0, 1), group(add.s(1), add.s(2)), total.s()), add.s(1, 1)], same.s()),
        [5, 2],
    ),
    "chain that ends in a group, in header": (
        lambda: chord([chain(add.s(0, 1), group(add.s(1), add.s(2))), add.s(1, 1)], same.s()),
        [[2, 3], 2],
    ),
    "body is a chain": (lambda: chord([add.s(1, 1), add.s(2, 2)], chain(total.s(), add.s(100))), 106),
    "body is a group": (lambda: chord([add.s(1, 1), add.s(2, 2)], group(total.s(), same.s())), [6, [2, 4]]),
    "body is a chord": (
        lambda: chord([add.s(1, 1), add.s(2, 2)], chord([total.s(), total.s()], total.s())),
        12,
    ),
    "chord after chord": (
        lambda: chain(
            group(add.s(1, 1), add.s(2, 2)), total.s(), group(add.s(1), add.s(2)), total.s(), add.s(1000)
        ),
        1015,
    ),
    "group after group": (
        lambda: chain(group(add.s(1, 1), add.s(2, 2)), group(total.s(), total.s()), same.s()),
        [6, 6],
    ),
    "retried header": (lambda: chord([works_at_last.s(1), add.s(1, 1)], same.s()), [1, 2]),
    "body without arguments": (lambda: chord([add.s(1, 1), add.s(2, 2)], same.si("body")), "body"),
    "same signature twice": (lambda: chord([add.s(1, 1)] * 3, same.s()), [2, 2, 2]),
    "header replaced by a task": (
        lambda: chord([replaced_by.s(1, "task"), add.s(1, 1)], same.s()),
        [11, 2],
    ),
    "header replaced by a chain": (
        lambda: chord([replaced_by.s(1, "chain"), add.s(1, 1)], same.s()),
        [21, 2],
    ),
    "header replaced by a group": (
        lambda: chord([replaced_by.s(1, "group"), add.s(1, 1)], same.s()),
        [[11, 21], 2],
    ),
    "body replaced by a chain": (
        lambda: chord([add.s(1, 1)], chain(total.s(), replaced_by.s("chain"))),
        22,
    ),
}


@pytest.mark.parametrize("case", CHORDS)
def test_chord(case: str) -> None:
    make, expected = CHORDS[case]
    assert make()().get(timeout=T) == expected


@pytest.mark.parametrize(
    ("kind", "expected"), [("task", 11), ("chain", 21), ("group", [11, 21])], ids=["task", "chain", "group"]
)
def test_replaced_task(kind: str, expected: Any) -> None:
    assert replaced_by.delay(1, kind).get(timeout=T) == expected
    assert (replaced_by.s(1, kind) | same.s())().get(timeout=T) == expected


def test_a_chords_body_has_a_header_for_parent_and_the_header_group_behind_it() -> None:
    result = chain(identity.si(), group(identity.si(), identity.si()), identity.si())()
    root_id, parent_id, own_id = result.get(timeout=T)
    assert own_id == result.id
    assert isinstance(result.parent, GroupResult)
    assert parent_id in [member.id for member in result.parent]
    assert root_id == result.parent.parent.id


def test_one_frozen_chord_can_run_again() -> None:
    again = chord([add.s(1, 1), add.s(2, 2)], total.s())
    again.freeze()
    assert again().get(timeout=T) == 6
    assert again().get(timeout=T) == 6


def test_a_saved_group_is_restored_until_it_is_deleted(canvas: Celery) -> None:
    result = group(add.s(n, n) for n in range(3))()
    result.save()
    restored = GroupResult.restore(result.id, app=canvas)
    assert restored == result
    with allow_join_result():
        assert restored.get(timeout=T) == [0, 2, 4]
    restored.delete()
    assert GroupResult.restore(result.id, app=canvas) is None
