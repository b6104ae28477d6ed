"""Support tickets find their desk: rules first, a classifier for what they leave open, a person for the rest.

The agents are rules in plain functions, not language models; one that calls a model takes the place of one that does
not, without a change anywhere else.

    baton run triage @examples/support_triage/tickets.json --app examples.support_triage --watch
    baton runs explain RUN

How good they are is measured on `cases.jsonl`: the router alone, and whole answers.

    baton eval route triage examples/support_triage/cases.jsonl --app examples.support_triage
    baton eval ticket examples/support_triage/cases.jsonl --check examples.support_triage:well_answered
"""

from __future__ import annotations

from collections import Counter

from pydantic import BaseModel

from orchestrator import each, loop, route, rule, workflow
from schemas import Choice
from workers import agent

WORDS = {
    "billing": {"charged", "invoice", "payment", "price", "refund", "card", "subscription", "paid"},
    "technical": {"error", "crash", "crashes", "login", "slow", "update", "install", "timeout", "bug"},
}
"""What customers write about, by the desk that knows about it."""

LONGEST = 160
"""Characters of an answer: it also goes out as a text message."""


class Ticket(BaseModel):
    subject: str
    body: str
    plan: str = "free"


class Reply(BaseModel):
    desk: str
    text: str


@agent
async def classify(ticket: Ticket) -> Choice:
    """Counts the words of each desk; the share of the winner is the confidence."""
    words = f"{ticket.subject} {ticket.body}".casefold().replace(",", " ").replace(".", " ").split()
    counts = Counter({desk: sum(word in known for word in words) for desk, known in WORDS.items()})
    total = counts.total() or 1
    shares = {desk: count / total for desk, count in counts.items()}
    best = max(shares, key=lambda desk: shares[desk])
    return Choice(
        choice=best,
        confidence=shares[best],
        reason=f"{counts[best]} of its words are about {best}",
        alternatives={desk: share for desk, share in shares.items() if desk != best},
        features=dict(counts),
    )


@agent
async def billing(ticket: Ticket) -> Reply:
    """Answers about money."""
    return Reply(
        desk="billing",
        text=f"Thank you for writing about “{ticket.subject}”. We have looked at your account, and whatever was paid "
        "without reason comes back within five days. Please tell us the number of the invoice. Yours, billing",
    )


@agent
async def technical(ticket: Ticket) -> Reply:
    """Answers about what does not work."""
    return Reply(
        desk="technical",
        text=f"Thank you for writing about “{ticket.subject}”. Please send us the exact error and the version that "
        "you use. Until then, signing out and in again helps in most cases. Yours, the technical desk",
    )


@agent
async def key_account(ticket: Ticket) -> Reply:
    """Answers customers of the enterprise plan."""
    return Reply(desk="key_account", text=f"Your manager calls you today about “{ticket.subject}”.")


@agent
async def person(ticket: Ticket) -> Reply:
    """Takes whatever nobody else was sure about."""
    return Reply(desk="person", text=f"Somebody reads “{ticket.subject}” and comes back to you today.")


@agent
async def shorten(reply: Reply) -> Reply:
    """Leaves out the sentence before the last."""
    sentences = reply.text.split(". ")
    return reply.model_copy(update={"text": ". ".join([*sentences[:-2], sentences[-1]])})


desk = route(
    billing,
    technical,
    key_account,
    rules=[
        rule("enterprise", go="key_account", when="has(input.plan) && input.plan == 'enterprise'"),
        rule("refund", go="billing", keywords=("refund", "chargeback"), field="subject"),
    ],
    by=classify,
    threshold=0.6,
    fallback=person,
)

answered = desk >> loop(shorten, until=f"size(output.text) <= {LONGEST}", max_rounds=5).when(
    f"size(input.text) > {LONGEST}"
)

triage = workflow(
    "triage",
    each(answered),
    description="Finds the desk of each ticket, and an answer that fits into a text message.",
)

ticket = workflow("ticket", answered, description="The same for one ticket.")


def well_answered(output: dict[str, str], expected: str) -> dict[str, bool]:
    """For `baton eval`: whether the right desk answers, and briefly enough."""
    return {"desk": output["desk"] == expected, "brief": len(output["text"]) <= LONGEST}
