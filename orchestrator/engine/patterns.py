"""What each pattern does when it is entered, and when a part of it has ended. Fan-outs have `Advance` itself.

A condition that cannot be evaluated, or a value that cannot be read, fails its step with a reason; it never fails the
transaction, in which other runs' outcomes may be recorded too.
"""

from __future__ import annotations

from orchestrator.definitions.conditions import ConditionError, holds
from orchestrator.engine import approving, assigning, debating, expecting, looping, routing, supervising
from orchestrator.engine.json_texts import Unreadable
from orchestrator.engine.moves import EndedPart, Moves, Place
from orchestrator.engine.values import error_text
from schemas.workflows import (
    Approve,
    Assigned,
    Debate,
    Loop,
    Node,
    Pipeline,
    Round,
    Route,
    Stage,
    Supervise,
    WaitFor,
)


def entered(moves: Moves, place: Place, node: Node, ref: str, delay: float | None) -> None:
    """The composite is open: start its first part, on the value behind `ref`, `delay` seconds from now."""
    try:
        match node:
            case Pipeline(stages=stages):
                moves.open_part(place, "0", stages[0], ref, delay=delay)
            case Stage():
                _enter_stage(moves, place, node, ref, delay)
            case Route():
                routing.entered(moves, place, node, ref, delay)
            case Loop():
                moves.open_part(place, "0", node.body, ref, delay=delay)
            case Approve():
                approving.entered(moves, place, node, ref, delay)
            case Supervise():
                moves.open_part(place, "0", node.round, ref, delay=delay)
            case Round():
                supervising.round_entered(moves, place, node, ref, delay)
            case Assigned():
                assigning.entered(moves, place, node, ref, delay)
            case Debate():
                moves.open_part(place, "positions", node.positions, ref, delay=delay)
            case WaitFor():
                expecting.entered(moves, place, node, ref, delay)
    except (ConditionError, Unreadable) as error:
        moves.close(place, None, error_text(type(error).__name__, str(error)))


def part_ended(moves: Moves, place: Place, node: Node, part: EndedPart) -> None:
    """A part of the composite has ended."""
    try:
        match node:
            case Pipeline():
                _pipeline_went_on(moves, place, node, part)
            case Stage():
                _stage_went_on(moves, place, node, part)
            case Route():
                routing.part_ended(moves, place, node, part)
            case Loop():
                looping.round_ended(moves, place, node, part)
            case Supervise():
                supervising.round_ended(moves, place, node, part)
            case Round():
                supervising.part_of_round_ended(moves, place, node, part)
            case Assigned():
                moves.close(place, part.output_ref, part.error)
            case Debate():
                debating.part_ended(moves, place, node, part)
    except (ConditionError, Unreadable) as error:
        moves.close(place, None, error_text(type(error).__name__, str(error)))


def _pipeline_went_on(moves: Moves, place: Place, node: Pipeline, part: EndedPart) -> None:
    following = int(part.segment) + 1
    if (
        part.output_ref is None
        or following == len(node.stages)
        or _stops(moves, place, node, part.output_ref)
    ):
        moves.close(place, part.output_ref, part.error)
    else:
        moves.open_part(place, str(following), node.stages[following], part.output_ref)


def _stops(moves: Moves, place: Place, node: Pipeline, ref: str) -> bool:
    return node.stop_when is not None and holds(node.stop_when, {"output": moves.value(place.run, ref)})


def _enter_stage(moves: Moves, place: Place, node: Stage, ref: str, delay: float | None) -> None:
    if node.when is None or holds(node.when, {"input": moves.value(place.run, ref)}):
        moves.open_part(place, "do", node.body, ref, delay=delay)
    else:
        moves.close(place, ref)


def _stage_went_on(moves: Moves, place: Place, node: Stage, part: EndedPart) -> None:
    if part.output_ref is not None:
        moves.close(place, part.output_ref)
    elif part.segment == "do" and node.fallback is not None:
        moves.open_part(place, "else", node.fallback, moves.input_ref(place), ordinal=1)
    elif node.optional:
        moves.close(place, moves.input_ref(place))
    else:
        moves.close(place, None, part.error)
