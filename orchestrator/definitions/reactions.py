"""`on(...)`: which events start runs of a workflow. It stands in an app beside its workflows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from orchestrator.definitions.conditions import fault
from schemas.errors import DefinitionError, Fault
from schemas.subscriptions import Debounce, Subscription, Take
from schemas.workflows import Workflow

NAMES = ("event", "id", "key", "type")
"""What the texts of a subscription may use: `event` is the payload."""

WITH_STATE = (*NAMES, "state")
"""What a condition or an input may use: `state` is what the runs of the event's key share, by name."""

PATIENCE = 10.0
"""How many quiet periods a debounce lasts at most, where it does not say so."""


@dataclass(frozen=True)
class Reaction:
    """A subscription, and the workflow that it starts."""

    subscription: Subscription
    workflow: Workflow

    @property
    def name(self) -> str:
        return self.subscription.name


def on(
    type: str,
    *,
    start: Workflow,
    when: str | None = None,
    key: str | None = None,
    input: str | None = None,
    debounce: float | Debounce | None = None,
    throttle: float | None = None,
    take: Take | str = Take.LATEST,
    name: str | None = None,
    priority: int = 0,
    labels: Mapping[str, str] | None = None,
) -> Reaction:
    """Start a run of a workflow for every event of a type (or of all like `ticket.*`) for which `when` holds.

    `when`, `key` and `input` are CEL over `event` (the payload), `type`, `key` (that of the event) and `id`; `when` and
    `input` also over `state`: what `ctx.shared()` of the key holds when the event is looked at. The input of the run
    is what `input` gives, or the payload. `key` says what belongs together: `debounce` starts a run when no
    event of the key has come for so many seconds, `throttle` at most one in so many seconds, and `take` which of the
    events that were held back the run gets (with `all`, `events` is the list of their payloads). Raises
    `DefinitionError` with every fault at once.
    """
    what = f"on({type!r}, ...)"
    try:
        if isinstance(debounce, int | float):
            debounce = Debounce(quiet=debounce, longest=debounce * PATIENCE)
        made = Subscription(
            name=name or f"{start.name}.{type.replace('.*', '')}",
            type=type,
            start=start.name,
            when=when,
            key=key,
            input=input,
            debounce=debounce,
            throttle=throttle,
            take=take,  # type: ignore[arg-type]  # Pydantic says what is wrong with another text
            priority=priority,
            labels=dict(labels or {}),
        )
    except ValidationError as error:
        faults = [Fault(".".join(str(part) for part in e["loc"]), e["msg"]) for e in error.errors()]
        raise DefinitionError(what, faults) from None
    if faults := list(_faults(made)):
        raise DefinitionError(what, faults)
    return Reaction(made, start)


def _faults(made: Subscription) -> Iterator[Fault]:
    given = (*WITH_STATE, "events") if made.take is Take.ALL else WITH_STATE
    names = {"when": WITH_STATE, "key": NAMES, "input": given}
    for field, allowed in names.items():
        text = getattr(made, field)
        found = fault(text, allowed) if text is not None else None
        if found is not None:
            yield Fault(field, found)
    held = made.debounce is not None or made.throttle is not None
    if made.take is not Take.LATEST and not held:
        yield Fault("take", "it only means something with debounce or throttle")
    if made.debounce is not None and made.debounce.longest < made.debounce.quiet:
        yield Fault("debounce", "its longest time is shorter than the quiet one")
