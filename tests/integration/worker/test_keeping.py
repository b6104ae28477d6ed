"""What a block of `ctx.once` gave cannot always be kept: then its step fails for good, and nothing is done again."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tests.integration.worker.test_asking import Desk
from tests.integration.worker.test_asking import desk as desk
from workers import Context, Retry, agent

NUMBERS = {"NUL": "\0", "surrogate": "\ud800", "inf": math.inf, "nan": [math.nan], "huge": 10**5_000}


@pytest.mark.parametrize("given", NUMBERS.values(), ids=NUMBERS)
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_what_cannot_be_kept_is_not_done_again(desk: Desk, given: Any, is_async: bool) -> None:
    done = []

    def pay() -> Any:
        done.append(1)
        return given

    @agent(retry=Retry(max=2, base=0.001, cap=0.001))
    def payer(ctx: Context, value: int) -> str:
        return str(ctx.once("pay", pay))

    @agent(name="payer", retry=Retry(max=2, base=0.001, cap=0.001))
    async def later(ctx: Context, value: int) -> str:
        return str(await ctx.once("pay", pay))

    run = desk.start(later if is_async else payer, value=1)
    for _ in range(3):
        desk.query("UPDATE steps SET due_at = now() WHERE due_at IS NOT NULL")
        desk.fire()
        desk.work()

    error = desk.view(run).error
    assert error is not None
    assert error.type == "Permanent"
    assert done == [1]


async def _paid() -> int:
    raise AssertionError


@pytest.mark.parametrize("given", [lambda: 3, _paid], ids=["a value", "a coroutine"])
def test_what_is_no_function_is_told_at_once(desk: Desk, given: Any) -> None:
    @agent(retry=Retry(max=2, base=0.001, cap=0.001))
    async def payer(ctx: Context, value: int) -> int:
        return int(await ctx.once("pay", given()))

    run = desk.start(payer, value=1)

    error = desk.view(run).error
    assert error is not None
    assert error.message.startswith("ctx.once('pay', ...): give it the function")
    assert desk.view(run).steps[0].attempt == 1


@pytest.mark.parametrize("key", ["a\0", "a\ud800"], ids=["NUL", "surrogate"])
def test_a_key_that_cannot_be_stored_is_noticed_before_the_block(desk: Desk, key: str) -> None:
    done = []

    @agent(retry=Retry(max=2, base=0.001, cap=0.001))
    def payer(ctx: Context, value: int) -> int:
        ctx.once(key, lambda: done.append(1))
        return value

    run = desk.start(payer, value=1)

    error = desk.view(run).error
    assert error is not None
    assert error.type == "Permanent"
    assert done == []
