"""The definitions that a process has met, compiled once each."""

from __future__ import annotations

from typing import Any

from orchestrator.definitions.compile import compile_workflow
from orchestrator.definitions.plan import Plan
from orchestrator.store import definition_queries as sql
from orchestrator.store.connect import AnyConn, Pool
from schemas.errors import NotFound
from schemas.workflows import Workflow


class Plans:
    """Compiled definitions by id; a run keeps the one it started with, so an entry never changes."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._known: dict[str, Plan] = {}
        self._saved: set[str] = set()

    def load(self, definition_id: str, conn: AnyConn) -> Plan:
        """The plan of a stored definition. Raises `NotFound`."""
        plan = self._known.get(definition_id)
        if plan is None:
            row = conn.execute(sql.SELECT_DEFINITION, {"id": definition_id}).fetchone()
            if row is None:
                raise NotFound(f"there is no definition {definition_id}")
            plan = self._known[definition_id] = compile_workflow(Workflow.model_validate_json(row[0]))
        return plan

    def by_name(self, name: str) -> Plan:
        """The plan of the newest stored definition of that name. Raises `NotFound`."""
        row = None
        if name.isprintable():  # Postgres has no text for the others
            with self._pool.connection() as conn:
                row = conn.execute(sql.SELECT_DEFINITION_BY_NAME, {"name": name}).fetchone()
        if row is None:
            raise NotFound(f"there is no workflow {name!r} in the database", next_step="baton workflows ls")
        definition, body = row
        if definition not in self._known:
            self._known[definition] = compile_workflow(Workflow.model_validate_json(body))
        return self._known[definition]

    def all(self) -> list[Workflow]:
        """The newest stored definition of every name."""
        with self._pool.connection() as conn:
            rows = conn.execute(sql.SELECT_DEFINITIONS).fetchall()
        return [Workflow.model_validate_json(body) for (body,) in rows]

    def versions(self, name: str) -> dict[str, Workflow]:
        """Every stored definition of a name by its id, the newest first."""
        with self._pool.connection() as conn:
            rows = conn.execute(sql.SELECT_VERSIONS, {"name": name}).fetchall()
        return {definition: Workflow.model_validate_json(body) for definition, body in rows}

    def put(self, plan: Plan, conn: AnyConn) -> None:
        """Store a definition as part of a transaction that holds it."""
        conn.execute(sql.INSERT_DEFINITION, _columns(plan))

    def forget(self, definition_id: str) -> None:
        """This definition is no longer stored, although this process has stored it."""
        self._saved.discard(definition_id)

    def save(self, plan: Plan, *, newest: bool = False) -> None:
        """Store a definition, once per process, after those of its child runs.

        `newest` makes it the one that its name stands for.
        """
        if plan.id in self._saved and not newest:
            return
        for node in plan.nodes.values():
            if node.child is not None:
                self.save(node.child)
        with self._pool.connection() as conn:
            self.put(plan, conn)
            if newest:
                conn.execute(sql.TOUCH_DEFINITION, {"id": plan.id})
        self._known[plan.id] = plan
        self._saved.add(plan.id)


def _columns(plan: Plan) -> dict[str, Any]:
    definition = plan.workflow
    return {
        "id": plan.id,
        "name": definition.name,
        "version": definition.version,
        "body": definition.model_dump_json(),
    }
