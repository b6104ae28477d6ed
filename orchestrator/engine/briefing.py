"""What the rounds of a supervisor came to, as its planner and its reviewer are told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from orchestrator.engine.assigning import worker_path
from orchestrator.engine.json_texts import Unreadable, read, write
from orchestrator.engine.moves import Moves, Place
from schemas.supervision import Review
from schemas.workflows import Leaf, Supervise


@dataclass(frozen=True)
class Worked:
    """What the assignments of some rounds came to."""

    found: list[dict[str, Any]]
    gaps: list[dict[str, Any]]


def brief(moves: Moves, place: Place, of: Supervise, number: int, task: Any, worked: Worked) -> str:
    """What is told in the round of this number (from 0) of the supervisor at `place`."""
    plan = place.run.plan
    workers = {}
    for name, worker in of.workers.items():
        agent = plan.workflow.agents[worker.agent] if isinstance(worker, Leaf) else None
        path = worker_path(Place(place.run, place.below("0")), of, name)
        workers[name] = {
            "description": agent.description if agent is not None else "",
            "input": plan.input_schema_at(path),
        }
    told = {
        "task": task,
        "round": number + 1,
        "rounds": of.max_rounds,
        "workers": workers,
        "max_assignments": of.max_assignments,
        "found": worked.found,
        "gaps": worked.gaps,
        "feedback": review(moves, place, number - 1).feedback if number > 0 else "",
    }
    return write(told)


def worked(moves: Moves, place: Place, rounds: int) -> Worked:
    """What the assignments of so many rounds came to. A gap is none any more once a later round had its input done."""
    found, gaps = [], []
    for number in range(rounds):
        work = Place(place.run, place.below(f"{number}/work"))
        given, results = moves.value(place.run, f"in:{work.path}"), moves.results(work)
        missing = {gap["branch"]: gap for gap in results.gaps}
        rows = zip(given["assignments"], results.names, results.values, strict=True)
        for one, index, text in rows:
            if text is not None:
                found.append({"round": number + 1, **one, "output": read(text)})
            else:
                gap = {key: missing[index][key] for key in ("state", "reason")}
                gaps.append(_gap(number, one, gap))
        gaps += [_gap(number, one, {"state": "refused", "reason": one["reason"]}) for one in given["refused"]]
    done = {write(one["input"]): one["round"] for one in found}
    return Worked(found, [gap for gap in gaps if done.get(write(gap["input"]), 0) <= gap["round"]])


def unreviewed(moves: Moves, place: Place, number: int) -> Worked:
    """What a round (from 0) has found that ended before its review, or even its work; and the gaps of all so far."""
    has_work = moves.value(place.run, f"in:{place.below(f'{number}/work')}") is not None
    done = worked(moves, place, number + has_work)
    return Worked([one for one in done.found if one["round"] == number + 1], done.gaps)


def review(moves: Moves, place: Place, number: int) -> Review[Any]:
    """What the reviewer said in a round. Raises `Unreadable`."""
    return checked(moves.value(place.run, f"out:{place.below(f'{number}/review')}"))


def checked(answer: Any) -> Review[Any]:
    """What a reviewer said. Raises `Unreadable` for anything else."""
    try:
        return Review[Any].model_validate(answer)
    except ValidationError as error:
        first = error.errors()[0]
        raise Unreadable(
            f"the reviewer gave no review: {'.'.join(map(str, first['loc']))} {first['msg']}"
        ) from None


def is_new(moves: Moves, place: Place, number: int, latest: Review[Any]) -> bool:
    """Whether a round after the first brought anything that those before it had not."""
    if latest.findings:
        before = [one for n in range(number) for one in review(moves, place, n).findings]
        return _differs(latest.findings, before)
    found = worked(moves, place, number + 1).found
    now = [one["output"] for one in found if one["round"] == number + 1]
    return _differs(now, [one["output"] for one in found if one["round"] <= number])


def _differs(now: Sequence[Any], before: Sequence[Any]) -> bool:
    known = {write(one) for one in before}
    return any(write(one) not in known for one in now)


def _gap(number: int, one: dict[str, Any], why: dict[str, str]) -> dict[str, Any]:
    return {"branch": one["worker"], "round": number + 1, "input": one["input"], "why": one["why"], **why}
