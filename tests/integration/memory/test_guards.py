"""What is remembered is masked first, as all that agents read again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.memory.conftest import Mind
from workers import Context, Guard, agent

TOKEN = "gh" + "p_" + "16C7e42F292c6912E7710c838347Ae178B4a"
MAIL = "ada@example.org"
PASSWORD = "correct-horse-battery"


@pytest.fixture
def mind(url: str) -> Iterator[Mind]:
    made = Mind(url)
    yield made
    made.close()


def test_what_is_remembered_is_masked(mind: Mind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRM_PASSWORD", PASSWORD)

    @agent(guard=Guard(personal="mask"))
    async def guarded(ctx: Context, _: Any) -> str:
        await ctx.memory.remember(f"{MAIL} uses {PASSWORD}", data={"token": TOKEN})
        return "done"

    @agent
    async def plain(ctx: Context, _: Any) -> str:
        await ctx.memory.remember(f"{MAIL} uses {PASSWORD}", data={"token": TOKEN})
        return "done"

    mind.begun(guarded)
    mind.begun(plain)

    assert mind.query("SELECT text, data FROM memories ORDER BY id") == [
        ("<email> uses <CRM_PASSWORD>", {"token": "<secret:github>"}),
        (f"{MAIL} uses <CRM_PASSWORD>", {"token": "<secret:github>"}),
    ]
