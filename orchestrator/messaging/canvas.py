"""Steps that are ready become Celery canvases; the only file that knows `celery.canvas`.

A fragment is what can run without a new decision. Leaves that follow each other in a pipeline become a `chain`,
branches of one fan-out a `group`, and a group whose fan-out has a join agent a `chord`. Every signature is an
immutable pointer (run id, step path, attempt), and a chain is cut after `CHAIN_LINKS` links, so a message has the
same size whatever the workflow's length: the last link's commit makes the next step ready, and a new fragment
begins there.

What a canvas carries is a promise only. Celery publishes the next link or the chord's body; whether the step that
it points to may run is for Postgres to say, when the step is claimed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from uuid import UUID

from celery import Celery
from celery.canvas import Signature, chain, chord, group

from orchestrator.definitions.plan import Plan, parent_of
from orchestrator.engine.values import Pointer, Ready
from orchestrator.messaging.broker import MOST_URGENT, wire_priority
from schemas.agents import queue_of
from schemas.workflows import Joining, Leaf, Pipeline

CHAIN_LINKS = 3
"""Links of one chain: enough to save most dispatches, few enough to keep a message around a kilobyte."""

GROUP_SIZE = 100
"""Headers of one group: what is built in memory at a time, however wide the fan-out."""


def fragments(app: Celery, ready: Iterable[Ready]) -> Iterator[Any]:
    """The canvases that run these steps and, where no decision lies between, the steps after them."""
    for siblings in _by_fan_out(ready):
        for start in range(0, len(siblings), GROUP_SIZE):
            yield _fragment(app, siblings[start : start + GROUP_SIZE])


def publish(fragment: Any, producer: Any) -> None:
    """Send a fragment through one producer."""
    if isinstance(fragment, chord):
        # `chord.apply_async` drops its producer and would take a second one from the pool while this one is held,
        # a deadlock when all threads do so. The rest of what it does, counting rows, steps do not need.
        join = pointer_of(fragment.body)
        assert join is not None  # noqa: S101  every body is a pointer
        # The header's id names the fan-out, which tells the result backend that its steps are counted already.
        fan_out = Pointer(join.run_id, join.path.rpartition("/")[0])
        header = group(fragment.tasks, app=fragment.app, task_id=task_id(fan_out))
        header.apply_async(producer=producer, chord=fragment.body)
    else:
        fragment.apply_async(producer=producer)


def task_id(pointer: Pointer) -> str:
    """The Celery task id of a step, e.g. `<run id>.0.review.2`; the same each time it is sent."""
    return f"{pointer.run_id}.{pointer.path.replace('/', '.')}"


def step_of(task: str) -> Pointer | None:
    """The step that a Celery task id names, or None for a task that is not a step."""
    run, dot, path = task.partition(".")
    try:
        return Pointer(UUID(run), path.replace(".", "/")) if dot else None
    except ValueError:
        return None


def pointer_of(signature: Any) -> Pointer | None:
    """The step that a signature (or its JSON form) points to; None if it is not a pointer."""
    args: Any = signature.get("args") or ()
    try:
        run_id, path, *_ = args
        return Pointer(UUID(run_id), path)
    except (TypeError, ValueError, AttributeError):
        return None


def _by_fan_out(ready: Iterable[Ready]) -> Iterator[Sequence[Ready]]:
    groups: defaultdict[tuple[UUID, str], list[Ready]] = defaultdict(list)
    for one in ready:
        groups[one.run.id, _fan_out_of(one.run.plan, one.path) or one.path].append(one)
    return iter(groups.values())


def _fragment(app: Celery, siblings: Sequence[Ready]) -> Any:
    first = siblings[0]
    heads = [_chain(app, one) for one in siblings]
    if len(heads) == 1:
        return heads[0]
    fan_out = _fan_out_of(first.run.plan, first.path)
    node = first.run.plan.at(fan_out).node if fan_out else None
    if isinstance(node, Joining) and node.join is not None:
        body = Ready(first.run, f"{fan_out}/join", node.join)
        return chord(heads, _signature(app, body), app=app)
    return group(heads, app=app)


def _chain(app: Celery, start: Ready) -> Any:
    links = [_signature(app, start)]
    above, _, segment = start.path.rpartition("/")
    node = start.run.plan.at(above).node if above else start.run.plan.workflow.body
    if isinstance(node, Pipeline):
        index = int(segment) + 1
        for stage in node.stages[index : index + CHAIN_LINKS - 1]:
            if not isinstance(stage, Leaf):
                break
            path = f"{above}/{index}" if above else str(index)
            links.append(_signature(app, Ready(start.run, path, stage.agent)))
            index += 1
    return links[0] if len(links) == 1 else chain(*links, app=app)


def _signature(app: Celery, ready: Ready) -> Signature:
    queue = queue_of(ready.agent)
    return Signature(
        queue,
        args=(str(ready.run.id), ready.path, ready.attempt),
        app=app,
        immutable=True,
        options={
            "queue": queue,
            "task_id": task_id(Pointer(ready.run.id, ready.path)),
            "priority": wire_priority(MOST_URGENT if ready.again else ready.run.priority),
        },
    )


def _fan_out_of(plan: Plan, path: str) -> str:
    """The fan-out that a step is a branch of, itself or through the pipelines around it; empty if there is none."""
    above = parent_of(path)
    while above and not isinstance(plan.at(above).node, Joining):
        above = parent_of(above)
    return above
