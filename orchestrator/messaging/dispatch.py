"""Sends committed steps to their queues."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

import psycopg
from celery import Celery
from kombu.exceptions import ChannelError, EncodeError, KombuError, LimitExceeded
from redis.exceptions import RedisError

from orchestrator.engine.values import Pointer, Ready
from orchestrator.messaging.amnesia import BrokerMemory
from orchestrator.messaging.bell import ring
from orchestrator.messaging.broker import wire_priority
from orchestrator.messaging.canvas import fragments, pointer_of, publish, task_id
from orchestrator.outages import BROKER

log = logging.getLogger(__name__)

BATCH = 100
"""Messages that travel to the broker together: few enough for workers to begin while the rest is still built."""

PATIENCE = 10.0
"""Seconds to wait for a free connection to the broker."""

UNREACHABLE = (OSError, KombuError, LimitExceeded, RedisError)


class Dispatcher:
    """Publishes fragments, in batches where the transport can."""

    def __init__(self, app: Celery, leave: Callable[[Collection[Pointer]], object]) -> None:
        """`leave` writes down which steps could not be sent, so that a timer sends them soon."""
        self._app = app
        self._memory = BrokerMemory()
        self._leave = leave
        self._this_thread = threading.local()

    @property
    def is_sending(self) -> bool:
        """Whether what this thread publishes just now comes from here, and an error is ours to deal with."""
        return getattr(self._this_thread, "sends", False)

    def send(self, ready: Sequence[Ready]) -> bool:
        """Publish these steps, after their commit. False when the broker could not be reached.

        The steps are then ready in Postgres all the same, and the timers send them when the broker is back.
        """
        if not ready:
            return True
        if BROKER.worth_a_try() and self._sent(ready):
            BROKER.over()
            return True
        self.left([Pointer(one.run.id, one.path) for one in ready])
        return False

    def left(self, steps: Collection[Pointer]) -> None:
        """These were not sent. If that cannot be written down either, recovery finds them after a while."""
        log.info("could not send %d steps, the timers will", len(steps))
        with suppress(psycopg.Error):
            self._leave(steps)

    def _sent(self, ready: Sequence[Ready]) -> bool:
        self._this_thread.sends = True
        try:
            with self._producer() as producer, producer.batch(max_size=BATCH):
                for fragment in fragments(self._app, ready):
                    publish(fragment, producer)
        except EncodeError:
            raise
        except UNREACHABLE as error:
            BROKER.noticed(error)
            return False
        finally:
            self._this_thread.sends = False
        return True

    def announce(self, ended: Collection[UUID]) -> None:
        """Wake those who wait for these runs; if they cannot be woken, they look for themselves."""
        if ended and BROKER.worth_a_try():
            self._ask(lambda client: ring(client, ended))

    def resend(self, task: str, args: Sequence[Any], kwargs: Mapping[str, Any], queue: str) -> bool:
        """Publish one message of any task. False when the broker could not be reached."""
        step = pointer_of({"args": args})
        options = {"task_id": task_id(step)} if step is not None else {}
        try:
            with self._producer() as producer:
                self._app.send_task(
                    task, args, kwargs, queue=queue, producer=producer, priority=wire_priority(0), **options
                )
        except UNREACHABLE as error:
            BROKER.noticed(error)
            return False
        return True

    def _producer(self) -> Any:
        return self._app.producer_pool.acquire(block=True, timeout=PATIENCE)

    def backlog(self, queue: str) -> int | None:
        """Messages that wait in a queue of the broker; None when the broker cannot tell."""
        try:
            with self._app.connection_for_read() as connection, connection.channel() as channel:
                declared = channel.queue_declare(queue, passive=True)
        except ChannelError:
            return 0  # Redis forgets a queue that is empty
        except UNREACHABLE as error:
            BROKER.noticed(error)
            return None
        return int(declared.message_count)

    def broker_has_forgotten(self) -> bool:
        """Whether the broker may have lost its messages, and this process should send all of them again.

        Asks on Redis only: other brokers keep durable queues; what they lose is found as stranded.
        """
        return self._ask(self._memory.is_lost)

    def still_forgets(self) -> bool:
        """Call it now and then meanwhile. False if sending has to begin anew, here or elsewhere."""
        return self._ask(self._memory.goes_on)

    def broker_remembers(self) -> bool:
        """Call it when all has been sent."""
        return self._ask(self._memory.is_restored)

    def _ask(self, question: Callable[[Any], bool | None]) -> bool:
        try:
            with self._producer() as producer:
                client = getattr(producer.channel, "client", None)
                if client is None:
                    return False
                answer = question(client)
        except UNREACHABLE as error:
            BROKER.noticed(error)
            return False
        BROKER.over()
        return bool(answer)
