"""What was set aside, for people to look at and to decide about."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from psycopg.rows import dict_row

from orchestrator.engine import Engine, Pointer
from orchestrator.messaging.canvas import pointer_of
from orchestrator.messaging.dispatch import Dispatcher
from orchestrator.store import dead_letter_queries as sql
from orchestrator.store import view_queries
from orchestrator.store.connect import Pool
from orchestrator.store.refusals import translated
from schemas.agents import agent_of, is_queue
from schemas.dead_letters import AttemptView, DeadLetter, DeadLetterView, Settled
from schemas.errors import Conflict, NotFound, Unavailable


class Parcel(NamedTuple):
    """A message that can be sent again."""

    task: str
    args: list[Any]
    kwargs: dict[str, Any]
    queue: str


class DeadLetters:
    """Lists, shows and settles dead letters."""

    def __init__(self, pool: Pool, engine: Engine, dispatcher: Dispatcher) -> None:
        self._pool = pool
        self._engine = engine
        self._dispatcher = dispatcher

    @translated()
    def list(self, *, all: bool = False, limit: int = 50) -> list[DeadLetter]:
        """Those that wait for a decision, the latest first; with `all` also those that are settled."""
        with self._pool.connection() as conn, conn.cursor(row_factory=dict_row) as cursor:
            rows = cursor.execute(sql.SELECT_LETTERS, {"all": all, "limit": limit}).fetchall()
        return [DeadLetter.model_validate(row) for row in rows]

    @translated()
    def steps(self) -> Sequence[int]:
        """The numbers of all steps that wait for a decision, the oldest first."""
        with self._pool.connection() as conn:
            return [letter for (letter,) in conn.execute(sql.SELECT_OPEN_STEPS).fetchall()]

    @translated()
    def show(self, letter: int) -> DeadLetterView:
        """One with its history. Raises `NotFound`."""
        with self._pool.connection() as conn, conn.cursor(row_factory=dict_row) as cursor:
            row = cursor.execute(sql.SELECT_LETTER, {"id": letter}).fetchone()
            if row is None:
                raise NotFound(f"there is no dead letter {letter}", next_step="baton dead ls")
            keys = {"run": row["run_id"], "path": row["path"]}
            attempts = cursor.execute(sql.SELECT_ATTEMPTS, keys).fetchall()
        history = tuple(AttemptView.model_validate(one) for one in attempts)
        return DeadLetterView(**row, attempts=history)

    @translated()
    def retry(self, letter: int) -> None:
        """Try a step once more, its losses forgotten, or send a message again.

        The run of a step goes on when no other step of it is set aside, unless it was paused by hand. Raises
        `NotFound`; `Conflict` for a letter that is settled and a message that nobody could run; and `Unavailable`.
        """
        found = self._open(letter)
        if isinstance(step := _step(found), Pointer):
            self._dispatcher.send(self._engine.retry_step(letter, step))
            return
        parcel = _parcel(found)
        self._expect_worker(parcel, letter)
        with self._engine.settling(letter, Settled.RETRIED):
            if not self._dispatcher.resend(*parcel):
                raise Unavailable(
                    "the broker cannot be reached; nothing was changed", next_step="baton doctor"
                )

    @translated()
    def drop(self, letter: int) -> None:
        """Give up a step, whose run goes on without it as its definition says, or forget a message.

        Raises `NotFound`, and `Conflict` for a letter that is settled.
        """
        step = _step(self._open(letter))
        if step is not None:
            self._dispatcher.send(self._engine.drop_step(letter, step))
            return
        with self._engine.settling(letter, Settled.DROPPED):
            pass

    def _open(self, letter: int) -> DeadLetterView:
        found = self.show(letter)
        if found.settled is not None:
            raise Conflict(
                f"dead letter {letter} was {found.settled} already", next_step=f"baton dead show {letter}"
            )
        return found

    def _expect_worker(self, parcel: Parcel, letter: int) -> None:
        with self._pool.connection() as conn:
            served = {queue for (queue,) in conn.execute(view_queries.SELECT_SERVED).fetchall()}
        if parcel.queue not in served:
            agent = agent_of(parcel.queue)
            raise Conflict(
                f"no worker serves {parcel.queue} now, so dead letter {letter} would only lie there",
                next_step=f"baton worker {agent}" if is_queue(parcel.queue) else "baton pools",
            )


def _step(letter: DeadLetter) -> Pointer | None:
    return None if letter.run_id is None or letter.path is None else Pointer(letter.run_id, letter.path)


def _parcel(letter: DeadLetterView) -> Parcel:
    """The message of a dead letter as it may be sent again. Raises `Conflict` for one that nobody could run."""
    match letter.message:
        case {"masked": str(what)}:
            raise Conflict(
                f"dead letter {letter.id} cannot be sent again: credentials are not kept in one ({what})",
                next_step=f"have its sender send it anew, then: baton dead drop {letter.id}",
            )
        case {"headers": {"task": str(task)}, "body": str(body)}:
            found = _arguments(body)
        case {"args": [*args], "kwargs": dict(kwargs)}:
            task, found = letter.queue, (args, kwargs)
        case _:
            task, found = "", None
    if found is None:
        fault = "it is no message of a task"
    elif is_queue(task) and pointer_of({"args": found[0]}) is None:
        fault = f"its arguments are not those of a step, so {task} could not run it"
    else:
        return Parcel(task, *found, task if is_queue(task) else letter.queue)
    raise Conflict(
        f"dead letter {letter.id} cannot be sent again: {fault}", next_step=f"baton dead drop {letter.id}"
    )


def _arguments(body: str) -> tuple[list[Any], dict[str, Any]] | None:
    """The arguments in the body of a Celery message; None if it is not one."""
    try:
        args, kwargs, _ = json.loads(body)
    except (ValueError, TypeError):
        return None
    return (args, kwargs) if isinstance(args, list) and isinstance(kwargs, dict) else None
