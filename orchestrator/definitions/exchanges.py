"""What the engine itself hands to planners, reviewers and judges, and makes of their answers, as JSON schemas."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from schemas.agents import JsonSchema
from schemas.debates import Case, Debated, Dissent
from schemas.fit import inline
from schemas.supervision import Brief, Supervised

STARTED: JsonSchema = {"type": "object", "properties": {"run": {"type": "string"}}, "required": ["run"]}
"""What a step produces that starts a run and does not wait for it."""


def brief(task: JsonSchema) -> JsonSchema:
    """What a planner and a reviewer receive."""
    return _filled(Brief, task=task)


def supervised(answer: JsonSchema) -> JsonSchema:
    """What a supervisor produces whose reviewer returns such an answer."""
    return _filled(Supervised, answer=answer)


def case(task: JsonSchema, answer: JsonSchema) -> JsonSchema:
    """What a judge receives."""
    return _filled(Case, task=task, positions={"type": "object", "additionalProperties": answer})


def debated(answer: JsonSchema) -> JsonSchema:
    """What a debate produces."""
    dissent = {"type": "array", "items": _filled(Dissent, answer=answer)}
    return _filled(Debated, answer=answer, dissent=dissent)


def bare(schema: Any) -> Any:
    """A schema without what only people read in it."""
    if isinstance(schema, list):
        return [bare(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    named = {key: {k: bare(v) for k, v in schema[key].items()} for key in ("properties",) if key in schema}
    told = ("title", "description", "examples")
    return {key: bare(value) for key, value in schema.items() if key not in told} | named


def _filled(model: type[BaseModel], **fields: JsonSchema) -> JsonSchema:
    schema = inline(model.model_json_schema(mode="serialization"))
    return schema | {"properties": schema["properties"] | fields}
