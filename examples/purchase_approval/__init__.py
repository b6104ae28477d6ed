"""Purchases are ordered when somebody has looked at those that are dear or odd; the small ones go through.

What costs little is ordered at once, what costs more is ordered and people are told, what is dear or comes from a
supplier that nobody knows waits for a person, two days at most. Where no cost center pays, the agent asks. The agents
are rules in plain functions, not language models.

    baton run purchases @examples/purchase_approval/purchases.csv --app examples.purchase_approval
    baton approvals ls                          # and: show ID, approve ID, reject ID, answer ID ANSWER
"""

from __future__ import annotations

import csv
import hashlib
import io
from typing import Literal

from pydantic import BaseModel, Field

from orchestrator import approve, each, workflow
from schemas import Gathered
from workers import Context, Permanent, agent

KNOWN = {"Kabelwerk", "Moebel Nord", "Rechenzentrum Direkt", "Buero Express"}
"""Suppliers that somebody has bought from."""

SMALL, LARGE = 100.0, 1_000.0
"""Euros up to which nobody looks, and from which somebody must."""

TWO_DAYS = 2 * 24 * 3_600.0


class Sheet(BaseModel):
    text: str = Field(description="CSV with item, quantity, unit_price, supplier, cost_center, requested_by.")


class Purchase(BaseModel):
    item: str
    quantity: int = Field(gt=0)
    unit_price: float = Field(ge=0)
    supplier: str
    cost_center: str = ""
    requested_by: str


class Request(Purchase):
    """A purchase with what speaks for a look at it; whoever approves it may edit it."""

    amount: float
    risk: Literal["low", "medium", "high"]
    reasons: list[str]
    declined: bool = False


class Order(BaseModel):
    item: str
    amount: float
    number: str | None
    """None for what was not ordered."""
    cost_center: str


class Report(BaseModel):
    ordered: list[Order]
    declined: list[str]
    total: float
    missing: list[str]
    """What went wrong, for a person to read."""


@agent
async def read_sheet(sheet: Sheet) -> list[Purchase]:
    """One purchase for each line."""
    rows = list(csv.DictReader(io.StringIO(sheet.text)))
    if not rows:
        raise Permanent("the sheet has no lines below its header")
    return [Purchase.model_validate(row) for row in rows]


@agent
async def assess(purchase: Purchase) -> Request:
    """Says how dear and how odd a purchase is."""
    amount = round(purchase.quantity * purchase.unit_price, 2)
    reasons = []
    if purchase.supplier not in KNOWN:
        reasons.append(f"nobody has bought from {purchase.supplier} yet")
    if amount >= LARGE:
        reasons.append(f"{amount:.2f} EUR is {LARGE:.0f} EUR or more")
    risk: Literal["low", "medium", "high"] = "high" if reasons else "low" if amount < SMALL else "medium"
    return Request(**purchase.model_dump(), amount=amount, risk=risk, reasons=reasons)


@agent
async def decline(request: Request) -> Request:
    """What becomes of a purchase that was rejected, or that nobody looked at in time."""
    return request.model_copy(update={"declined": True})


@agent
async def order(ctx: Context, request: Request) -> Order:
    """Orders once, however often it is executed; asks who pays where nobody does."""
    if request.declined:
        return Order(item=request.item, amount=request.amount, number=None, cost_center=request.cost_center)
    amount = round(request.quantity * request.unit_price, 2)  # whoever approved it may have changed these
    center = request.cost_center or await ctx.ask_human(
        f"Which cost center pays {amount:.2f} EUR for {request.item}?",
        context=request,
        expires=TWO_DAYS,
        default="general",
    )
    number = await ctx.once("order", lambda: _ordered(ctx.idempotency_key))
    return Order(item=request.item, amount=amount, number=number, cost_center=center)


@agent
async def report(orders: Gathered[Order]) -> Report:
    """What was ordered, what was not, and what it costs."""
    ordered = [one for one in orders.results if one.number is not None]
    return Report(
        ordered=ordered,
        declined=[one.item for one in orders.results if one.number is None],
        total=round(sum(one.amount for one in ordered), 2),
        missing=[f"line {int(gap.branch) + 1}: {gap.reason}" for gap in orders.gaps],
    )


def _ordered(key: str) -> str:
    """Here a shop would be called, with this key, so that it takes an order once even if a worker dies meanwhile."""
    return f"PO-{hashlib.sha256(key.encode()).hexdigest()[:8].upper()}"


purchases = workflow(
    "purchases",
    read_sheet
    >> each(
        assess
        >> approve(
            "spend",
            message="Buy this?",
            risk="input.risk",
            expires=TWO_DAYS,
            escalate_to=["cfo"],
            escalate_after=TWO_DAYS / 2,
        ).otherwise(decline)
        >> order,
        join=report,
        require=1,
    ),
    description="Orders what may be bought; what is dear or odd waits for a person.",
)
