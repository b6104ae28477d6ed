"""What one event means to one subscription: pure functions of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple
from uuid import UUID

import jsonschema_rs

from orchestrator.definitions.conditions import ConditionError, holds, result, uses
from orchestrator.definitions.plan import Plan
from orchestrator.engine import Submission
from orchestrator.engine.json_texts import Unreadable, read
from orchestrator.identify import new_id
from orchestrator.intake.submitter import json_text, name_faults
from orchestrator.masking.masker import as_key, discreet
from schemas.errors import InputError
from schemas.subscriptions import MOST_HELD, Subscription, Take

State = Mapping[str, Any]
"""What the runs of a key share, by name; empty where nobody asks for it."""


class Arrival(NamedTuple):
    """An event as its row has it."""

    number: int
    tenant: str
    id: str
    type: str
    key: str | None
    payload: str

    @property
    def values(self) -> dict[str, Any]:
        """The names that a subscription's texts may use. Raises `Faulty`."""
        return {"event": self.event, "type": self.type, "key": self.key, "id": self.id}

    @property
    def event(self) -> Any:
        """The payload. Raises `Faulty` for one that Python cannot read."""
        try:
            return read(self.payload)
        except Unreadable as error:
            raise Faulty(str(error)) from None


class Faulty(Exception):
    """A subscription cannot deal with an event; the message says why, without a credential of the event."""

    def __init__(self, message: str) -> None:
        super().__init__(discreet(message))


@dataclass(frozen=True)
class Judge:
    """One version of a subscription, with the plan of the workflow that it starts."""

    version: int
    subscription: Subscription
    plan: Plan

    @property
    def name(self) -> str:
        return self.subscription.name

    @cached_property
    def asks_state(self) -> bool:
        """Whether it has to know what the runs of a key share."""
        texts = (self.subscription.when, self.subscription.input)
        return any(text is not None and uses(text, "state") for text in texts)

    def concerns(self, one: Arrival, state: State) -> bool:
        """Whether the condition holds. Raises `Faulty`."""
        text = self.subscription.when
        try:
            return text is None or holds(text, {**one.values, "state": state})
        except ConditionError as error:
            raise Faulty(str(error)) from None

    def key(self, one: Arrival) -> str | None:
        """What the event belongs to: what `key` gives, or the event's own key. Raises `Faulty`."""
        text = self.subscription.key
        if text is None:
            return one.key
        try:
            found = result(text, one.values)
        except ConditionError as error:
            raise Faulty(str(error)) from None
        if isinstance(found, bool) or not isinstance(found, str | int):
            raise Faulty(
                f"the key {text!r} gave a {type(found).__name__} instead of a text or a whole number"
            )
        key = as_key(str(found))
        for wrong in name_faults("key", key):
            raise Faulty(str(wrong))
        return key

    def chosen(self, held: Sequence[Arrival]) -> Sequence[Arrival]:
        """Those of the events that were held back that a run is started with."""
        match self.subscription.take:
            case Take.FIRST:
                return held[:1]
            case Take.LATEST:
                return held[-1:]
            case Take.ALL:
                return held[-MOST_HELD:]

    def submission(self, events: Sequence[Arrival], key: str | None, state: State) -> Submission:
        """The run that these events start. Raises `Faulty` if its input would not fit the workflow."""
        last, said = events[-1], self.subscription
        ours = {"subscription": said.name, "event": last.id} | ({"key": key} if key is not None else {})
        return Submission(
            new_id(),
            self._input(events, state),
            tenant=last.tenant,
            priority=said.priority,
            labels={**ours, **said.labels},
            idempotency_key=f"event {events[0].number} {said.name}",
        )

    def _input(self, events: Sequence[Arrival], state: State) -> str:
        values, said = {**events[-1].values, "state": state}, self.subscription
        gathered = [one.event for one in events]
        try:
            if said.input is not None:
                given = result(said.input, {**values, "events": gathered})
            else:
                given = gathered if said.take is Take.ALL else values["event"]
            return json_text(f"the input of {said.start}", "", self._validator, given)
        except (ConditionError, InputError) as error:
            raise Faulty(str(error)) from None

    @cached_property
    def _validator(self) -> jsonschema_rs.Draft202012Validator:
        return jsonschema_rs.Draft202012Validator(self.plan.input_schema, mask="it")


class Judgement(NamedTuple):
    """What became of one event."""

    state: str
    key: str | None = None
    run_id: UUID | None = None
    reason: str | None = None
