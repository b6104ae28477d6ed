"""The tickets of the example find the desks that a person would send them to."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from examples import support_triage
from examples.support_triage import LONGEST, Reply, Ticket, billing, classify, desk, shorten, triage
from orchestrator.definitions.compile import compile_workflow
from orchestrator.engine.routing import by_answer, by_rules

TICKETS = json.loads((Path(support_triage.__file__).parent / "tickets.json").read_text())


@pytest.mark.parametrize(
    ("number", "way", "by"),
    [
        (0, "billing", "rule"),
        (1, "technical", "agent"),
        (2, "person", "fallback"),
        (3, "key_account", "rule"),
        (4, "billing", "agent"),
        (5, "person", "fallback"),
    ],
)
def test_each_ticket_finds_its_desk(number: int, way: str, by: str) -> None:
    node = desk.node
    decision = by_rules(node, TICKETS[number])  # type: ignore[arg-type]
    if decision is None:
        answer = asyncio.run(classify.function(Ticket(**TICKETS[number])))
        decision = by_answer(node, answer.model_dump())  # type: ignore[arg-type]

    assert (decision.choice, decision.by) == (way, by)


def test_an_answer_gets_shorter_with_each_round() -> None:
    reply: Reply = asyncio.run(billing.function(Ticket(**TICKETS[0])))
    assert len(reply.text) > LONGEST

    for _ in range(2):
        reply = asyncio.run(shorten.function(reply))

    assert len(reply.text) <= LONGEST
    assert reply.text.startswith("Thank you")
    assert reply.text.endswith("Yours, billing")


def test_the_workflow_takes_a_list_of_tickets() -> None:
    assert compile_workflow(triage).input_schema["items"]
