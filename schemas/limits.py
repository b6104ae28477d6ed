"""How much of an agent, a tool or a model the whole cluster runs at a time, and how often it starts."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from schemas.base import Frozen

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}


class Limit(Frozen):
    """A limit of all workers together. What is over it waits in Postgres and holds no worker."""

    name: str | None = Field(
        default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$", exclude_if=lambda name: name is None
    )
    """What has limits of one name is counted together: steps of several agents, or calls of several tools and models.
    So `fair = Limit(name="fair", per="tenant", concurrency=20)`, given to all agents, is a cap of each tenant."""
    per: Literal["agent", "tenant", "key"] = "agent"
    """What is counted together: all steps of the agent, those of one tenant, or those of one key of a tenant. Of a tool
    or a model: all calls of it, whoever makes them, those of one tenant, or those of one key of a tenant."""
    concurrency: int | None = Field(default=None, ge=1, le=100_000)
    """Attempts, or calls, that run at a time."""
    rate: str | None = Field(default=None, pattern=r"^[1-9]\d{0,8}/[smh]$")
    """Attempts, or calls, that start per second, minute or hour, evenly spaced: `60/m` is one per second."""
    burst: int = Field(default=1, ge=1, le=100_000)
    """How many of them may start at once after a while without any."""
    key: str | None = None
    """With `per="key"`: an expression in CEL over the `input` of the step, or the arguments of the tool, which it calls
    `input` as well. Those for which it cannot be told count together."""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.concurrency is None and self.rate is None:
            raise ValueError("a limit needs a concurrency, a rate, or both")
        if self.burst > 1 and self.rate is None:
            raise ValueError("a burst needs a rate")
        if (self.per == "key") != (self.key is not None):
            raise ValueError('per="key" needs a key, such as key="input.customer", and a key needs per="key"')
        return self

    @property
    def interval(self) -> float:
        """Seconds between two starts of its rate."""
        assert self.rate is not None  # noqa: S101  only asked of a rate
        number, unit = self.rate.split("/")
        return _SECONDS[unit] / int(number)
