"""The one `MetaData` on which every table of this house is declared, and what declarations have in common."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import DateTime, MetaData

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)
"""Constraints get predictable names, so that a migration can name what it changes."""

Time = DateTime(timezone=True)


def one_of(column: str, values: Iterable[str]) -> str:
    """The check that a column has one of these values."""
    listed = ", ".join(f"'{value}'" for value in values)
    return f"{column} IN ({listed})"
