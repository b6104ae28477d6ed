"""Takes in what is to be forked: checks the new input, has the engine make the run, and the dispatcher send it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import jsonschema_rs

from orchestrator.engine import Engine
from orchestrator.identify import new_id
from orchestrator.intake.submitter import json_text
from orchestrator.messaging.dispatch import Dispatcher
from orchestrator.store.refusals import translated
from schemas.agents import JsonSchema

AS_IT_WAS: Any = object()
"""Stands for no new input, which None is not: that is JSON's null."""


class Forker:
    """Makes runs out of runs; safe from many threads."""

    def __init__(self, engine: Engine, dispatcher: Dispatcher) -> None:
        self._engine = engine
        self._dispatcher = dispatcher

    def fork(self, origin: UUID, step: str, value: Any = AS_IT_WAS) -> UUID:
        """Make a new run that goes its own way from a step of another; see `Client.fork`."""
        new = new_id()
        given = None if value is AS_IT_WAS else self._checked(origin, step, value)
        with translated():
            ready = self._engine.fork(origin, step, new, given)
        self._dispatcher.send(ready)
        return new

    def input_schema(self, run_id: UUID, step: str) -> JsonSchema:
        """What a step of a run takes. Raises `NotFound`."""
        with translated():
            return self._engine.plan_of(run_id, step).input_schema_at(step)

    def _checked(self, run_id: UUID, step: str, value: Any) -> str:
        validator = jsonschema_rs.Draft202012Validator(self.input_schema(run_id, step))
        return json_text(f"step {step!r}", f"baton runs show {run_id}", validator, value)
