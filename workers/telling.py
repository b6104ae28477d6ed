"""What agents say while they work, on its way into the events of their runs.

A thread of each process gathers it for a moment, and writes what all its attempts have said in one transaction: so
many of those a second as pauses fit into it, however many tokens there are, and however many models speak.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol
from uuid import UUID

import psycopg

from orchestrator.engine.deltas import Delta
from orchestrator.engine.patience import passes
from workers.attempts import Attempt
from workers.guards.speech import Discretion, Said

log = logging.getLogger(__name__)

GATHER = 0.15
"""Seconds for which it is gathered."""
PAUSE = 0.02
"""Seconds between two tries to write what somebody waits for."""
LONGEST = 4_000
"""Characters of one event."""
SAYS = 200_000
"""Characters that one attempt may say."""
TRIES = 20
"""How often it is tried to write what an attempt says, of which the row may be held by somebody else."""


class Writer(Protocol):
    """Whoever writes it: the engine."""

    def write_deltas(self, deltas: Sequence[Delta]) -> set[tuple[UUID, str, int]]: ...


class _Piece(NamedTuple):
    about: Mapping[str, Any]
    text: str


@dataclass
class _Voice:
    """What one attempt has said and is not written yet."""

    pieces: list[_Piece] = field(default_factory=list)
    tries: int = 0
    awaited: list[Future[None]] = field(default_factory=list)


class Telling:
    """Safe from many threads. The thread begins with the first word."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._changed = threading.Condition()
        self._voices: dict[Attempt, _Voice] = {}
        self._thread: threading.Thread | None = None

    def tell(self, attempt: Attempt, about: Mapping[str, Any], text: str) -> None:
        """Say this soon; it is joined to what was said before, if that is `about` the same."""
        with self._changed:
            pieces = self._voices.setdefault(attempt, _Voice()).pieces
            if pieces and pieces[-1].about == about and len(pieces[-1].text) + len(text) <= LONGEST:
                pieces[-1] = _Piece(about, pieces[-1].text + text)
            else:
                pieces += [_Piece(about, text[at : at + LONGEST]) for at in range(0, len(text), LONGEST)]
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="telling", daemon=True)
                self._thread.start()
            self._changed.notify()

    def told(self, attempt: Attempt) -> Future[None]:
        """Done when all that this attempt has said is written, or nobody wants to hear it any more."""
        done: Future[None] = Future()
        with self._changed:
            voice = self._voices.get(attempt)
            if voice is None:
                done.set_result(None)
            else:
                voice.awaited.append(done)
                self._changed.notify()
        return done

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._voices)
                self._changed.wait_for(self._is_awaited, GATHER)
                batch = {attempt: voice.pieces for attempt, voice in self._voices.items()}
                for voice in self._voices.values():
                    voice.pieces = []
            if not self._settle(batch, self._written(batch)):
                time.sleep(PAUSE)

    def _is_awaited(self) -> bool:
        return any(voice.awaited for voice in self._voices.values())

    def _written(self, batch: Mapping[Attempt, list[_Piece]]) -> set[tuple[UUID, str, int]]:
        deltas = [
            Delta(*attempt, _as_json(attempt, piece)) for attempt, pieces in batch.items() for piece in pieces
        ]
        try:
            return self._writer.write_deltas(deltas)
        except psycopg.Error as error:
            if not passes(error):
                log.exception("what %d attempts say could not be written", len(batch))
            return set()

    def _settle(
        self, batch: Mapping[Attempt, list[_Piece]], written: Collection[tuple[UUID, str, int]]
    ) -> bool:
        """Keep what was not written for the next time, unless that was tried often; whether all of it was written."""
        done: list[Future[None]] = []
        with self._changed:
            for attempt, pieces in batch.items():
                voice = self._voices[attempt]
                voice.tries += 1
                if attempt in written or voice.tries == TRIES:
                    voice.tries = 0
                else:
                    voice.pieces = pieces + voice.pieces
                if not voice.pieces:
                    done += self._voices.pop(attempt).awaited
        for one in done:
            one.set_result(None)
        return len(written) == len(batch)


class Speaker:
    """What one attempt says: masked before anybody hears it, and not without end. Safe from many threads."""

    def __init__(self, telling: Telling, attempt: Attempt, mask: Callable[[str], str]) -> None:
        self._telling = telling
        self._attempt = attempt
        self._discretion = Discretion(mask)
        self._left = SAYS

    def say(self, about: Mapping[str, Any], text: str) -> None:
        """Say this, as soon as nothing that follows could make a secret of it."""
        if self._left <= 0:
            return
        self._tell(self._discretion.said(about, text[: self._left]))
        self._left -= len(text)
        if self._left <= 0:
            self._tell(self._discretion.rest())
            self._telling.tell(self._attempt, {**about, "cut": True}, "…")

    @property
    def has_spoken(self) -> bool:
        return self._left < SAYS

    def told(self) -> Future[None]:
        """As `Telling.told`, with all that was held back."""
        self._tell(self._discretion.rest())
        return self._telling.told(self._attempt)

    def _tell(self, pieces: Sequence[Said]) -> None:
        for piece in pieces:
            self._telling.tell(self._attempt, piece.about, piece.text)


def _as_json(attempt: Attempt, piece: _Piece) -> str:
    """Without what Postgres cannot store."""
    text = piece.text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    return json.dumps({"attempt": attempt.attempt, **piece.about, "text": text}, ensure_ascii=False)
