"""Kombu's Redis transport with fewer round trips.

Kombu takes one message per BRPOP, writes its bookkeeping in a transaction of its own, deletes it in another, and
builds a Redis client object for each of these. Here a wake-up takes as many messages as the worker has room for,
and the bookkeeping of all of them travels in one pipeline per turn of the event loop. The keys and their meaning
are Kombu's, so workers with and without this transport share queues.

A worker that dies before the pipeline was sent loses those messages to Redis; their steps stand in Postgres, and
recovery sends them again, as it does for the message that Kombu itself loses between BRPOP and HSET.
"""

from __future__ import annotations

import threading
from time import time
from typing import Any

from kombu.transport import redis as kombu_redis
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import dumps, loads

BULK = 100
"""Messages taken from one queue in one go."""


class QoS(kombu_redis.QoS):
    """Collects the bookkeeping of messages while an event loop runs, and writes it once a turn."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._unwritten: list[tuple[str, str, str | None]] = []
        self._writing = threading.Lock()

    def append(self, message: Any, delivery_tag: str) -> None:
        if not self.channel.has_loop:
            super().append(message, delivery_tag)
            return
        info = message.delivery_info
        raw = dumps([message._raw, info["exchange"], info["routing_key"]])
        self._unwritten.append(("append", delivery_tag, raw))
        # Skip the parent, which would write at once.
        super(kombu_redis.QoS, self).append(message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        if not self.channel.has_loop:
            super().ack(delivery_tag)
            return
        self._unwritten.append(("ack", delivery_tag, None))
        super(kombu_redis.QoS, self).ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        self.write()
        super().reject(delivery_tag, requeue)

    def restore_unacked(self, client: Any = None) -> None:
        self.write()
        super().restore_unacked(client)

    def write(self) -> None:
        """Send what was collected. On a connection error it is kept for the next turn."""
        if not self._unwritten:
            return
        with self._writing, self.channel.conn_or_acquire() as client:
            batch = self._unwritten[:]
            pipe = client.pipeline(transaction=False)
            now = time()
            for kind, tag, raw in batch:
                if kind == "append":
                    pipe.zadd(self.unacked_index_key, {tag: now})
                    pipe.hset(self.unacked_key, tag, raw)
                else:
                    pipe.zrem(self.unacked_index_key, tag)
                    pipe.hdel(self.unacked_key, tag)
            pipe.execute()
            del self._unwritten[: len(batch)]


class Channel(kombu_redis.Channel):
    """Takes messages in bulk, and keeps one client for its commands."""

    QoS = QoS
    has_loop = False
    """Whether an event loop calls `write` for us."""

    def _create_client(self, asynchronous: bool = False) -> Any:
        if asynchronous:
            return super()._create_client(asynchronous=True)
        pool = self.pool
        client, made_for = getattr(self, "_kept_client", (None, None))
        if made_for is not pool:
            client = super()._create_client()
            self._kept_client = (client, pool)
        return client

    def _brpop_read(self, **options: Any) -> Any:
        read = super()._brpop_read(**options)
        if self.has_loop:
            self._take_more()
        return read

    def _take_more(self) -> None:
        """After one message there are often others: take what there is room for, the most urgent first."""
        room = self.qos.can_consume_max_estimate()
        left = BULK if room is None else min(room, BULK)
        queues = self._queue_cycle.consume(len(self.active_queues))
        keys = [(q, self._q_for_pri(q, priority)) for priority in self.priority_steps for q in queues]
        with self.conn_or_acquire() as client:
            if left < 1 or not keys:
                return
            pipe = client.pipeline(transaction=False)
            for _, key in keys:
                pipe.llen(key)
            for (queue, key), length in zip(keys, pipe.execute(), strict=True):
                if length and left > 0:
                    items = client.rpop(key, min(left, length)) or ()
                    left -= len(items)
                    for item in items:
                        self.connection._deliver(loads(bytes_to_str(item)), queue)

    def close(self) -> None:
        if not self.closed and self._qos is not None:
            self._qos.write()
        super().close()


class Transport(kombu_redis.Transport):
    """`redis://` with the channel above."""

    Channel = Channel

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        super().register_with_event_loop(connection, loop)

        def write() -> None:
            for channel in connection.channels:
                channel.has_loop = True
                channel.qos.write()

        loop.on_tick.add(write)
