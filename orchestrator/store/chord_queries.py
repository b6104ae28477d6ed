"""Counting a chord's headers so that its body fires once, without a row they all have to lock.

Each finished header inserts a row of its own, in the transaction that stores its result. Whoever completes
the chord must notice it, and exactly one may:

1. After its insert, still inside the transaction, a header *tries* an exclusive advisory lock on the chord.
   If it gets the lock, it counts in a fresh snapshot and, if all parts are there, marks the chord as fired:
   result, count and readiness commit together (`claim_inside`).
2. If somebody else holds the lock, it does not queue up. It commits and then takes the lock *shared*, which
   waits only until that holder has committed, and counts again (`claim_after`).

Why nobody is missed: take the header that commits last. If it was refused the lock, it counts after its
commit and sees every part. If it held the lock, then every header it could not see was refused by it and
waits for its commit before counting. Of several who see a full chord, the row lock of `CLAIM_CHORD` lets
one through, because the others then find `fired_at` set. The isolation level must be READ COMMITTED.
"""

from __future__ import annotations

from typing import LiteralString, NamedTuple

from orchestrator.store.connect import Conn


class Header(NamedTuple):
    """One finished header: which chord it belongs to, which place it has, and what it returned."""

    chord_id: str
    task_id: str
    group_index: int
    succeeded: bool
    payload: bytes


class PartRow(NamedTuple):
    """A stored part, as the body's publisher reads it."""

    task_id: str
    succeeded: bool
    payload: bytes


OPEN_CHORD: LiteralString = """
    WITH gone AS (
        DELETE FROM chord_parts p USING chords c
         WHERE p.chord_id = %(id)s AND c.id = %(id)s AND c.done_at IS NOT NULL)
    INSERT INTO chords AS c (id, header) VALUES (%(id)s, %(header)s)
    ON CONFLICT (id) DO UPDATE
       SET size = NULL, added = 0, header = excluded.header,
           opened_at = now(), fired_at = NULL, done_at = NULL
     WHERE c.done_at IS NOT NULL
"""


def open_chord(conn: Conn, chord_id: str, header: bytes | None) -> None:
    """Start a chord; one that is already under way goes on, one that is done starts anew."""
    conn.execute(OPEN_CHORD, {"id": chord_id, "header": header})


SIZE_CHORD: LiteralString = """
    INSERT INTO chords AS c (id, size) VALUES (%s, %s)
    ON CONFLICT (id) DO UPDATE
       SET size = excluded.size,
           added = CASE WHEN c.done_at IS NULL THEN c.added ELSE 0 END,
           fired_at = CASE WHEN c.done_at IS NULL THEN c.fired_at END,
           done_at = NULL
"""


def size_chord(conn: Conn, chord_id: str, size: int) -> None:
    """Say how many headers a chord has; for a chord that is done this starts a new round."""
    conn.execute(SIZE_CHORD, (chord_id, size))


ADD_TO_CHORD: LiteralString = "UPDATE chords SET added = added + 1 WHERE id = %s"


def add_to_chord(conn: Conn, chord_id: str) -> None:
    """Let a chord wait for one more header."""
    conn.execute(ADD_TO_CHORD, (chord_id,))


COUNT_PART: LiteralString = """
    INSERT INTO chord_parts (chord_id, task_id, group_index, succeeded, payload)
    SELECT %(chord_id)s::text, %(task_id)s::text, %(group_index)s::int,
           %(succeeded)s::bool, %(payload)s::bytea
     WHERE NOT EXISTS (SELECT FROM chords WHERE id = %(chord_id)s AND done_at IS NOT NULL)
    ON CONFLICT DO NOTHING
"""


def count_part(conn: Conn, part: Header) -> bool:
    """Count a header; False if it was counted before, or its chord is done."""
    return conn.execute(COUNT_PART, part._asdict()).rowcount == 1


TRY_LOCK: LiteralString = "SELECT pg_try_advisory_xact_lock(hashtextextended('chord ' || %s, 0))"
LOCK_SHARED: LiteralString = "SELECT pg_advisory_xact_lock_shared(hashtextextended('chord ' || %s, 0))"
CLAIM_CHORD: LiteralString = """
    UPDATE chords SET fired_at = now()
     WHERE id = %(id)s AND fired_at IS NULL
       AND (SELECT count(*) FROM chord_parts WHERE chord_id = %(id)s) >= size + added
"""


def claim_inside(conn: Conn, chord_id: str) -> bool | None:
    """Within the transaction that counted a part: may the caller fire the body once it has committed?

    None: somebody else is counting just now, so ask `claim_after` after the commit.
    """
    row = conn.execute(TRY_LOCK, (chord_id,)).fetchone()
    if not row or not row[0]:
        return None
    return _claim(conn, chord_id)


def claim_after(conn: Conn, chord_id: str) -> bool:
    """After the commit of a transaction that was refused the lock: may the caller fire the body?"""
    with conn.transaction():
        conn.execute(LOCK_SHARED, (chord_id,))
        return _claim(conn, chord_id)


def _claim(conn: Conn, chord_id: str) -> bool:
    return conn.execute(CLAIM_CHORD, {"id": chord_id}).rowcount == 1


RECLAIM_CHORD: LiteralString = """
    WITH taken AS (
        UPDATE chords SET fired_at = clock_timestamp()
         WHERE id = %(id)s AND done_at IS NULL
           AND fired_at < clock_timestamp() - make_interval(secs => %(lease)s)
        RETURNING true)
    SELECT EXISTS (SELECT FROM taken),
           EXISTS (SELECT FROM chords WHERE id = %(id)s AND fired_at IS NOT NULL AND done_at IS NULL)
"""


def reclaim_chord(conn: Conn, chord_id: str, lease: float) -> bool | None:
    """Take over a chord that was fired more than `lease` seconds ago and is still not done.

    None: it was fired more recently, so its publisher may be at work. False: there is nothing to take over.
    """
    row = conn.execute(RECLAIM_CHORD, {"id": chord_id, "lease": lease}).fetchone()
    taken, firing = row if row else (False, False)
    return True if taken else (None if firing else False)


FETCH_PARTS: LiteralString = """
    SELECT task_id, succeeded, payload FROM chord_parts
     WHERE chord_id = %s ORDER BY group_index, stored_at, task_id
"""


def fetch_parts(conn: Conn, chord_id: str) -> list[PartRow]:
    """Return the parts of a chord in the order of its header."""
    return [PartRow(*row) for row in conn.execute(FETCH_PARTS, (chord_id,)).fetchall()]


FETCH_HEADER: LiteralString = "SELECT header FROM chords WHERE id = %s"


def fetch_header(conn: Conn, chord_id: str) -> bytes | None:
    """Return the nested shape of a chord's header, or None if it is flat."""
    row = conn.execute(FETCH_HEADER, (chord_id,)).fetchone()
    return row[0] if row else None


CLOSE_CHORD: LiteralString = """
    WITH gone AS (DELETE FROM chord_parts WHERE chord_id = %(id)s)
    UPDATE chords SET done_at = now(), header = NULL WHERE id = %(id)s AND fired_at IS NOT NULL
"""


def close_chord(conn: Conn, chord_id: str) -> None:
    """Note that the body is on its way (or has failed): late duplicates of headers count no more."""
    conn.execute(CLOSE_CHORD, {"id": chord_id})
