"""What a forked run remembers: the state of the other run as the steps had written it that it begins with."""

from __future__ import annotations

import json
from collections.abc import Collection
from uuid import UUID

from orchestrator.merging import merged
from orchestrator.store import state_queries as sql
from orchestrator.store.connect import Conn
from schemas.state import Merge


def inherit(conn: Conn, origin: UUID, new: UUID, kept: Collection[str]) -> None:
    """Write again, in their order, what these steps of the other run have written to its state."""
    keys = {"origin": origin, "run": new, "paths": list(kept)}
    values: dict[str, tuple[object, int]] = {}
    writes = sorted(conn.execute(sql.COPY_WRITES, keys).fetchall(), key=lambda row: (row[0], row[1]))
    for name, version, verb, given in writes:
        old, _ = values.get(name, (None, 0))
        how = Merge.REPLACE if verb == "set" else Merge(verb)
        values[name] = merged(how, old, json.loads(given)), version
    if values:
        columns = {
            "names": list(values),
            "values": [json.dumps(value) for value, _ in values.values()],
            "versions": [version for _, version in values.values()],
        }
        conn.execute(sql.INSERT_STATES, {"run": new, **columns})
