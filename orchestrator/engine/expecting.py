"""A step that waits for an event: what it is for, and whether an event is the one."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import jsonschema_rs

from orchestrator.definitions.conditions import ConditionError, holds, result
from orchestrator.engine.moves import Moves, Place
from orchestrator.masking.masker import as_key
from schemas.waits import Asking, Expiry, WaitKind
from schemas.workflows import WaitFor

LONGEST_KEY = 1_000
"""Bytes of a key: no event has a longer one."""


class Misfit(Exception):
    """An event cannot be the one that a step waits for; the message says why."""


def entered(moves: Moves, place: Place, node: WaitFor, ref: str, delay: float | None) -> None:
    """Wait. Raises `ConditionError` where the key cannot be told."""
    if delay:
        again = Expiry(decision="begun", state="open", reason="its time has come")
        moves.wait(place, Asking(kind=WaitKind.DELAY, key=node.type, expires=delay, expiry=again))
        return
    about = _key(node, moves.value(place.run, ref)) if node.key is not None else None
    key = node.type if about is None else f"{node.type} {about}"
    moves.wait(
        place,
        Asking(
            kind=WaitKind.EVENT,
            key=key,
            expires=node.within,
            expiry=_expiry(node, key) if node.within is not None else None,
        ),
    )


def is_meant(node: WaitFor, given: Any, payload: Any) -> bool:
    """Whether an event of the right type and key is the one. Raises `Misfit` where that cannot be told."""
    try:
        if node.when is not None and not holds(node.when, {"event": payload, "input": given}):
            return False
    except ConditionError as error:
        raise Misfit(str(error)) from None
    for fault in _validator(json.dumps(node.output)).iter_errors(payload):
        raise Misfit(f"it does not fit: {fault.message:.500}")
    return True


def _key(node: WaitFor, given: Any) -> str:
    text = node.key or ""
    found = result(text, {"input": given})
    if isinstance(found, bool) or not isinstance(found, str | int) or found == "":
        raise ConditionError(f"the key {text!r} gave {_kind(found)} instead of a text or a whole number")
    if len(str(found).encode()) > LONGEST_KEY or "\0" in str(found):
        raise ConditionError(f"the key {text!r} gave a text that no event's key can be")
    return as_key(str(found))


def _kind(found: Any) -> str:
    """What it is instead of what it holds, which is the input's."""
    return "an empty text" if found == "" else f"a {type(found).__name__}"


def _expiry(node: WaitFor, key: str) -> Expiry:
    reason = f"no event {key} has come within {node.within or 0:g} s"
    if not node.has_default:
        return Expiry(decision="expired", state="failed", reason=reason)
    return Expiry(decision="expired", state="done", reason=reason, output=node.default, gives_output=True)


@lru_cache(maxsize=1_000)
def _validator(schema: str) -> Any:
    return jsonschema_rs.validator_for(schema, mask="it")
