"""What is proposed for a paused run lets it go on."""

from __future__ import annotations

from uuid import UUID

import pytest

from orchestrator.watching.held import lets_go_on

RUN, ABOVE = UUID(int=1), UUID(int=2)
ASIDE = "step 0/1 lost its worker 3 times; see: baton dead show 17"


@pytest.mark.parametrize(
    ("reason", "command"),
    [
        ("lunch", f"baton runs resume {RUN}"),
        ("", f"baton runs resume {RUN}"),
        (f"run {ABOVE} is paused: lunch", f"baton runs resume {ABOVE}"),
        (ASIDE, "baton dead show 17"),
        (f"run {ABOVE} is paused: {ASIDE}", "baton dead show 17"),
    ],
)
def test_what_lets_it_go_on_is_proposed(reason: str, command: str) -> None:
    assert lets_go_on(RUN, reason) == command
