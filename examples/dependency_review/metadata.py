"""The core metadata of a package (packaging.python.org, "Core metadata"), by field with line numbers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from examples.dependency_review.models import Citation, SourceText

_FIELD = re.compile(r"^([A-Za-z][A-Za-z0-9-]*)\s*:\s?(.*)$")
_QUOTE = 160


@dataclass(frozen=True)
class Field:
    """One header field; continuation lines are part of its value."""

    name: str
    """In lower case."""
    value: str
    line: int


@dataclass(frozen=True)
class Metadata:
    """A `METADATA` file, read leniently: what is no field is passed over."""

    source: SourceText

    @cached_property
    def lines(self) -> list[str]:
        return self.source.text.split("\n")

    @cached_property
    def _end(self) -> int:
        """The number of header lines."""
        return next((i for i, line in enumerate(self.lines) if not line), len(self.lines))

    @cached_property
    def fields(self) -> list[Field]:
        found: list[Field] = []
        for number, line in enumerate(self.lines[: self._end], 1):
            if match := _FIELD.match(line):
                found.append(Field(match[1].lower(), match[2].strip(), number))
            elif found and line[:1].isspace():
                # Continuation lines are indented by spaces, in old files with a bar in front of the text.
                rest = re.sub(r"^(?: {7}\|| {8}|\s)", "", line)
                found[-1] = Field(found[-1].name, f"{found[-1].value}\n{rest}", found[-1].line)
        return found

    def all(self, name: str) -> list[Field]:
        """Every field of this name with a value that says something."""
        wanted = name.lower()
        return [one for one in self.fields if one.name == wanted and one.value not in ("", "UNKNOWN")]

    def get(self, name: str) -> Field | None:
        return next(iter(self.all(name)), None)

    def classifiers(self, group: str) -> list[Field]:
        """The classifiers below `group`, such as `License`, without it."""
        prefix = f"{group} :: "
        return [
            Field(one.name, one.value.removeprefix(prefix), one.line)
            for one in self.all("Classifier")
            if one.value.startswith(prefix)
        ]

    @property
    def description(self) -> tuple[str, int]:
        """The description and the number of its first line: the body, or in old files a field."""
        body = "\n".join(self.lines[self._end + 1 :])
        field = self.get("Description")
        if field and not body.strip():
            return field.value, field.line
        return body, self._end + 2

    def at(self, field: Field) -> Citation:
        return cite(self.source, field.line)

    def nowhere(self) -> Citation:
        """The whole header, for a field that is not in it."""
        return cite(self.source, 1, max(self._end, 1))


def cite(source: SourceText, line: int, last_line: int | None = None) -> Citation:
    """A place in a file that was read."""
    lines = source.text.split("\n")
    quote = " ".join(lines[line - 1].split()) if line <= len(lines) else ""
    return Citation(
        file=source.file,
        line=line,
        last_line=last_line if last_line != line else None,
        quote=quote if len(quote) <= _QUOTE else quote[: _QUOTE - 1] + "…",
    )
