"""A message is a pointer: its size does not grow with the workflow, and its parts are immutable."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from celery import Celery

from orchestrator.definitions.compile import compile_workflow
from orchestrator.definitions.vocabulary import Part, fan_out, workflow
from orchestrator.engine import Pointer, Ready
from orchestrator.engine.values import RunRef
from orchestrator.identify import new_id
from orchestrator.messaging.broker import configuration
from orchestrator.messaging.canvas import CHAIN_LINKS, fragments, pointer_of, publish, step_of, task_id
from orchestrator.places import Places
from tests.integration.engine.bench import named


class Wire:
    """What arrives at a broker, here Kombu's own in memory."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def messages(self, ready: list[Ready]) -> list[dict[str, Any]]:
        """Every message that these steps become, as it travels and with its body decoded."""
        queues = {f"agent.{one.agent}" for one in ready}
        with self._app.producer_pool.acquire(block=True) as producer:
            for fragment in fragments(self._app, ready):
                publish(fragment, producer)
        with self._app.connection_for_read() as connection, connection.channel() as channel:
            raw = [channel._get(queue) for queue in sorted(queues) for _ in range(channel._size(queue))]
        return [one | {"bytes": len(json.dumps(one)), "body": decoded(one)} for one in raw]


def decoded(raw: dict[str, Any]) -> Any:
    return json.loads(base64.b64decode(raw["body"]))


@pytest.fixture
def app() -> Iterator[Celery]:
    made = Celery("wire", set_as_current=False)
    conf = configuration(Places("postgresql://nowhere/x", "memory://"))
    made.conf.update(conf)
    yield made
    made.close()


def ready(body: Part, *paths: str) -> list[Ready]:
    plan = compile_workflow(workflow("w", body))
    run = RunRef(new_id(), plan, 0)
    return [Ready(run, path, plan.at(path).node.agent) for path in paths]  # type: ignore[union-attr]


def pipeline(length: int) -> Part:
    part = named("a") >> named("a")
    for _ in range(length - 2):
        part = part >> named("a")
    return part


def sizes(app: Celery, body: Part, *paths: str) -> set[int]:
    return {message["bytes"] for message in Wire(app).messages(ready(body, *paths))}


def test_a_message_is_as_large_in_a_pipeline_of_100_as_in_one_of_3(app: Celery) -> None:
    (short,), (long,) = sizes(app, pipeline(3), "0"), sizes(app, pipeline(100), "0")

    assert abs(long - short) <= 8
    assert long < 4_000


def test_a_message_is_as_large_in_a_fan_out_of_1000_as_in_one_of_2(app: Celery) -> None:
    def wide(width: int) -> set[int]:
        names = [f"b{n:03}" for n in range(width)]
        body = fan_out(**{name: named("a") for name in names}, join=named("j"))
        return sizes(app, body, *[f"0/{name}" for name in names])

    narrow, broad = wide(2), wide(1_000)

    assert max(broad) - min(narrow) <= 40
    assert max(broad) < 4_000


def test_a_chain_is_cut_after_a_few_links(app: Celery) -> None:
    (message,) = Wire(app).messages(ready(pipeline(10), "2"))

    embed = message["body"][2]
    links = [pointer_of(link) for link in embed["chain"]]
    assert len(links) == CHAIN_LINKS - 1
    assert [link.path for link in links if link] == ["4", "3"]


def test_a_chain_ends_before_a_decision(app: Celery) -> None:
    body = named("a") >> named("b") >> fan_out(named("c"), named("d"))
    (message,) = Wire(app).messages(ready(body, "0"))

    assert [pointer_of(link).path for link in message["body"][2]["chain"]] == ["1"]  # type: ignore[union-attr]


def test_every_signature_is_an_immutable_pointer(app: Celery) -> None:
    branches = {"x": named("a") >> named("b"), "y": named("c")}
    messages = Wire(app).messages(ready(fan_out(**branches, join=named("j")), "0/x/0", "0/y"))

    assert [message["headers"]["task"] for message in messages] == ["agent.a", "agent.c"]
    for message in messages:
        args, kwargs, _ = message["body"]
        run, path, attempt = args
        assert (kwargs, attempt) == ({}, 1)
        assert message["headers"]["id"] == task_id(Pointer(UUID(run), path))
    chain = messages[0]["body"][2]["chain"]
    chord = messages[1]["body"][2]["chord"]
    for signature in (*chain, chord):
        assert signature["immutable"]
        assert signature["kwargs"] == {}
    assert pointer_of(chord) == Pointer(UUID(messages[0]["body"][0][0]), "0/join")


def test_a_step_and_its_task_id_name_each_other() -> None:
    pointer = Pointer(new_id(), "0/review/2")

    assert task_id(pointer) == f"{pointer.run_id}.0.review.2"
    assert step_of(task_id(pointer)) == pointer
    for other in ("", "x", str(pointer.run_id), "6f0c.0", f"{pointer.run_id}"):
        assert step_of(other) is None
