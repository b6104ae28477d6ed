"""Reads what the branches of a fan-out produced, as the text that the next agent is given."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from orchestrator.definitions.plan import Plan
from orchestrator.definitions.produced import Shape
from orchestrator.engine.json_texts import Unreadable, read, write
from orchestrator.store import attempt_queries as sql
from orchestrator.store.connect import AnyConn
from schemas.workflows import FanOut

_TYPES = {dict: "object", str: "string", int: "number", float: "number", bool: "boolean"}
_STATES = {"failed": "failed", "skipped": "skipped", "cancelled": "cancelled"}


@dataclass(frozen=True)
class Results:
    """The branches of one fan-out in order: outputs as JSON texts, None for a gap."""

    names: tuple[str, ...]
    values: tuple[str | None, ...]
    gaps: tuple[dict[str, str], ...]

    @property
    def outputs(self) -> list[str]:
        """Only those that succeeded."""
        return [value for value in self.values if value is not None]

    def text(self, shape: Shape) -> str:
        """The results as JSON text of that shape."""
        gaps = json.dumps(self.gaps)
        if shape is Shape.LIST:
            return f"[{','.join(self.outputs)}]"
        if shape is Shape.GATHERED:
            return f'{{"results":[{",".join(self.outputs)}],"gaps":{gaps}}}'
        fields = [
            f"{json.dumps(name)}:{'null' if value is None else value}"
            for name, value in zip(self.names, self.values, strict=True)
        ]
        if shape is Shape.NAMED_WITH_GAPS:
            fields.append(f'"gaps":{gaps}')
        return f"{{{','.join(fields)}}}"


def read_results(conn: AnyConn, run_id: UUID, plan: Plan, path: str) -> Results:
    """What the branches of the fan-out at `path` produced."""
    names, values, gaps = [], [], []
    for child, state, error, output, output_ref in conn.execute(
        sql.SELECT_RESULTS, {"run": run_id, "parent": path}
    ).fetchall():
        name = child.rpartition("/")[2]
        if state == "done" and output is None:
            output = resolve_all(conn, run_id, plan, output_ref)
        if state != "done":
            gaps.append(gap_of(name, state, json.loads(error) if error else {}))
        names.append(name)
        values.append(output if state == "done" else None)
    return Results(tuple(names), tuple(values), tuple(gaps))


def listed_results(
    conn: AnyConn, run_id: UUID, plan: Plan, path: str, field: str | None
) -> tuple[str, list[str]]:
    """What an `each` finds in the results of the fan-out at `path`: its JSON type, and texts of a list's items.

    Without `field` that is the results themselves, with it what that field of their natural shape holds; a gap there
    is an empty list.
    """
    if field is None:
        return "array", read_results(conn, run_id, plan, path).outputs
    try:
        found = read(resolve_all(conn, run_id, plan, f"all:{path}")).get(field)
        items = [write(item) for item in found] if isinstance(found, list) else []
    except Unreadable:
        return "unreadable", []
    return _TYPES.get(type(found), "array"), items


def resolve_all(conn: AnyConn, run_id: UUID, plan: Plan, ref: str, shape: Shape | None = None) -> str:
    """The text behind an `all:PATH` reference, in `shape` or in the natural one of its node."""
    path = ref.removeprefix("all:")
    if shape is None:
        shape = Shape.NAMED_WITH_GAPS if isinstance(plan.at(path).node, FanOut) else Shape.GATHERED
    return read_results(conn, run_id, plan, path).text(shape)


def gap_of(name: str, state: str, error: Mapping[str, Any]) -> dict[str, str]:
    """What is said of a branch that gave no result; `error` has the fields of an `ErrorInfo`, or is empty."""
    late = error.get("type") == "Late"
    return {
        "branch": name,
        "state": "late" if late else _STATES.get(state, "skipped"),
        "reason": error.get("message", state),
    }
