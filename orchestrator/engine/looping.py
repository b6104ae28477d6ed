"""A loop: round after round on the output of the one before, until it is good enough, or nothing changes, or enough."""

from __future__ import annotations

from orchestrator.definitions.conditions import ConditionError, holds, number
from orchestrator.engine import budgets
from orchestrator.engine.moves import EndedPart, Moves, Place
from schemas.events import EventKind
from schemas.workflows import WARN_AT, Loop


def round_ended(moves: Moves, place: Place, node: Loop, part: EndedPart) -> None:
    """Go on, or end with the best there is. A failed round ends a loop that has a result; one without fails."""
    rounds = int(part.segment) + 1
    if part.output_ref is None:
        _give_up(moves, place, node, part, rounds)
        return
    given_ref = moves.outputs(place)[-2][1] if rounds > 1 else moves.input_ref(place)
    output, given = moves.value(place.run, part.output_ref), moves.value(place.run, given_ref)
    if output == given or _is_enough(node, given, output, rounds):
        moves.close(place, part.output_ref)
    elif rounds == node.max_rounds:
        _stop(moves, place, node, rounds, f"stopped after {rounds} rounds with the best result so far")
    elif shortage := budgets.used_up(moves, place.run):
        _stop(
            moves,
            place,
            node,
            rounds,
            f"{shortage}: stopped with the best result so far",
            budgets.short(shortage),
        )
    else:
        if rounds == WARN_AT:
            told = {"message": f"goes on after {rounds} rounds", "rounds": rounds, "most": node.max_rounds}
            moves.note(place, EventKind.STEP_WARNING, told)
        moves.open_part(place, str(rounds), node.body, part.output_ref, ordinal=rounds)


def _stop(
    moves: Moves, place: Place, node: Loop, rounds: int, message: str, error: str | None = None
) -> None:
    best = _best(moves, place, node)
    moves.note(place, EventKind.STEP_WARNING, {"message": message, "rounds": rounds})
    moves.close(place, best, error)


def _is_enough(node: Loop, given: object, output: object, rounds: int) -> bool:
    return node.until is not None and holds(node.until, {"input": given, "output": output, "round": rounds})


def _give_up(moves: Moves, place: Place, node: Loop, part: EndedPart, rounds: int) -> None:
    best = _best(moves, place, node) if rounds > 1 else None
    if best is not None:
        told = {"message": f"round {rounds} failed: ends with the best result so far", "rounds": rounds}
        moves.note(place, EventKind.STEP_WARNING, told)
    moves.close(place, best, None if best is not None else part.error)


def _best(moves: Moves, place: Place, node: Loop) -> str | None:
    """The output with the highest score, the latest among equals; without a score, the last."""
    outputs = [ref for _, ref in moves.outputs(place)]
    if not outputs or node.score is None:
        return outputs[-1] if outputs else None
    scored = [(_score(moves, place, node.score, ref), order, ref) for order, ref in enumerate(outputs)]
    return max(scored)[2]


def _score(moves: Moves, place: Place, score: str, ref: str) -> float:
    try:
        return number(score, {"output": moves.value(place.run, ref)})
    except ConditionError:
        return float("-inf")
