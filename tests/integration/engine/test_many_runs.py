"""Many runs moved by what they have in common, as a program does it."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import pytest

from orchestrator.client import Client
from orchestrator.definitions.vocabulary import workflow
from orchestrator.engine import Claimed, Engine, Pointer, WorkerId
from orchestrator.identify import new_id
from orchestrator.store.connect import Pool
from schemas.errors import InputError, ResultTimeout
from schemas.runs import RunState
from tests.integration.engine.bench import failed, named

ONE, OTHER = (workflow(name, named("a")) for name in ("one", "other"))


@pytest.fixture
def client(migrated: str, broker: str) -> Iterator[Client]:
    with Client(migrated, broker) as made:
        yield made


@pytest.fixture
def worker(migrated: str) -> Iterator[Engine]:
    """An engine that claims, for no worker is there."""
    pool = Pool(migrated)
    yield Engine(pool, WorkerId(new_id(), "worker"))
    pool.close()


def states(client: Client) -> dict[UUID, str]:
    return {run.id: str(run.state) for run in client.runs()}


def test_runs_are_moved_by_workflow_labels_and_tenant_together(client: Client) -> None:
    # Given runs that share one thing or another
    both = client.submit(ONE, 1, labels={"batch": "7", "team": "x"}, tenant="acme").id
    label = client.submit(OTHER, 1, labels={"batch": "7"}, tenant="acme").id
    plain = client.submit(ONE, 1).id

    # Then each is found by all that is said, and by nothing less
    assert client.pause_many(workflow="one", labels={"batch": "7"}) == [both]
    assert client.pause_many(labels={"batch": "7", "team": "y"}) == []
    assert client.pause_many(tenant="acme", reason="the provider is down") == [label]
    assert client.resume_many(labels={"batch": "7"}) == [both, label]
    assert client.cancel_many(workflow="one", reason="enough") == [both, plain]
    assert states(client) == {both: "cancelled", label: "queued", plain: "cancelled"}
    assert client.cancel_many(workflow="one") == []


@pytest.mark.parametrize("verb", ["cancel_many", "pause_many", "resume_many"])
def test_nothing_said_does_not_mean_all(client: Client, verb: str) -> None:
    run = client.submit(ONE, 1).id

    for said in ({}, {"labels": {}}):
        with pytest.raises(InputError, match="that would be all"):
            getattr(client, verb)(**said)

    assert states(client) == {run: "queued"}


def test_paused_runs_are_resumed_together_failed_ones_only_when_asked_for(
    client: Client, worker: Engine
) -> None:
    handles = [client.submit(ONE, 1) for _ in range(3)]
    paused, broken, aside = (handle.id for handle in handles)
    claimed = worker.claim(Pointer(broken, "0"))
    assert isinstance(claimed, Claimed)
    worker.record(failed(claimed))
    for _ in range(3):
        worker.claim(Pointer(aside, "0"))
        worker.release(Pointer(aside, "0"))
    client.pause(paused)

    # A run with a step that was set aside needs a decision about that step
    assert client.resume_many(workflow="one") == [paused]
    assert client.resume_many(workflow="one", state=RunState.FAILED) == [broken]
    assert states(client) == {paused: "queued", broken: "running", aside: "paused"}
    with pytest.raises(ResultTimeout) as told:
        handles[2].result(timeout=0.1)
    assert told.value.next_step.startswith("baton dead show ")


def test_who_waits_for_a_paused_run_is_told_so(client: Client) -> None:
    run = client.submit(ONE, 1)
    run.pause("lunch")

    with pytest.raises(ResultTimeout, match="is paused: lunch") as told:
        run.result(timeout=0.1)

    assert told.value.next_step == f"baton runs resume {run.id}"
    run.resume()
    with pytest.raises(ResultTimeout, match=r"has not ended after 0\.1 s"):
        run.result(timeout=0.1)
