"""Reads SPDX licence expressions (annex D of the SPDX specification) and evaluates them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

T = TypeVar("T")
_TOKEN = re.compile(r"\(|\)|[^\s()]+")


@dataclass(frozen=True)
class Licenses:
    """An expression: one licence, or parts of which all (`AND`) or one (`OR`) apply."""

    operator: str = ""
    """`AND`, `OR`, or nothing for one licence."""
    parts: tuple[Licenses, ...] = ()
    id: str = ""
    """The licence, with its exception if there is one: `GPL-3.0-only WITH GCC-exception-3.1`."""

    def ids(self) -> tuple[str, ...]:
        """All licences that occur, in order."""
        return (self.id,) if self.id else tuple(id for part in self.parts for id in part.ids())

    def evaluate(
        self, one: Callable[[str], T], all_of: Callable[[list[T]], T], any_of: Callable[[list[T]], T]
    ) -> T:
        """Fold the expression: `one` for a licence, `all_of` for `AND`, `any_of` for `OR`."""
        if self.id:
            return one(self.id)
        values = [part.evaluate(one, all_of, any_of) for part in self.parts]
        return all_of(values) if self.operator == "AND" else any_of(values)


def normalised(text: str) -> str | None:
    """The expression in the spelling of the SPDX list, or None if it is not a valid one."""
    try:
        return str(canonicalize_license_expression(text))
    except InvalidLicenseExpression:
        return None


def parse(expression: str) -> Licenses:
    """The tree of a valid expression, as `normalised` returns it."""
    tokens = _TOKEN.findall(expression)
    return _alternatives(tokens)


def _alternatives(tokens: list[str]) -> Licenses:
    parts = [_conjunction(tokens)]
    while tokens and tokens[0].upper() == "OR":
        tokens.pop(0)
        parts.append(_conjunction(tokens))
    return parts[0] if len(parts) == 1 else Licenses("OR", tuple(parts))


def _conjunction(tokens: list[str]) -> Licenses:
    parts = [_single(tokens)]
    while tokens and tokens[0].upper() == "AND":
        tokens.pop(0)
        parts.append(_single(tokens))
    return parts[0] if len(parts) == 1 else Licenses("AND", tuple(parts))


def _single(tokens: list[str]) -> Licenses:
    token = tokens.pop(0)
    if token == "(":  # noqa: S105  a parenthesis, not a password
        inner = _alternatives(tokens)
        tokens.pop(0)
        return inner
    if tokens and tokens[0].upper() == "WITH":
        tokens.pop(0)
        return Licenses(id=f"{token} WITH {tokens.pop(0)}")
    return Licenses(id=token)
