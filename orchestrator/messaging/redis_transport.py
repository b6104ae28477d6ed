"""Kombu's Redis transport with fewer round trips.

Kombu takes one message per BRPOP, writes down in a transaction of its own that it is unacknowledged, deletes that in
another, and builds a Redis client object for each of these. Here a wake-up takes as many messages as the worker has
room for. Unacknowledged messages are written down together, `DELAY` seconds late, so those that were dealt with by
then never are. The keys and their meaning are Kombu's: workers with and without this transport share queues.

A worker that dies within the delay loses those messages to Redis. Their steps stand in Postgres, and recovery sends
them again as soon as it has found the worker dead. Messages on queues that are not an agent's, submissions for one,
stand nowhere else: they are taken one by one and written down at once, as Kombu does.
"""

from __future__ import annotations

import logging
import threading
from base64 import b64decode
from collections.abc import Callable, Collection
from queue import Empty
from time import monotonic, time
from typing import Any

from kombu.transport import redis as kombu_redis
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import dumps, loads
from redis.exceptions import ConnectionError as RedisConnectionError

from schemas.agents import queue_of

log = logging.getLogger(__name__)

on_unreadable: Callable[[str, str, str], object] | None = None
"""Keeps what is no message: takes the queue, the reason and the text. A worker sets it."""

DELAY = 0.05
"""Seconds until an unacknowledged message is written down."""

BUSY = 0.005
"""Seconds between two messages that come one by one, below which there are probably more."""

BULK = 250
"""Messages taken from one queue in one go."""


