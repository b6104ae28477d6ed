"""A debate: answers beside each other, then a decision that the engine computes, from scores or from who agrees."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from orchestrator.engine.gather import Results
from orchestrator.engine.json_texts import read, write
from orchestrator.engine.moves import EndedPart, Moves, Place
from orchestrator.engine.values import error_text
from schemas.debates import Verdict
from schemas.events import EventKind
from schemas.workflows import Debate, Leaf


@dataclass(frozen=True)
class Ballot:
    """The answers of those who gave one, in the order of the definition, and who agrees with whom."""

    answers: dict[str, Any]
    gaps: list[dict[str, str]]
    camps: dict[str, list[str]]
    """For every debater those whose answers agree with its own, itself among them."""

    @property
    def debaters(self) -> int:
        """All of them, with an answer or without."""
        return len(self.answers) + len(self.gaps)

    @property
    def favourite(self) -> str:
        """The first debater of the largest camp."""
        return max(self.camps, key=lambda name: len(self.camps[name]))

    @property
    def most(self) -> int:
        """The debaters in that camp."""
        return len(self.camps[self.favourite])


@dataclass(frozen=True)
class Ruling:
    """Who won, by what, and how sure that is."""

    winner: str
    by: str
    reason: str
    confidence: float
    scores: dict[str, float]


def part_ended(moves: Moves, place: Place, node: Debate, part: EndedPart) -> None:
    """The debaters have answered as far as they do, or the judge has ended."""
    if part.segment == "positions" and part.output_ref is None:
        moves.close(place, None, part.error)
        return
    ballot = count(node, moves.results(Place(place.run, place.below("positions"))))
    ruling, doubt = _ruling(moves, place, node, part, ballot)
    if ruling is not None:
        _close(moves, place, ballot, ruling)
    elif part.segment == "positions" and node.judge is not None:
        _ask(moves, place, node, node.judge, ballot)
    elif node.undecided == "fail":
        moves.close(place, None, error_text("Undecided", doubt))
    else:
        _close(moves, place, ballot, _by_plurality(ballot, doubt))


def count(node: Debate, results: Results) -> Ballot:
    """Who agrees with whom, by the chosen fields or by whole answers. Raises `Unreadable`."""
    given = zip(results.names, results.values, strict=True)
    answers = {name: read(text) for name, text in given if text is not None}
    keys = {name: _key(node, answer) for name, answer in answers.items()}
    camps = {name: [other for other in keys if keys[other] == key] for name, key in keys.items()}
    return Ballot(answers, list(results.gaps), camps)


def by_votes(node: Debate, ballot: Ballot) -> tuple[Ruling | None, str]:
    """The answer that enough debaters agree on, or why there is none."""
    if node.mode == "judge" or ballot.most < node.needed:
        return None, f"{ballot.most} of {ballot.debaters} agree, {node.needed} must"
    reason = f"{ballot.most} of {ballot.debaters} agree"
    return Ruling(ballot.favourite, node.mode, reason, ballot.most / ballot.debaters, {}), ""


def by_verdict(node: Debate, ballot: Ballot, answer: Any) -> tuple[Ruling | None, str]:
    """The answer with the best weighted score, of equals that of the largest camp; or why the verdict is none."""
    try:
        verdict = Verdict.model_validate(answer)
    except ValidationError as error:
        return None, f"{node.judge} gave no verdict: {error.errors()[0]['msg']}"
    for name in ballot.answers:
        if missing := [one for one in node.rubric if one not in verdict.scores.get(name, {})]:
            return None, f"{node.judge} gave {name!r} no score for {', '.join(missing)}"
    weights = sum(node.rubric.values())
    scores = {
        name: round(sum(w * verdict.scores[name][one] for one, w in node.rubric.items()) / weights, 6)
        for name in ballot.answers
    }
    winner = max(scores, key=lambda name: (scores[name], len(ballot.camps[name])))
    reason = verdict.reason or f"{winner!r} has the best score"
    confidence = verdict.confidence * len(ballot.answers) / ballot.debaters
    return Ruling(winner, "judge", reason, confidence, scores), ""


def _ruling(
    moves: Moves, place: Place, node: Debate, part: EndedPart, ballot: Ballot
) -> tuple[Ruling | None, str]:
    if part.segment == "positions":
        return by_votes(node, ballot)
    if part.output_ref is None:
        return (
            None,
            f"{node.judge} failed: {json.loads(part.error or '{}').get('message', 'no reason given')}",
        )
    return by_verdict(node, ballot, moves.value(place.run, part.output_ref))


def _by_plurality(ballot: Ballot, doubt: str) -> Ruling:
    reason = f"{doubt}; most say what {ballot.favourite!r} says"
    return Ruling(ballot.favourite, "plurality", reason, ballot.most / ballot.debaters, {})


def _ask(moves: Moves, place: Place, node: Debate, judge: str, ballot: Ballot) -> None:
    case = {
        "task": moves.value(place.run, moves.input_ref(place)),
        "positions": ballot.answers,
        "rubric": node.rubric,
        "gaps": ballot.gaps,
    }
    moves.open_part_on(place, "judge", Leaf(agent=judge), write(case), ordinal=1)


def _close(moves: Moves, place: Place, ballot: Ballot, ruling: Ruling) -> None:
    camp = ballot.camps[ruling.winner]
    told = {
        "by": ruling.by,
        "reason": ruling.reason,
        "confidence": round(ruling.confidence, 6),
        "agreement": round(len(camp) / len(ballot.answers), 6),
    }
    dissent = [{"debater": k, "answer": v} for k, v in ballot.answers.items() if k not in camp]
    rest = {"supporters": camp, "dissent": dissent, "scores": ruling.scores, "gaps": ballot.gaps}
    answer = {"winner": ruling.winner, "answer": ballot.answers[ruling.winner]}
    moves.close_with(place, write(answer | told | rest))
    rivals = ruling.scores or {k: round(len(v) / ballot.debaters, 6) for k, v in ballot.camps.items()}
    others = {name: share for name, share in rivals.items() if name not in camp}
    decided = {"verb": "settled on", "choice": ruling.winner, "alternatives": others}
    moves.note(place, EventKind.STEP_DECIDED, told | decided)


def _key(node: Debate, answer: Any) -> str:
    if not node.fields:
        return write(answer)
    return write([answer.get(field) if isinstance(answer, dict) else None for field in node.fields])
