"""`baton.submit`: a program that has only Celery starts runs, each once, and hears what was wrong with the others."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from celery import Celery

from schemas.errors import SubmissionRefused
from schemas.intake import SUBMIT
from tests.integration.worker.stack import Stack, ready
from tests.integration.worker.test_timers import CeleryEvents
from tests.support import eventually


@pytest.fixture
def program(shared: Stack) -> Iterator[Celery]:
    """A Celery program that knows Baton's broker and its result backend, and nothing else of it."""
    app = plain(shared)
    yield app
    app.backend.close()
    app.close()


def plain(stack: Stack) -> Celery:
    app = Celery(broker=stack.broker_url, set_as_current=False)
    app.conf.result_backend = f"orchestrator.results:Backend+{stack.database_url}"
    return app


def submit(app: Celery, *args: Any, task_id: str | None = None, **kwargs: Any) -> Any:
    return app.send_task("baton.submit", args=args, kwargs=kwargs, task_id=task_id, queue="baton.submit")


def dead_letters(stack: Stack, mark: str) -> list[tuple[str, str]]:
    return [
        (str(queue), str(reason))
        for queue, reason in stack.query(
            "SELECT queue, reason FROM dead_letters WHERE message::text LIKE %s", f"%{mark}%"
        )
    ]


def test_a_celery_program_starts_a_run_and_its_result_is_the_id(shared: Stack, program: Celery) -> None:
    sent = submit(
        program,
        workflow="line",
        input=1,
        tenant="acme",
        labels={"order": "7"},
        priority=9,
        idempotency_key=uuid4().hex,
    )

    run_id = UUID(sent.get(timeout=30))
    assert shared.client.result(run_id, 30) == 11
    view = shared.client.run(run_id)
    assert (view.tenant, view.labels, view.priority) == ("acme", {"order": "7"}, 9)


def test_the_workflow_and_its_input_need_no_names(shared: Stack, program: Celery) -> None:
    assert shared.client.result(UUID(submit(program, "line", 2).get(timeout=30)), 30) == 15


def test_a_message_that_comes_twice_makes_one_run(shared: Stack, program: Celery) -> None:
    task, label = uuid4().hex, uuid4().hex
    for _ in range(5):
        submit(program, "line", 1, labels={"twice": label}, task_id=task)
    run_id = submit(program, "line", 1, labels={"twice": label}, task_id=task).get(timeout=30)

    eventually(lambda: shared.redis().hlen("unacked") == 0 and shared.redis().llen("baton.submit") == 0)
    assert [str(run.id) for run in shared.client.runs(label=f"twice={label}")] == [run_id]


def test_messages_with_one_key_make_one_run(shared: Stack, program: Celery) -> None:
    key = uuid4().hex
    sent = [submit(program, "line", 1, idempotency_key=key) for _ in range(6)]

    assert len({one.get(timeout=30) for one in sent}) == 1
    other = submit(program, "line", 1, idempotency_key=key, tenant="other")
    assert other.get(timeout=30) != sent[0].get(timeout=30)


def test_many_submissions_are_shared_by_workers_of_both_kinds(shared: Stack, program: Celery) -> None:
    label = uuid4().hex
    with program.producer_or_acquire() as producer:
        sent = [
            program.send_task(
                SUBMIT, args=["single", n], kwargs={"labels": {"n": label}}, queue=SUBMIT, producer=producer
            )
            for n in range(100)
        ]
    runs = [UUID(one.get(timeout=60)) for one in sent]

    assert [shared.client.result(run, 60) for run in runs] == [n + 1 for n in range(100)]
    assert len(shared.client.runs(label=f"n={label}", limit=1000)) == 100


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"workflow": "nothing"}, "there is no workflow 'nothing' in the database"),
        ({"workflow": "line", "input": "seven"}, "workflow 'line': it is not of type \"integer\""),
        (
            {"workflow": "line", "input": 1, "hurry": True},
            "baton.submit: hurry: Extra inputs are not permitted",
        ),
        ({"input": 1}, "baton.submit: workflow: Field required"),
        ({"workflow": ["line"], "input": 1}, "baton.submit: workflow: Input should be a valid string"),
        ({"workflow": "line", "input": 1, "priority": 12}, "priority: 12 is not between 0 and 9"),
        ({"workflow": "line", "input": 1, "delay": -5}, "delay: -5.0 is not between 0 and"),
        ({"workflow": "line", "input": 1, "labels": {"a": 1}}, "labels.a: Input should be a valid string"),
        ({"workflow": "line", "input": 1, "idempotency_key": ""}, "idempotency key: it is empty"),
        ({"workflow": "line", "input": 1, "tenant": "a\0\\u0000\ud800"}, "tenant: it contains a character"),
        ({"workflow": "a\0b", "input": 1}, "there is no workflow"),
        ({"workflow": "\ud800", "input": 1}, "there is no workflow"),
    ],
)
def test_what_cannot_become_a_run_fails_with_its_reason_and_is_kept(
    shared: Stack, program: Celery, arguments: dict[str, Any], reason: str
) -> None:
    mark = uuid4().hex
    labels = {"labels": {"mark": mark}} if "labels" not in arguments else {"labels": {"mark": mark, "a": 1}}

    sent = submit(program, **{**arguments, **labels})

    failed = sent.get(timeout=30, propagate=False)
    assert isinstance(failed, SubmissionRefused)
    assert reason in str(failed)
    ((queue, kept),) = dead_letters(shared, mark)
    assert queue == "baton.submit"
    assert reason in kept
    assert shared.client.runs(label=f"mark={mark}") == []


