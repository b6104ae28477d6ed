"""Two searches become one answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from schemas.memory import FUSION


class Hit(NamedTuple):
    """A memory that was found."""

    id: int
    score: float
    by: Literal["vector", "text", "both"]
    similarity: float | None
    share: float | None
    fused: float


def fused(
    shares: Mapping[int, float], similarities: Mapping[int, float] | None, *, most: int, least_score: float
) -> list[Hit]:
    """The best of both, each given in its order; `similarities` is None where no vectors were compared.

    The order is that of reciprocal rank fusion: the sum of 1 / (k + rank), from 1, over the searches that found it.
    A memory that fits less than `least_score` by both is left out before ranks are given.
    """
    lists: list[Sequence[int]] = [[id for id, share in shares.items() if share >= least_score and share > 0]]
    if similarities is not None:
        alike = {id: max(0.0, min(1.0, value)) for id, value in similarities.items()}
        lists.append([id for id, value in alike.items() if value >= least_score and value > 0])
    else:
        alike = {}
    points: dict[int, float] = {}
    for ids in lists:
        for rank, id in enumerate(ids, start=1):
            points[id] = points.get(id, 0.0) + 1 / (FUSION + rank)
    best = len(lists) / (FUSION + 1)

    def hit(id: int) -> Hit:
        similarity, share = alike.get(id), shares.get(id)
        found = [id in ids for ids in lists]
        by: Literal["vector", "text", "both"] = "both" if all(found) and len(found) > 1 else "text"
        if len(found) > 1 and not found[0]:
            by = "vector"
        return Hit(
            id, max(similarity or 0.0, share or 0.0), by, similarity, share, min(1.0, points[id] / best)
        )

    hits = sorted(map(hit, points), key=lambda one: (-one.fused, -one.score, -one.id))
    return hits[:most]
