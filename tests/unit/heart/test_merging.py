"""Merges: what joins what, whatever the order of the writers, and what is refused."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from orchestrator.merging import MergeError, merged
from schemas.state import Merge


@pytest.mark.parametrize(
    ("how", "old", "new", "after"),
    [
        (Merge.APPEND, None, 1, [1]),
        (Merge.APPEND, [1], [2], [1, [2]]),
        (Merge.UNION, None, [1, 1], [1]),
        (Merge.UNION, [1, {"a": 1}], [{"a": 1}, 2], [1, {"a": 1}, 2]),
        (Merge.UNION, [1], [True, 1.0], [1, True, 1.0]),
        (Merge.MAX, None, 3, 3),
        (Merge.MAX, 3, 2, 3),
        (Merge.MIN, 3, 2.5, 2.5),
        (Merge.ADD, None, -1, -1),
        (Merge.ADD, 3, 4, 7),
        (Merge.REPLACE, [1], {"a": None}, {"a": None}),
    ],
)
def test_a_value_joins_what_is_there(how: Merge, old: Any, new: Any, after: Any) -> None:
    found = merged(how, old, new)

    assert (found, type(found)) == (after, type(after))


@pytest.mark.parametrize(
    ("how", "old", "new"),
    [
        (Merge.APPEND, "text", 1),
        (Merge.UNION, [1], 2),
        (Merge.UNION, {"a": 1}, [2]),
        (Merge.ADD, 1, "2"),
        (Merge.ADD, None, True),
        (Merge.MAX, [1], 2),
        (Merge.MIN, True, 2),
    ],
)
def test_what_does_not_fit_together_is_refused(how: Merge, old: Any, new: Any) -> None:
    with pytest.raises(MergeError, match=f"{how} needs"):
        merged(how, old, new)


@pytest.mark.parametrize("how", [Merge.MAX, Merge.MIN, Merge.ADD])
def test_the_order_of_writers_makes_no_difference(how: Merge) -> None:
    def folded(values: tuple[int, ...]) -> Any:
        found = None
        for value in values:
            found = merged(how, found, value)
        return found

    assert len({folded(order) for order in permutations((3, 1, 4, 1, 5))}) == 1