def test_a_key_with_another_input_names_the_run_that_has_it(shared: Stack, program: Celery) -> None:
    key = uuid4().hex
    first = submit(program, "line", 1, idempotency_key=key).get(timeout=30)

    with pytest.raises(SubmissionRefused, match=f"belongs to run {first}, which has another input"):
        submit(program, "line", 2, idempotency_key=key).get(timeout=30)
    assert len(dead_letters(shared, key)) == 1


def test_three_arguments_without_names_are_one_too_many(shared: Stack, program: Celery) -> None:
    with pytest.raises(SubmissionRefused, match="3 arguments without a name"):
        submit(program, "line", 1, uuid4().hex).get(timeout=30)


def test_pools_are_of_agents_only(shared: Stack) -> None:
    assert "baton.submit" not in {pool.queue for pool in shared.client.pools()}
    assert any("baton.submit" in worker.queues for worker in shared.client.workers())


def test_a_worker_that_dies_over_a_submission_leaves_it_to_another(alone: Stack) -> None:
    # Given a worker that has taken a submission, and a database that keeps it waiting
    first = alone.worker("increment", SUBMIT)
    app = plain(alone)
    with psycopg.connect(alone.database_url) as conn:
        conn.execute("LOCK TABLE runs IN ACCESS EXCLUSIVE MODE")
        sent = submit(app, "single", 1)
        # Then the broker keeps the message from the first moment on
        waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%%INTO runs%%'"
        eventually(lambda: bool(alone.query(waits)), timeout=20)
        assert alone.redis().hlen("unacked") == 1
        # When the worker dies
        first.kill()
    # And its time is up (here by hand, for a minute is long)
    for tag in alone.redis().zrange("unacked_index", 0, -1):
        alone.redis().zadd("unacked_index", {tag: time.time() - 3600})
    alone.begin("increment", SUBMIT)

    # Then another worker makes one run of it
    run_id = UUID(sent.get(timeout=60))
    assert alone.client.result(run_id, 30) == 2
    assert len(alone.client.runs()) == 1
    app.backend.close()
    app.close()


def test_submissions_wait_out_a_database_that_is_away(alone: Stack) -> None:
    # Given a worker whose connections are cut again and again
    alone.worker("increment", SUBMIT)
    app = plain(alone)
    cut = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    sent = []
    for number in range(20):
        sent.append(submit(app, "single", number))
        alone.query(cut)

    # Then each submission makes one run all the same
    runs = [UUID(eventually(lambda one=one: one.get(timeout=20), timeout=40)) for one in sent]
    assert len(set(runs)) == 20
    assert [alone.client.result(run, 40) for run in runs] == [number + 1 for number in range(20)]
    assert alone.query("SELECT count(*) FROM runs") == [(20,)]
    app.backend.close()
    app.close()


def test_flower_and_the_log_are_not_told_of_inputs(alone: Stack) -> None:
    worker = ready(alone.begin("baton.submit", extra=("-E",)))
    app = plain(alone)
    with CeleryEvents(alone) as events:
        refused = [submit(app, "line", "a-secret"), submit(app, workflow="line", input="a-secret")]
        for one in refused:
            with pytest.raises(Exception, match="it is not of type"):
                one.get(timeout=30)
        eventually(lambda: sum(event["type"] == "task-failed" for event in events.heard) == 2)
        received = [event for event in events.heard if event["type"] == "task-received"]
    app.backend.close()
    app.close()

    assert [(one["args"], one["kwargs"]) for one in received] == [("(...)", "{'workflow': 'line'}")] * 2
    assert "a-secret" not in str(events.heard)
    assert "a-secret" not in worker.text()
    assert worker.alive
