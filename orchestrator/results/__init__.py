"""A Celery result backend on Postgres that joins chords natively; any Celery program may use it.

    app = Celery(backend="orchestrator.results:Backend+postgresql://user:password@host/database")

Rooms, each standing on the one before: `records` (results and groups), `waiting` (get without a busy poll),
`chords` (joins), `failures` (what Celery leaves hanging), `backend` (the whole).
"""

from orchestrator.results.backend import Backend

__all__ = ["Backend"]
