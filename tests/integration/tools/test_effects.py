"""What may have had its effect is not done again, whatever stands around the tool."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.tools.test_calling import end, plain
from tests.integration.worker.test_asking import Desk
from tests.integration.worker.test_thinking import desk as desk
from workers import Retry, ToolError, fallback, tool

QUICK = Retry(max=2, base=0.01)


@pytest.mark.parametrize("retries", [0, 2])
def test_a_fallback_does_not_do_what_the_first_one_may_have_done(desk: Desk, retries: int) -> None:
    did: list[str] = []

    @tool(idempotent=False)
    async def pay() -> str:
        did.append("paid")
        raise OSError("the line was cut")

    async def pay_elsewhere() -> str:
        did.append("paid elsewhere")
        return "paid"

    either = fallback("pay_one", [pay, pay_elsewhere])
    run = desk.start(plain(lambda ctx: ctx.use(either), retry=Retry(max=retries, base=0.01)))

    told = end(desk, run)
    assert ("nobody knows how it ended" if retries else "the line was cut") in told
    assert did == ["paid"]


@pytest.mark.parametrize("others", [0, 1])
def test_an_effect_whose_result_does_not_fit_was_had(desk: Desk, others: int) -> None:
    did: list[str] = []

    @tool(idempotent=False)
    async def pay() -> int:
        did.append("paid")
        return "receipt"  # type: ignore[return-value]

    async def pay_elsewhere() -> int:
        did.append("paid elsewhere")
        return 1

    one: Any = fallback("pay_one", [pay, pay_elsewhere]) if others else pay
    run = desk.start(plain(lambda ctx: ctx.use(one), retry=QUICK))

    assert "nobody knows how it ended" in end(desk, run)
    assert did == ["paid"]


def test_a_fallback_does_what_the_first_one_says_it_has_not_done(desk: Desk) -> None:
    @tool(idempotent=False)
    async def pay() -> str:
        raise ToolError("not now")

    async def pay_elsewhere() -> str:
        return "paid elsewhere"

    run = desk.start(plain(lambda ctx: ctx.use(fallback("pay_one", [pay, pay_elsewhere]))))

    assert end(desk, run) == "paid elsewhere"
