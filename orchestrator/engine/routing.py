"""A router: rules first, an agent for what they leave open, a fallback for the rest. Each decision is an event."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from pydantic import ValidationError

from orchestrator.definitions.conditions import ConditionError, holds
from orchestrator.engine.moves import EndedPart, Moves, Place
from schemas.events import EventKind
from schemas.outcomes import Choice
from schemas.workflows import Leaf, Route, Rule

NO_RULE = "no rule holds"


@dataclass(frozen=True)
class Decision:
    """Which way an input goes, and why."""

    choice: str
    by: str
    """`rule`, `agent` or `fallback`."""
    reason: str
    rule: str | None = None
    confidence: float | None = None
    alternatives: dict[str, float] = field(default_factory=dict)
    features: dict[str, Any] = field(default_factory=dict)
    """For rules: which were looked at, and what each found; for an agent: what it says that it went by."""


def entered(moves: Moves, place: Place, node: Route, ref: str, delay: float | None) -> None:
    """Decide by the rules, or ask the agent."""
    decision = by_rules(node, moves.value(place.run, ref))
    if decision is not None:
        _go(moves, place, node, decision, ref, delay)
    elif node.by is not None:
        moves.open_part(place, "by", Leaf(agent=node.by), ref, ordinal=-1, delay=delay)
    else:
        _go(moves, place, node, by_default(node, NO_RULE), ref, delay)


def part_ended(moves: Moves, place: Place, node: Route, part: EndedPart) -> None:
    """The agent that was asked has answered, or the chosen way has ended."""
    if part.segment != "by":
        moves.close(place, part.output_ref, part.error)
        return
    answer = moves.value(place.run, part.output_ref) if part.output_ref is not None else None
    decision = by_answer(node, answer) if part.output_ref is not None else by_failure(node, part.error)
    _go(moves, place, node, decision, moves.input_ref(place), None)


def by_rules(node: Route, value: Any) -> Decision | None:
    """The decision of the first rule that holds for this input; None if none does."""
    looked_at: dict[str, Any] = {}
    for rule in node.rules:
        found = _found(rule, value)
        looked_at[rule.name] = found
        if found and not isinstance(found, str):
            reason = f"rule {rule.name!r} holds"
            return Decision(rule.go, "rule", reason, rule=rule.name, confidence=1.0, features=looked_at)
    return None


def by_answer(node: Route, answer: Any) -> Decision:
    """The decision that follows from what the agent answered."""
    try:
        chosen = Choice.model_validate(answer)
    except ValidationError as error:
        return by_default(node, f"{node.by} gave no choice: {error.errors()[0]['msg']}")
    told: dict[str, Any] = {"confidence": chosen.confidence, "features": chosen.features}
    rivals = chosen.alternatives | {chosen.choice: chosen.confidence}
    if chosen.choice not in node.choices:
        return by_default(
            node, f"{node.by} chose {chosen.choice!r}, which is no way", **told, alternatives=rivals
        )
    if chosen.confidence < node.threshold:
        reason = f"{node.by} chose {chosen.choice!r} with {chosen.confidence:g}, less than {node.threshold:g}"
        return by_default(node, reason, **told, alternatives=rivals)
    return Decision(
        chosen.choice,
        "agent",
        chosen.reason or f"{node.by} chose it",
        alternatives=chosen.alternatives,
        **told,
    )


def by_failure(node: Route, error: str | None) -> Decision:
    """The decision when the agent gave no answer; `error` is the JSON text of why."""
    cause = json.loads(error)["message"] if error else "no reason given"
    return by_default(node, f"{node.by} failed: {cause}")


def by_default(node: Route, reason: str, **told: Any) -> Decision:
    """The decision that nobody took."""
    return Decision(node.fallback, "fallback", reason, **told)


def _go(moves: Moves, place: Place, node: Route, decision: Decision, ref: str, delay: float | None) -> None:
    told = {key: value for key, value in asdict(decision).items() if value not in (None, {})}
    moves.note(place, EventKind.STEP_DECIDED, told)
    moves.open_part(place, decision.choice, node.choices[decision.choice], ref, delay=delay)


def _found(rule: Rule, value: Any) -> bool | list[str] | str:
    """Whether a rule holds: the words it found, or, as a text, why it could not be told."""
    if rule.when is not None:
        try:
            return holds(rule.when, {"input": value})
        except ConditionError as error:
            return str(error)
    within = value.get(rule.field) if rule.field is not None and isinstance(value, dict) else value
    text = " ".join(_texts(within)).casefold()
    return [word for word in rule.keywords if re.search(rf"(?<!\w){re.escape(word.casefold())}(?!\w)", text)]


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for item in value.values():
                yield from _texts(item)
        case list():
            for item in value:
                yield from _texts(item)
