"""Tables of the Celery result backend.

    results        one row per task id: its latest state. SUCCESS is final.
    result_groups  a saved `GroupResult`: which tasks belong to a group.
    chords         one row per chord: how many headers it waits for, and how far it came:

                   open ──(all parts there)──▶ fired ──(body published)──▶ done

    chord_parts    one row per finished header of a chord that is not done. There is no foreign key to
                   `chords`: checking one would make every header of a fan-in lock the same row.

Payloads are bytes in Celery's result serializer, compressed if the application asks for it.
"""

from __future__ import annotations

from sqlalchemy import Boolean, CheckConstraint, Column, DateTime, Integer, LargeBinary, Table, Text, text

from orchestrator.store.metadata import metadata


def _moment(name: str) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=False, server_default=text("now()"))


results = Table(
    "results",
    metadata,
    Column("id", Text, primary_key=True),
    Column("status", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    _moment("stored_at"),
    CheckConstraint("id <> ''", name="id_given"),
    CheckConstraint("status <> ''", name="status_given"),
)

result_groups = Table(
    "result_groups",
    metadata,
    Column("id", Text, primary_key=True),
    Column("payload", LargeBinary, nullable=False),
    _moment("stored_at"),
    CheckConstraint("id <> ''", name="id_given"),
)

chords = Table(
    "chords",
    metadata,
    Column("id", Text, primary_key=True),
    # Unknown until the last header is about to be published.
    Column("size", Integer),
    Column("added", Integer, nullable=False, server_default=text("0")),
    # The nested shape of the header, only where it is not a flat list.
    Column("header", LargeBinary),
    _moment("opened_at"),
    Column("fired_at", DateTime(timezone=True)),
    Column("done_at", DateTime(timezone=True)),
    CheckConstraint("id <> ''", name="id_given"),
    CheckConstraint("size >= 0 AND added >= 0", name="size_counts"),
    CheckConstraint("done_at IS NULL OR fired_at IS NOT NULL", name="done_was_fired"),
    CheckConstraint("fired_at IS NULL OR size IS NOT NULL", name="fired_was_sized"),
)

chord_parts = Table(
    "chord_parts",
    metadata,
    Column("chord_id", Text, primary_key=True),
    Column("task_id", Text, primary_key=True),
    Column("group_index", Integer, primary_key=True, autoincrement=False),
    Column("succeeded", Boolean, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    _moment("stored_at"),
    CheckConstraint("chord_id <> '' AND task_id <> ''", name="ids_given"),
    CheckConstraint("group_index >= 0", name="index_counts"),
)

RESULT_TABLES = (results, result_groups, chords, chord_parts)
