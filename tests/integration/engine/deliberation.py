"""What supervisors and debates mean, said a second time in plain Python: a part of the reference."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from schemas.workflows import Debate, Supervise
from tests.integration.engine.bench import Boom

Act = Callable[[str, Any], Any]
Work = Callable[[int, int, str, Any], Any]
"""Round, index, worker and input to output; raises `Boom`."""

TOLD = ("task", "round", "found", "gaps", "feedback")
"""What the agents of the reference go by in a `Brief`."""


def act(agent: str, value: Any, number: int, digest: str) -> Any:
    """What planners, reviewers and judges do; `number` and `digest` follow from what they were handed."""
    if number % 7 == 0:
        raise Boom(f"{agent} about {digest[:6]}")
    match agent:
        case "planning":
            return {
                "assignments": [
                    {"worker": f"b{digit % 3}", "input": f"{digest[n:6]}", "why": ""}
                    for n, digit in enumerate(map(ord, digest[: number % 4]))
                ]
            }
        case "reviewing":
            findings = [digest[:1]] if number % 2 else []
            return {
                "accept": number % 3 == 0,
                "answer": digest[:5],
                "feedback": digest[:2],
                "findings": findings,
            }
    if number % 5 == 0:
        return {"scores": {}}
    scores = {
        name: {"good": int(digest[n], 16) / 16, "short": int(digest[-n], 16) / 16}
        for n, name in enumerate(value["positions"])
    }
    return {"scores": scores, "confidence": number % 11 / 10, "reason": digest[:3]}


def supervised(node: Supervise, task: Any, act: Act, work: Work, deep: Collection[str]) -> Any:
    """What a supervisor produces that may not ask its `deep` workers. Raises `Boom` if its first round fails."""
    found: list[dict[str, Any]] = []
    gaps: list[dict[str, Any]] = []
    reviews: list[dict[str, Any]] = []
    open_gaps: list[dict[str, Any]] = []
    for number in range(node.max_rounds):
        brief = {
            "task": task,
            "round": number + 1,
            "found": found,
            "gaps": open_gaps,
            "feedback": reviews[-1]["feedback"] if reviews else "",
        }
        done: list[dict[str, Any]] = []
        now = open_gaps
        try:
            plan = act(node.planner, brief)
            done, missing = _worked(node, number, plan["assignments"], work, deep)
            now = [gap for gap in gaps + missing if not _made_good(gap, found + done)]
            review = act(node.reviewer, brief | {"found": found + done, "gaps": now})
        except Boom:
            if not reviews:
                raise
            return _end(reviews, "failed", now, done)
        before, found, gaps, open_gaps = found, found + done, gaps + missing, now
        known = [finding for one in reviews for finding in one["findings"]]
        reviews.append(review)
        if review["findings"]:
            is_new = any(one not in known for one in review["findings"])
        else:
            is_new = any(one["output"] not in [old["output"] for old in before] for one in done)
        if review["accept"]:
            return _end(reviews, "accepted", open_gaps)
        if number > 0 and not is_new:
            return _end(reviews, "nothing new", open_gaps)
    return _end(reviews, "rounds", open_gaps)


def _made_good(gap: dict[str, Any], found: list[dict[str, Any]]) -> bool:
    return any(one["input"] == gap["input"] and one["round"] > gap["round"] for one in found)


def _end(
    reviews: list[dict[str, Any]], ended: str, gaps: list[dict[str, Any]], unreviewed: Sequence[Any] = ()
) -> Any:
    last = reviews[-1]
    told = {"accepted": last["accept"], "ended": ended, "rounds": len(reviews), "gaps": gaps}
    return {"answer": last["answer"], "feedback": last["feedback"], "found": list(unreviewed), **told}


def _worked(
    node: Supervise, number: int, wanted: list[Any], work: Work, deep: Collection[str]
) -> tuple[list[Any], list[Any]]:
    """What was found, and the gaps: those that failed first, then those that were refused."""
    found, failed, refused = [], [], []
    given: list[dict[str, Any]] = []
    for order, one in enumerate(wanted):
        told = {"round": number + 1, "input": one["input"], "why": one["why"]}
        gap = {"branch": one["worker"], "state": "refused", **told}
        if node.max_assignments in (len(given), len(refused)):
            most = node.max_assignments
            reason = (
                f"too many: a round has at most {most} assignments, {len(wanted) - order} more are left out"
            )
            refused.append(gap | {"reason": reason})
            break
        if one["worker"] not in node.workers:
            reason = f"there is no worker {one['worker']!r}, only {', '.join(node.workers)}"
            refused.append(gap | {"reason": reason})
            continue
        if one["worker"] in deep:
            reason = f"too deep: {one['worker']!r} delegates to others, which may not happen here"
            refused.append(gap | {"reason": reason})
            continue
        given.append(one)
        try:
            output = work(number, len(given) - 1, one["worker"], one["input"])
        except Boom as boom:
            failed.append(gap | {"state": "failed", "reason": str(boom)})
        else:
            found.append({**told, "worker": one["worker"], "output": output})
    return found, failed + refused


def debated(node: Debate, task: Any, answers: Mapping[str, Any], gaps: list[dict[str, str]], act: Act) -> Any:
    """What a debate produces whose debaters gave these answers. Raises `Boom`."""
    everybody = len(answers) + len(gaps)
    camps = {name: [k for k, v in answers.items() if v == value] for name, value in answers.items()}
    first = next(name for name in camps if len(camps[name]) == max(map(len, camps.values())))
    most = len(camps[first])
    doubt = f"{most} of {everybody} agree, {node.needed} must"

    def ruled(winner: str, by: str, reason: str, confidence: float, scores: Any = None) -> Any:
        camp = camps[winner]
        return {
            "winner": winner,
            "answer": answers[winner],
            "by": by,
            "reason": reason,
            "confidence": round(confidence, 6),
            "agreement": round(len(camp) / len(answers), 6),
            "supporters": camp,
            "dissent": [{"debater": k, "answer": v} for k, v in answers.items() if k not in camp],
            "scores": scores or {},
            "gaps": gaps,
        }

    if node.mode != "judge" and most >= node.needed:
        return ruled(first, node.mode, f"{most} of {everybody} agree", most / everybody)
    if node.judge is not None:
        try:
            case = {"task": task, "positions": dict(answers), "rubric": dict(node.rubric), "gaps": gaps}
            verdict = act(node.judge, case)
        except Boom as boom:
            doubt = f"{node.judge} failed: {boom}"
        else:
            if verdict["scores"]:
                totals = {
                    k: round(sum(w * v[c] for c, w in node.rubric.items()) / sum(node.rubric.values()), 6)
                    for k, v in verdict["scores"].items()
                }
                best = max((total, len(camps[name])) for name, total in totals.items())
                winner = next(k for k in answers if (totals[k], len(camps[k])) == best)
                sure = verdict["confidence"] * len(answers) / everybody
                return ruled(winner, "judge", verdict["reason"], sure, totals)
            doubt = f"{node.judge} gave {next(iter(answers))!r} no score for {', '.join(node.rubric)}"
    if node.undecided == "fail":
        raise Boom(doubt)
    return ruled(first, "plurality", f"{doubt}; most say what {first!r} says", most / everybody)


def digested(agent: str, value: Any) -> str:
    """What an agent goes by, as text."""
    if agent in ("planning", "reviewing"):
        value = {key: value[key] for key in TOLD}
    return json.dumps(value, sort_keys=True)
