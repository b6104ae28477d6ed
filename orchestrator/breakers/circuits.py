"""The circuits of the cluster, as one process reaches them: in the broker's Redis, which may forget them.

A circuit that was forgotten is closed. While Redis is away, everything is let through and nothing is counted.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple
from uuid import uuid4

import redis
from redis.exceptions import NoScriptError

from orchestrator.breakers.script import SCRIPT, SHA, SLICES
from orchestrator.outages import Outage
from schemas.breakers import Breaker, CircuitView

log = logging.getLogger(__name__)

LEASE = 5.0
"""Seconds for which a probe counts unless it is renewed: then its worker is dead, and another one probes."""

PATIENCE = 1.0
"""Seconds to wait for an answer of Redis."""

PREFIX = "baton.breaker:"
NAMES = "baton.breakers"

CIRCUITS = Outage(
    "Redis does not answer, so circuit breakers let everything through", "circuit breakers count again"
)

Evidence = Literal["good", "bad", "unknown"]
"""How something ended; unknown counts as nothing."""


class CircuitPass(NamedTuple):
    """The answer of a circuit to one who wants to pass."""

    name: str
    breaker: Breaker
    state: Literal["closed", "open", "probe", "blind"]
    """Blind: nobody could be asked, so it is let through and not counted."""
    epoch: str = ""
    token: str = ""
    """Of a probe."""
    left: float = 0.0
    """Seconds until it is worth another try, of one that is open."""


class End(NamedTuple):
    """How something that had passed ended."""

    passage: CircuitPass
    verdict: Evidence


class CircuitChange(NamedTuple):
    """What an end did to its circuit."""

    became: Literal["opened", "reopened", "closed"]
    failed: int = 0
    ended: int = 0
    """Of one that opened: the counts with which it did."""


class Circuits:
    """Asks and tells circuits, many at a time; safe from many threads."""

    def __init__(self, url: str, *, lease: float = LEASE) -> None:
        self.lease = lease
        self._url = url if url.startswith(("redis://", "rediss://")) else None
        self._made: Any = None
        self._told = False

    def ask(self, wanted: Sequence[tuple[str, Breaker]]) -> list[CircuitPass]:
        """Whether these may be tried: each counts as tried if it may, and has to be told how it ended."""
        tokens = [uuid4().hex for _ in wanted]
        orders = [
            self._order("ask", name, breaker, token)
            for (name, breaker), token in zip(wanted, tokens, strict=True)
        ]
        answers = self._run(orders)
        if answers is None:
            return [CircuitPass(name, breaker, "blind") for name, breaker in wanted]
        return [
            CircuitPass(name, breaker, word, epoch, token if word == "probe" else "", left / 1000)
            for (name, breaker), token, (word, epoch, left, _) in zip(wanted, tokens, answers, strict=True)
        ]

    def tell(self, ends: Sequence[End]) -> list[CircuitChange | None]:
        """How what was let through has ended; whether that changed its circuit."""
        counted = [
            end
            for end in ends
            if end.passage.state != "blind" and (end.verdict != "unknown" or end.passage.token)
        ]
        orders = [
            self._order(
                "tell",
                end.passage.name,
                end.passage.breaker,
                end.passage.token,
                end.passage.epoch,
                end.verdict,
            )
            for end in counted
        ]
        answers = self._run(orders) or [("", "", 0, 0)] * len(counted)
        found = dict(zip(map(id, counted), answers, strict=True))
        return [_change(found.get(id(end))) for end in ends]

    def renew(self, passage: CircuitPass) -> bool:
        """Say that a probe goes on. False if its lease was over, and another one may probe by now."""
        answers = self._run([self._order("renew", passage.name, passage.breaker, passage.token)])
        return answers is None or answers[0][0] == "probe"

    def views(self) -> list[CircuitView]:
        """All circuits that are remembered, by name. Raises redis-py's errors."""
        client = self._client()
        names = sorted(name.decode() for name in client.smembers(NAMES))
        found = [(name, client.hgetall(_key(name))) for name in names]
        gone = [name for name, fields in found if b"rule" not in fields]
        if gone:
            client.srem(NAMES, *gone)
        seconds, micros = client.time()
        return [_view(name, fields, seconds + micros / 1e6) for name, fields in found if b"rule" in fields]

    def reset(self, name: str) -> bool:
        """Close a circuit and forget what it has counted; False if nobody knows it. Raises redis-py's errors."""
        client = self._client()
        client.srem(NAMES, name)
        return bool(client.delete(_key(name)))

    @property
    def reachable(self) -> bool:
        """Whether they stand in a Redis at all."""
        return self._url is not None

    def close(self) -> None:
        if self._made is not None:
            self._made.close()

    # --- inside -------------------------------------------------------------------------------------------

    def _order(
        self, verb: str, name: str, breaker: Breaker, token: str, epoch: str = "", verdict: str = ""
    ) -> list[Any]:
        rule = breaker.model_dump_json()
        window, open_ = round(breaker.window * 1000), round(breaker.open * 1000)
        lease = round(self.lease * 1000)
        times = (breaker.failures, window, breaker.minimum, open_, lease)
        return [2, _key(name), NAMES, verb, name, rule, *times, token, epoch, verdict]

    def _run(self, orders: Sequence[list[Any]]) -> list[tuple[Any, str, int, int]] | None:
        """The script's answers; None if Redis cannot be asked."""
        if not orders:
            return []
        if self._url is None:
            if not self._told:
                self._told = True
                log.warning(
                    "circuit breakers need a Redis, BATON_BREAKERS_URL: here they let everything through"
                )
            return None
        if not CIRCUITS.worth_a_try():
            return None
        try:
            rows = self._executed(orders)
        except (redis.RedisError, OSError) as error:
            CIRCUITS.noticed(error)
            return None
        CIRCUITS.over()
        return [(word.decode(), epoch.decode(), int(one), int(other)) for word, epoch, one, other in rows]

    def _executed(self, orders: Sequence[list[Any]]) -> list[Any]:
        try:
            return self._piped(orders)
        except NoScriptError:  # it was started anew
            self._client().script_load(SCRIPT)
            return self._piped(orders)

    def _piped(self, orders: Sequence[list[Any]]) -> list[Any]:
        pipe = self._client().pipeline(transaction=False)
        for order in orders:
            pipe.evalsha(SHA, *order)
        rows: list[Any] = pipe.execute()
        return rows

    def _client(self) -> Any:
        if self._made is None:
            self._made = redis.Redis.from_url(
                self._url or "", socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE
            )
        return self._made