class QoS(kombu_redis.QoS):
    """Writes down late, and together, which messages are unacknowledged."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._unwritten: dict[str, Any] = {}
        self._aged: set[str] = set()
        self._acked: list[str] = []
        self._lock = threading.Lock()

    def append(self, message: Any, delivery_tag: str) -> None:
        if self.channel.soon is None or not _stands_in_postgres(message.delivery_info["routing_key"]):
            super().append(message, delivery_tag)
            return
        with self._lock:
            self._unwritten[delivery_tag] = message
        self.channel.soon(self)
        # Skip the parent, which would write at once.
        super(kombu_redis.QoS, self).append(message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        if delivery_tag not in self._delivered or delivery_tag in self._dirty:
            return  # it was given back: its entry may be another worker's by now
        if self.channel.soon is None:
            super().ack(delivery_tag)
            return
        with self._lock:
            if self._unwritten.pop(delivery_tag, None) is None:
                self._acked.append(delivery_tag)
        self.channel.soon(self)
        super(kombu_redis.QoS, self).ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        if delivery_tag not in self._delivered or delivery_tag in self._dirty:
            return
        self.write()
        super().reject(delivery_tag, requeue)

    def give_back(self, keep: Collection[str]) -> frozenset[str]:
        """Put back at the head of their queues what was fetched, but for the delivery tags in `keep`.

        Returns the task ids of the messages that went back.
        """
        self._flush()
        going = {tag: message for tag, message in self._delivered.items() if tag not in keep}
        for tag in reversed(going):
            self.reject(tag, requeue=True)
        return frozenset(str(message.headers.get("id")) for message in going.values())

    def restore_unacked(self, client: Any = None) -> None:
        """Give back what this worker has not finished. Without a connection Postgres has to, and does."""
        try:
            self.write()
            super().restore_unacked(client)
        except self.channel.connection_errors as error:
            # Kombu tears a lost connection down before it asks for the messages back.
            log.info("unfinished messages could not be given back, recovery sends their steps: %s", error)

    def write(self, *, everything: bool = True) -> bool:
        """Write what is still unacknowledged, delete what no longer is; whether something is left for next time.

        Unless `everything` is to be written, messages get until the second call: most are done by then.
        """
        with self._lock:
            fresh = {tag: m for tag, m in self._unwritten.items() if everything or tag in self._aged}
            self._unwritten = {tag: m for tag, m in self._unwritten.items() if tag not in fresh}
            self._aged = set(self._unwritten)
            acked, self._acked = self._acked, []
            left = bool(self._unwritten)
        if not fresh and not acked:
            return left
        if self.channel.closed:
            return False  # the connection was lost meanwhile: Redis gives them out again, and the claims are fenced
        now = time()
        with self.channel.conn_or_acquire() as client:
            pipe = client.pipeline(transaction=False)
            if fresh:
                pipe.zadd(self.unacked_index_key, dict.fromkeys(fresh, now))
                pipe.hset(self.unacked_key, mapping={tag: _kept(message) for tag, message in fresh.items()})
            if acked:
                pipe.zrem(self.unacked_index_key, *acked)
                pipe.hdel(self.unacked_key, *acked)
            pipe.execute()
        return left


def _stands_in_postgres(queue: str) -> bool:
    """Whether the messages of a queue only point to what Postgres knows."""
    return queue.startswith(queue_of(""))


def _readable(item: bytes) -> dict[str, Any]:
    """A message of Kombu as data. Raises `ValueError` for whatever Celery could not read."""
    try:
        message = loads(bytes_to_str(item))
        properties, headers = message["properties"], message["headers"]
        tag, info = properties["delivery_tag"], properties["delivery_info"]
        if not (isinstance(tag, str) and isinstance(info, dict) and isinstance(headers, dict)):
            raise ValueError("its properties or headers are of the wrong type")  # noqa: TRY004  all faults are one kind
        body = message["body"]
        if properties.get("body_encoding") == "base64":
            body = b64decode(body, validate=True)
        if message.get("content-type") == "application/json":
            loads(bytes_to_str(body))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None
    found: dict[str, Any] = message
    return found


def _set_aside(queue: str, reason: str, item: bytes) -> None:
    log.error("set aside what came on %s: %s", queue, reason)
    if on_unreadable is not None:
        on_unreadable(queue, reason, item.decode("utf-8", "replace"))


def _kept(message: Any) -> str:
    """A message as Kombu keeps it until it is acknowledged."""
    info = message.delivery_info
    text: str = dumps([message._raw, info["exchange"], info["routing_key"]])
    return text


class Channel(kombu_redis.Channel):
    """Takes messages in bulk, and keeps one client for its commands."""

    QoS = QoS
    _read_at = 0.0
    soon: Callable[[Any], None] | None = None
    """Has the event loop call `write` before long; None while there is no loop."""

    def _create_client(self, asynchronous: bool = False) -> Any:
        if asynchronous:
            return super()._create_client(asynchronous=True)
        if self.connection is None or self.connection.client is None:
            # Its connection was closed while somebody still held it: a reason to connect again, not a fault.
            raise RedisConnectionError("the channel's connection is closed")
        pool = self.pool
        client, made_for = getattr(self, "_kept_client", (None, None))
        if made_for is not pool:
            client = super()._create_client()
            self._kept_client = (client, pool)
        return client

    def _brpop_read(self, **options: Any) -> Any:
        """What Kombu does, but a text that is no message does not end the worker, and more may follow."""
        try:
            try:
                answer = self.client.parse_response(self.client.connection, "BRPOP", **options)
            except self.connection_errors:
                # Disconnect, so that the next turn of the loop connects again.
                self.client.connection.disconnect()
                raise
            if not answer:
                raise Empty
            queue = bytes_to_str(answer[0]).rsplit(self.sep, 1)[0]
            self._queue_cycle.rotate(queue)
            self._accept(answer[1], queue)
            now = monotonic()
            if self.soon is not None and now - self._read_at < BUSY and _stands_in_postgres(queue):
                self._take_more(queue)
            self._read_at = now
            return True
        finally:
            self._in_poll: Any = None
            self._flush_brpop_reauth()

    def _accept(self, item: bytes, queue: str) -> None:
        """Deliver one message. What no worker can read is set aside: given back, it would end them in turn."""
        try:
            message = _readable(item)
        except ValueError as error:
            _set_aside(queue, f"it is no Celery message: {error}", item)
            return
        try:
            self.connection._deliver(message, queue)
        except self.connection_errors:
            raise
        except Exception as error:
            log.exception("a message on %s could not be received", queue)
            _set_aside(queue, f"Celery could not receive it: {error!r}", item)
            tag = message["properties"]["delivery_tag"]
            if tag in self.qos._delivered:
                self.qos.ack(tag)

    def _take_more(self, queue: str) -> None:
        """Where one message came from there are often others: take what there is room for, most urgent first."""
        room = self.qos.can_consume_max_estimate()
        left = BULK if room is None else min(room, BULK)
        if left < 1:
            return
        keys = [self._q_for_pri(queue, priority) for priority in self.priority_steps]
        with self.conn_or_acquire() as client:
            pipe = client.pipeline(transaction=False)
            for key in keys:
                pipe.llen(key)
            for key, length in zip(keys, pipe.execute(), strict=True):
                if length and left > 0:
                    items = client.rpop(key, min(left, length)) or ()
                    left -= len(items)
                    for item in items:
                        self._accept(item, queue)

    def stop_waiting(self) -> None:
        """End the BRPOP that Redis still holds for a channel whose consumers have been cancelled, within a second.

        Redis may answer it with a message although nobody here will work on it. Left in the socket, it would be lost
        to everybody until this process ends.
        """
        if not self._in_poll:
            return
        try:
            answer = self.client.parse_response(self.client.connection, "BRPOP")
        finally:
            self._in_poll = None
        if answer:
            key, item = answer
            with self.conn_or_acquire() as client:
                client.rpush(key, item)

    def close(self) -> None:
        if not self.closed and self._qos is not None:
            self._qos.write()
        super().close()


class Transport(kombu_redis.Transport):
    """`redis://` with the channel above."""

    Channel = Channel

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        super().register_with_event_loop(connection, loop)

        due: set[QoS] = set()

        def write() -> None:
            again = {qos for qos in tuple(due) if qos.write(everything=False)}
            due.clear()
            for qos in again:
                soon(qos)

        def soon(qos: QoS) -> None:
            if not due:
                loop.call_later(DELAY, write)
            due.add(qos)

        for channel in connection.channels:
            channel.soon = soon
