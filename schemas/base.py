"""The base of every model here: frozen, and strict about unknown fields."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """A value: cannot be changed after construction, and refuses fields that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")
