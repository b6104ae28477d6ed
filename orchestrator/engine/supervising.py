"""A supervisor: rounds of a plan, the work it assigns, and a review, until one is accepted or the bound is hit."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from orchestrator.engine import assigning, briefing, budgets
from orchestrator.engine.json_texts import write
from orchestrator.engine.moves import EndedPart, Moves, Place
from schemas.events import EventKind
from schemas.supervision import Review
from schemas.workflows import Leaf, Round, Supervise

_REASONS = {
    "accepted": "accepted",
    "nothing new": "no new findings",
    "rounds": "no round is left",
    "budget": "the budget is used up",
}


def round_entered(moves: Moves, place: Place, node: Round, ref: str, delay: float | None) -> None:
    """Ask the planner."""
    above, number = _above(place)
    worked = briefing.worked(moves, above, number)
    told = briefing.brief(moves, above, node.supervisor, number, moves.value(place.run, ref), worked)
    moves.open_part_on(place, "plan", Leaf(agent=node.supervisor.planner), told, delay=delay)


def part_of_round_ended(moves: Moves, place: Place, node: Round, part: EndedPart) -> None:
    """The plan becomes work, what was worked on is reviewed, and the review is what the round comes to."""
    if part.output_ref is None or part.segment == "review":
        moves.close(place, part.output_ref, part.error)
    elif part.segment == "plan":
        _assign(moves, place, node, moves.value(place.run, part.output_ref))
    else:
        above, number = _above(place)
        task = moves.value(place.run, moves.input_ref(place))
        worked = briefing.worked(moves, above, number + 1)
        told = briefing.brief(moves, above, node.supervisor, number, task, worked)
        moves.open_part_on(place, "review", Leaf(agent=node.supervisor.reviewer), told, ordinal=2)


def round_ended(moves: Moves, place: Place, node: Supervise, part: EndedPart) -> None:
    """Go on, or end with the last review."""
    number = int(part.segment)
    if part.output_ref is None:
        _give_up(moves, place, number, part.error)
        return
    review = briefing.checked(moves.value(place.run, part.output_ref))
    if review.accept:
        ended = "accepted"
    elif number > 0 and not briefing.is_new(moves, place, number, review):
        ended = "nothing new"
    elif number + 1 == node.max_rounds:
        ended = "rounds"
    elif budgets.used_up(moves, place.run):
        ended = "budget"
    else:
        _tell(
            moves,
            place,
            "goes on with",
            f"round {number + 2}",
            node.reviewer,
            review.feedback or "not accepted",
        )
        ref = moves.input_ref(place)
        moves.open_part(place, str(number + 1), node.round, ref, ordinal=number + 1)
        return
    by = node.reviewer if review.accept else ended
    _tell(moves, place, "ends with", f"the answer of round {number + 1}", by, _REASONS[ended])
    _end(moves, place, number + 1, review, ended)


def _give_up(moves: Moves, place: Place, number: int, error: str | None) -> None:
    """A failed round ends one that has a review; the first fails it, but for the budget when there is work to show."""
    short, last = budgets.was_short(error), briefing.unreviewed(moves, place, number)
    if number == 0 and not (short and last.found):
        moves.close(place, None, error)
        return
    shown = f"the answer of round {number}" if number > 0 else "what its workers found"
    told = {"message": f"round {number + 1} failed: ends with {shown}", "rounds": number}
    moves.note(place, EventKind.STEP_WARNING, told)
    review = briefing.review(moves, place, number - 1) if number > 0 else Review(accept=False)
    _end(moves, place, number, review, "budget" if short else "failed", last)


def _assign(moves: Moves, place: Place, node: Round, answer: Any) -> None:
    of = node.supervisor
    work = assigning.judged(answer, assigning.terms(moves, place, of))
    given = Counter(one["worker"] for one in work.assignments)
    choice = ", ".join(f"{worker} ×{times}" if times > 1 else worker for worker, times in given.items())
    reasons = "; ".join(one["why"] for one in work.assignments if one["why"])
    _tell(moves, place, "assigned", choice or "nothing", of.planner, reasons or "no reason given")
    for one in work.refused:
        told = {"message": f"refused an assignment to {one['worker']!r}: {one['reason']}"}
        moves.note(place, EventKind.STEP_WARNING, told | {"refused": one})
    moves.open_part_on(place, "work", node.work, write(asdict(work)), ordinal=1)


def _end(
    moves: Moves,
    place: Place,
    rounds: int,
    review: Review[Any],
    ended: str,
    unreviewed: briefing.Worked | None = None,
) -> None:
    told = {
        "answer": review.answer,
        "accepted": review.accept,
        "ended": ended,
        "rounds": rounds,
        "feedback": review.feedback,
        "found": unreviewed.found if unreviewed is not None else [],
        "gaps": (unreviewed or briefing.worked(moves, place, rounds)).gaps,
    }
    moves.close_with(place, write(told), budgets.short(_REASONS["budget"]) if ended == "budget" else None)


def _tell(moves: Moves, place: Place, verb: str, choice: str, by: str, reason: str) -> None:
    told = {"verb": verb, "choice": choice, "by": by, "reason": reason}
    moves.note(place, EventKind.STEP_DECIDED, told)


def _above(place: Place) -> tuple[Place, int]:
    """The supervisor of a round, and the round's number from 0."""
    path, _, segment = place.path.rpartition("/")
    return Place(place.run, path), int(segment)
