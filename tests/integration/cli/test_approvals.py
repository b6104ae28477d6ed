"""People decide: `baton approvals` as it is typed, and the client, on a real database."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID

import pytest

from orchestrator.client import Client
from orchestrator.definitions.vocabulary import approve, each, workflow
from schemas.errors import BatonError, Conflict, InputError, NotFound, ResultTimeout
from schemas.events import EventKind
from tests.integration.cli.test_moving_runs import Baton, told
from tests.integration.cli.test_moving_runs import baton as baton
from tests.integration.cli.test_moving_runs import client as client
from tests.integration.engine.bench import Bench, named

AMOUNT = {"type": "object", "properties": {"amount": {"type": "integer"}}, "required": ["amount"]}
BUY = workflow(
    "buy",
    named("order", gives=AMOUNT)
    >> approve(
        "spend", message="Company money.", risk="input.amount > 100", approvers=["ann", "bob"], expires=3600
    )
    >> named("pay"),
)


@pytest.fixture
def asked(bench: Bench) -> tuple[UUID, int]:
    """A run that waits for Ann or Bob, and the number of what they are asked."""
    run = bench.submit(BUY, {"amount": 500})
    bench.drain()
    ((wait,),) = bench.query("SELECT id FROM waits")
    return run, wait


def work(bench: Bench, run: UUID, path: str) -> None:
    """The step was sent to the broker, where no worker takes it: do its work here."""
    claimed = bench.claim(run, path)
    bench.finish(claimed, json.loads(claimed.input))


def decision(bench: Bench, run: UUID) -> dict[str, object]:
    (event,) = [event for event in bench.events(run) if event.kind is EventKind.STEP_DECIDED]
    return event.data


def test_a_run_says_for_whom_it_waits_and_what_to_do(baton: Baton, asked: tuple[UUID, int]) -> None:
    run, wait = asked

    shown = baton("runs", "show", str(run)).stdout

    assert f"step 1 waits for ann or bob to approve 'spend': baton approvals show {wait}" in " ".join(
        shown.split()
    )


def test_approvals_are_listed_and_shown_with_what_is_to_be_approved(
    baton: Baton, bench: Bench, asked: tuple[UUID, int]
) -> None:
    run, wait = asked

    line = baton("approvals", "ls").stdout.splitlines()[1]
    assert f"1 of {run}" in line
    assert "ann, bob" in line
    assert told(baton("approvals", "ls", "--for", "carl", "--json")) == []
    (one,) = told(baton("approvals", "ls", "--for", "ann", "--run", "last", "--json"))
    assert (one["id"], one["request"]["risk"]) == (wait, "high")
    shown = baton("approvals", "show", str(wait)).stdout
    assert "message: Company money." in shown
    assert '"amount": 500' in shown
    assert "expires in 60 min" in shown
    assert 'edited payload: {"type": "object"' in shown


def test_an_approval_is_kept_with_who_made_it_and_what_was_shown(
    baton: Baton, bench: Bench, asked: tuple[UUID, int]
) -> None:
    run, wait = asked

    done = baton("approvals", "approve", str(wait), "--by", "ann", "--reason", "cheap")
    work(bench, run, "2")

    assert done.stdout == f"{wait}, approve spend, was approved by ann.\n"
    assert f"next:  baton runs watch {run}" in done.stderr
    assert bench.end(run).output == {"amount": 500}
    kept = decision(bench, run)
    assert (kept["choice"], kept["by"], kept["reason"]) == ("approved", "ann", "cheap")
    assert kept["shown"] == {"amount": 500}
    assert str(kept["digest"]).startswith("sha256:")
    assert "was approved by ann: cheap" in baton("runs", "explain", str(run)).stdout
    (one,) = told(baton("approvals", "ls", "--all", "--json"))
    assert (one["decision"], one["settled_by"]) == ("approved", "ann")


def test_a_payload_is_edited_from_a_file_and_checked_against_its_type(
    baton: Baton, bench: Bench, asked: tuple[UUID, int], tmp_path: Path
) -> None:
    run, wait = asked
    file = tmp_path / "less.json"
    file.write_text('{"amount": 90}')

    wrong = baton("approvals", "approve", str(wait), "--by", "ann", "--edit", '{"amount": "few"}', code=1)
    assert 'the payload of \'spend\': amount: "few" is not of type "integer"' in wrong.stderr
    broken = baton("approvals", "approve", str(wait), "--by", "ann", "--edit", "{", code=1)
    assert "--edit: it is not JSON" in broken.stderr
    baton("approvals", "approve", str(wait), "--by", "ann", "--edit", f"@{file}")
    work(bench, run, "2")

    assert bench.end(run).output == {"amount": 90}
    edited = decision(bench, run)["edited"]
    assert isinstance(edited, dict)
    assert edited["shown"] == {"amount": 90}


def test_a_rejection_is_the_reason_why_a_run_failed(
    baton: Baton, bench: Bench, asked: tuple[UUID, int]
) -> None:
    run, wait = asked

    done = told(baton("approvals", "reject", str(wait), "--by", "bob", "--reason", "too dear", "--json"))

    assert (done["decision"], done["settled_by"], done["reason"]) == ("rejected", "bob", "too dear")
    error = bench.end(run).error
    assert error is not None
    assert (error.type, error.message) == ("Rejected", "bob rejected 'spend': too dear")


def test_what_cannot_be_decided_is_said_in_one_sentence(baton: Baton, asked: tuple[UUID, int]) -> None:
    _, wait = asked

    assert f"there is no approval {wait + 1}" in baton("approvals", "show", str(wait + 1), code=1).stderr
    assert "there is no approval" in baton("approvals", "approve", str(2**70), code=1).stderr
    stranger = baton("approvals", "approve", str(wait), "--by", "carl", code=1).stderr
    assert f"{wait}, 'spend', is for ann or bob to decide, not for carl" in stranger
    odd = baton("approvals", "answer", str(wait), "42", "--by", "ann", code=1).stderr
    assert f"{wait} is an approval, 'spend'" in odd
    assert f"next:  baton approvals approve {wait}" in odd
    baton("approvals", "approve", str(wait), "--by", "ann")
    late = baton("approvals", "reject", str(wait), "--by", "bob", code=1).stderr
    assert f"{wait}, 'spend', was approved by ann already" in late


@pytest.mark.parametrize("by", ["", " ", "a\0b", "\ud800", "x" * 201])
def test_a_decision_is_somebodys(client: Client, asked: tuple[UUID, int], by: str) -> None:
    with pytest.raises(InputError, match="by"):
        client.approve(asked[1], by=by)


def test_of_two_people_who_decide_at_once_one_hears_that_it_was_decided(client: Client, bench: Bench) -> None:
    run = bench.submit(workflow("many", each(approve("item"))), list(range(10)))
    bench.drain()
    waits = [one.id for one in client.approvals(run_id=run)]

    def decide(by: str, wait: int) -> str:
        try:
            return str((client.approve if by == "ann" else client.reject)(wait, by=by).settled_by)
        except Conflict as conflict:
            return str(conflict)

    with ThreadPoolExecutor(2) as people:
        for wait in waits:
            heard = list(people.map(decide, ("ann", "bob"), (wait, wait)))
            winner = client.approval(wait).settled_by
            assert heard.count(str(winner)) == 1
            assert sum("already" in one for one in heard) == 1


def test_what_was_withdrawn_can_no_longer_be_decided(
    client: Client, bench: Bench, asked: tuple[UUID, int]
) -> None:
    run, wait = asked
    bench.engine.cancel(run)

    with pytest.raises(Conflict, match="was withdrawn by cancel already"):
        client.approve(wait, by="ann")


def test_results_of_a_fan_out_are_shown_and_edited_as_one_value(client: Client, bench: Bench) -> None:
    run = bench.submit(workflow("w", each(named("a")) >> approve("all") >> named("b")), [1, 2])
    bench.drain()
    (one,) = client.approvals()
    assert client.approval(one.id).payload == {"results": [1, 2], "gaps": []}

    with pytest.raises(InputError):
        client.approve(one.id, by="ann", payload=[1])
    client.approve(one.id, by="ann", payload={"results": [3], "gaps": []})
    work(bench, run, "2")

    assert bench.end(run).output == {"results": [3], "gaps": []}


def test_whoever_waits_for_a_result_hears_for_whom_the_run_waits(
    client: Client, asked: tuple[UUID, int]
) -> None:
    run, wait = asked

    with pytest.raises(ResultTimeout, match="waits for ann or bob to decide: spend") as late:
        client.result(run, timeout=0.0)

    assert late.value.next_step == f"baton approvals show {wait}"


def test_a_number_that_is_no_approval_is_not_found(client: Client) -> None:
    for odd in (0, -1, 2**63, 7):
        with pytest.raises(NotFound) as refused:
            client.approval(odd)
        assert isinstance(refused.value, BatonError)
        assert json.dumps(refused.value.next_step) == '"baton approvals ls"'