def _key(name: str) -> str:
    return f"{PREFIX}{name}"


def _change(answer: tuple[Any, str, int, int] | None) -> CircuitChange | None:
    if answer is None or answer[0] not in ("opened", "reopened", "closed"):
        return None
    return CircuitChange(answer[0], answer[2], answer[3])


def _view(name: str, fields: dict[bytes, bytes], now: float) -> CircuitView:
    breaker = Breaker.model_validate_json(fields[b"rule"])
    failed, ended = _counts(fields, int(now * SLICES / breaker.window) - SLICES)
    opened = fields.get(b"opened")
    left = int(opened) / 1000 + breaker.open - now if opened is not None else 0.0
    probing = b"probe" in fields and int(fields[b"until"]) / 1000 > now
    return CircuitView(
        name=name,
        state="closed" if opened is None else "open" if left > 0 else "half-open",
        failed=failed,
        ended=ended,
        open_for=max(0.0, left),
        probing=probing,
        breaker=breaker,
    )


def _counts(fields: dict[bytes, bytes], oldest: int) -> tuple[int, int]:
    """The failures, and all ends, since a slice of time; of an open circuit those with which it has opened."""
    if b"all" in fields:
        return int(fields[b"bad"]), int(fields[b"all"])
    counts = {"g": 0, "b": 0}
    for field, value in fields.items():
        kind, _, at = field.decode().partition(":")
        if kind in counts and int(at) > oldest:
            counts[kind] += int(value)
    return counts["b"], counts["g"] + counts["b"]
