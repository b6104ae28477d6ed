"""A person's look at what comes by: whether it is needed, what is asked, what becomes of it when nobody answers."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from orchestrator.definitions.conditions import ConditionError, number, result
from orchestrator.engine.moves import Moves, Place
from schemas.events import EventKind
from schemas.waits import Asking, Expiry, WaitKind
from schemas.workflows import RISKS, Approve

SHOWN = 8_000
"""Characters of a payload that stand in an audit event themselves; of a longer one there is its digest."""


@dataclass(frozen=True)
class Judgement:
    """Whether somebody has to look, and why."""

    risk: str
    asks: bool
    reason: str
    confidence: float | None = None


def entered(moves: Moves, place: Place, node: Approve, ref: str, delay: float | None) -> None:
    """Ask, or go on where nobody needs to be asked."""
    if delay:
        again = Expiry(decision="begun", state="open", reason="its time has come")
        moves.wait(place, Asking(kind=WaitKind.DELAY, key=node.name, expires=delay, expiry=again))
        return
    value = moves.value(place.run, ref)
    judgement = judged(node, value)
    about = {"risk": judgement.risk, "confidence": judgement.confidence, "reason": judgement.reason}
    told = {key: one for key, one in about.items() if one is not None} | shown(value)
    if judgement.asks:
        moves.wait(place, _asking(node, told))
    else:
        moves.note(
            place, EventKind.STEP_DECIDED, {"verb": "was", "choice": "approved", "by": "policy", **told}
        )
        if judgement.risk == "medium":
            without = {key: one for key, one in told.items() if key != "shown"}
            moves.tell(place, "approval.informed", {"name": node.name, "message": node.message, **without})
        moves.close(place, ref)


def judged(node: Approve, value: Any) -> Judgement:
    """What the policy says of this input. What it cannot tell is for people to say."""
    risk, why = _risk(node.risk, value)
    if risk != "high":
        return Judgement(risk, False, why)
    if node.confidence is None or node.threshold is None:
        return Judgement(risk, True, why)
    try:
        sure = number(node.confidence, {"input": value})
    except ConditionError as error:
        return Judgement(risk, True, f"{why}; {error}")
    if sure >= node.threshold:
        return Judgement(risk, False, f"confidence {sure:g} is at least {node.threshold:g}", sure)
    return Judgement(risk, True, f"{why}; confidence {sure:g} is less than {node.threshold:g}", sure)


def shown(value: Any) -> dict[str, Any]:
    """What a person is shown, for the record: its digest, and itself unless it is long."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    digest = {"digest": f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"}
    return digest | ({"shown": value} if len(text) <= SHOWN else {})


def _risk(risk: str, value: Any) -> tuple[str, str]:
    if risk in RISKS:
        return risk, f"the risk is {risk}"
    try:
        found = result(risk, {"input": value})
    except ConditionError as error:
        return "high", str(error)
    level = {True: "high", False: "low"}[found] if isinstance(found, bool) else found
    if level not in RISKS:
        return "high", f"{risk!r} gave {found!r:.100}, which is no risk"
    return level, f"the risk is {level}: {risk}"


def _asking(node: Approve, told: dict[str, Any]) -> Asking:
    decision = {"approve": "approved", "reject": "rejected"}[node.default]
    reason = f"{node.name!r} was {decision} because nobody had decided after {node.expires or 0:g} s"
    state = "done" if node.default == "approve" else "failed"
    expiry = Expiry.model_validate({"decision": decision, "state": state, "reason": reason})
    return Asking(
        kind=WaitKind.APPROVAL,
        key=node.name,
        request={"message": node.message, **{key: one for key, one in told.items() if key != "shown"}},
        told={"message": node.message, **told},
        audience=node.approvers,
        escalate_to=node.escalate_to,
        escalate_after=node.escalate_after,
        expires=node.expires,
        expiry=expiry if node.expires is not None else None,
    )
