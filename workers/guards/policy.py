"""What an agent's guard is told to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pydantic import Field

from schemas.base import Frozen
from schemas.errors import Fault
from schemas.settings import Policy
from workers.guards.personal import KINDS, PersonalKind


class Guard(Frozen):
    """What becomes of secrets and personal data in what an agent gives, notes and fails with.

    `mask` puts the name of its kind in its place, `<email>`, before it is stored; `refuse` fails the step for good
    where the output has any, and masks elsewhere; `allow` lets it pass in what programs read: outputs, the journal,
    what agents share. In events, errors and logs secrets are always masked, and the credentials of the worker's own
    environment are everywhere.
    """

    secrets: Policy = "mask"
    personal: Policy | None = None
    """None is what `BATON_PERSONAL` of the worker says, which is `allow` if it says nothing."""
    kinds: tuple[PersonalKind, ...] = KINDS
    """The personal data that is looked for."""
    injection: bool | Callable[..., Any] = True
    """Whether what tools give a model is searched for orders to it, or by whom: see `workers.guards.injection`."""
    threshold: float = Field(default=0.5, gt=0, le=1)
    """The score from which on that raises the risk of the calls that follow."""


def guard_faults(guard: object) -> Iterator[Fault]:
    """What is wrong with what an agent declares as its guard."""
    if guard is not None and not isinstance(guard, Guard):
        yield Fault("guard", f'it is Guard(personal="mask", ...), not {guard!r}')


PLAIN = Guard()
"""For agents that declare none."""
