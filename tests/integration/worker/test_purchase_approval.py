"""The purchases of the example: which are ordered at once, which wait for whom, and what comes of it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from examples import purchase_approval
from examples.purchase_approval import Purchase, assess, purchases
from tests.integration.cli.test_moving_runs import Baton, told
from tests.integration.cli.test_moving_runs import baton as baton
from tests.integration.engine.bench import Bench
from tests.integration.worker.test_asking import Desk, later
from tests.integration.worker.test_asking import desk as desk
from workers import Agent

SHEET = (Path(purchase_approval.__file__).parent / "purchases.csv").read_text()


def started(desk: Desk) -> UUID:
    desk.agents |= {one.name: one for one in vars(purchase_approval).values() if isinstance(one, Agent)}
    run = desk.submit(purchases, {"text": SHEET})
    desk.work()
    return run


def open_(desk: Desk, run: UUID) -> dict[str, int]:
    """What waits for people, by what it is about."""
    found = {}
    for one in desk.people.approvals(run_id=run):
        payload = desk.people.approval(one.id).payload
        found[payload["item"] if payload else one.key] = one.id
    return found


def report(desk: Desk, run: UUID) -> Any:
    return desk.end(run).output


@pytest.mark.parametrize(("line", "risk"), list(enumerate(["low", "medium", "high", "medium", "high"])))
def test_each_purchase_of_the_sheet_has_its_risk(line: int, risk: str) -> None:
    names, *rows = [row.split(",") for row in SHEET.splitlines()]
    purchase = Purchase.model_validate(dict(zip(names, rows[line], strict=True)))

    assert asyncio.run(assess.function(purchase)).risk == risk


def test_what_is_dear_or_odd_waits_and_the_rest_is_ordered(desk: Desk) -> None:
    run = started(desk)
    waiting = open_(desk, run)
    assert set(waiting) == {
        "GPU server with 2 accelerators",
        "Team dinner voucher",
        "Which cost center pays 139.00 EUR for Label printer?",
    }

    # When one is approved with a smaller number, one is rejected, and the question is answered
    dinner = desk.people.approval(waiting["Team dinner voucher"]).payload
    desk.people.approve(waiting["Team dinner voucher"], by="mira", payload={**dinner, "quantity": 10})
    desk.people.reject(waiting["GPU server with 2 accelerators"], by="amara", reason="rent it")
    desk.people.answer(waiting["Which cost center pays 139.00 EUR for Label printer?"], "ops", by="tomas")
    desk.work()

    # Then that is what is bought
    found = report(desk, run)
    assert [one["item"] for one in found["ordered"]] == [
        "USB-C cables 1 m",
        "Standing desk",
        "Label printer",
        "Team dinner voucher",
    ]
    assert found["declined"] == ["GPU server with 2 accelerators"]
    assert found["total"] == 79 + 898 + 139 + 350
    assert {one["cost_center"] for one in found["ordered"]} == {"ops", "people"}
    assert len({one["number"] for one in found["ordered"]}) == 4


def test_what_nobody_looks_at_in_time_is_not_bought(desk: Desk) -> None:
    run = started(desk)

    later(desk)  # the second list is asked
    later(desk)

    found = report(desk, run)
    assert found["declined"] == ["GPU server with 2 accelerators", "Team dinner voucher"]
    assert {one["cost_center"] for one in found["ordered"]} == {"ops", "people", "general"}


def test_the_commands_of_the_readme_start_it_and_decide(baton: Baton, bench: Bench) -> None:
    file = Path(purchase_approval.__file__).parent / "purchases.csv"
    app = ("--app", "examples.purchase_approval")

    started = told(baton("run", "purchases", f"@{file}", *app, "--json"))

    run = UUID(started["id"])
    assert bench.query("SELECT input ->> 'text' FROM runs WHERE id = %s", run) == [(SHEET,)]
    bench.finish(bench.claim(run, "0"), [{"item": "Standing desk"}])
    request = {"item": "Standing desk", "risk": "high", "quantity": 2}
    bench.finish(bench.claim(run, "1/0/0"), request)
    (one,) = told(baton("approvals", "ls", "--json"))
    baton("approvals", "reject", str(one["id"]), "--reason", "rent it")
    assert bench.claim(run, "1/0/1/else").input
