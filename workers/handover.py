"""Steps that go on in the process that ended the one before, without a trip through the broker.

Where nothing else waits, the outcome of a step and the claim of the next one are one transaction (`Onward`), and
the next step starts here. To Celery it is a request like any other: made from a task message, received, accepted,
succeeded, so Flower, signals and revokes see it. The message that brought the first step stays unacknowledged until
the last one has ended, so a worker never has more under way than its concurrency.
"""

from __future__ import annotations

import json
from typing import Any

from celery import Celery, bootsteps
from celery.worker import state
from kombu.message import Message

from orchestrator.engine import Claimed, Pointer
from orchestrator.messaging.canvas import task_id
from schemas.agents import queue_of
from workers.step import StepTask

NOBODY: frozenset[str] = frozenset()


class HandOver:
    """Hands steps to the consumer of this process, as if they had come from the broker."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._consumer: Any = None

    def open(self, consumer: Any) -> None:
        self._consumer = consumer

    def close(self) -> None:
        self._consumer = None

    def agents(self, concurrency: int) -> frozenset[str]:
        """The async agents whose next step may start here at once: none while messages may be waiting, or at the end.

        Agents with a rate limit are left out: their turn is the consumer's to give. So are those with limits of the
        cluster, which only a claim of its own keeps.
        """
        consumer = self._consumer
        if consumer is None or consumer.app.baton.leaving:
            return NOBODY
        if len(state.reserved_requests) >= concurrency:
            return NOBODY
        buckets = consumer.task_buckets
        return frozenset(
            task.agent.name
            for name in consumer.app.amqp.queues.consume_from
            if isinstance(task := self._app.tasks.get(name), StepTask)
            and task.agent.spec.is_async
            and not task.agent.spec.limits
            and not buckets.get(name)
        )

    def deliver(self, request: Any, claimed: Claimed) -> bool:
        """Make a request of this step, which takes over the message of the one before. False if it is too late."""
        consumer = self._consumer
        if consumer is None:
            return False
        leaf: Any = claimed.run.plan.at(claimed.path).node
        task = self._app.tasks[queue_of(leaf.agent)]
        message = self._message(request, claimed, task)
        acknowledge, reject = request.on_ack, request.on_reject
        request.acknowledged = True
        consumer.strategies[task.name](message, None, acknowledge, reject, ())
        return True

    def _message(self, request: Any, claimed: Claimed, task: StepTask) -> Message:
        pointer = Pointer(claimed.run.id, claimed.path)
        sent = self._app.amqp.as_task_v2(
            task_id(pointer),
            task.name,
            args=(str(pointer.run_id), pointer.path, claimed.attempt),
            kwargs={},
            root_id=request.root_id,
            parent_id=request.id,
            ignore_result=True,
        )
        return Message(
            body=json.dumps(sent.body),
            content_type="application/json",
            content_encoding="utf-8",
            delivery_tag=request.message.delivery_tag,
            delivery_info=request.delivery_info,
            properties=sent.properties,
            headers=sent.headers,
            accept={"application/json"},
        )


class HandOverStep(bootsteps.StartStopStep):
    """Opens the pool's hand-over while the consumer consumes."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, consumer: Any) -> None:
        self._of(consumer, lambda hand_over: hand_over.open(consumer))

    def stop(self, consumer: Any) -> None:
        self._of(consumer, lambda hand_over: hand_over.close())

    def _of(self, consumer: Any, act: Any) -> None:
        hand_over = getattr(consumer.pool, "hand_over", None)
        if hand_over is not None:
            act(hand_over)
