"""What is known about the licence of one package: texts, declaration, and what follows from both."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from examples.dependency_review.declared_license import Declared, declared
from examples.dependency_review.license_match import Match, licenses_in
from examples.dependency_review.license_terms import FINE, Judgement, base, best, judge, worst
from examples.dependency_review.metadata import Metadata, cite
from examples.dependency_review.models import Citation, LicenseFile, Material
from examples.dependency_review.spdx_expression import normalised, parse


@dataclass(frozen=True)
class Identified:
    """A licence found in a file."""

    license: str
    match: Match
    file: LicenseFile

    @property
    def citation(self) -> Citation:
        return cite(self.file, self.match.line, self.match.last_line)


class Case:
    """Everything about the licence of one package, worked out on demand."""

    def __init__(self, material: Material) -> None:
        self.material = material
        self.project = material.package.project_license
        self.metadata = Metadata(material.metadata)
        self.said: Declared | None = declared(self.metadata)
        every = [
            Identified(match.license, match, file)
            for file in material.licenses
            for match in licenses_in(file.text)
        ]
        self.own = _without_base_texts(_once([one for one in every if not one.file.bundled]), self.said)
        self.bundled = _once([one for one in every if one.file.bundled])

    @cached_property
    def own_files(self) -> list[LicenseFile]:
        files = [one for one in self.material.licenses if not one.bundled]
        return [one for one in files if "notice" not in one.file.rpartition("/")[2].lower()]

    @cached_property
    def agreeing(self) -> list[Identified]:
        """The package's own licence texts that fulfil its declaration."""
        return [one for one in self.own if self.said and self.said.allows(one.license)]

    @property
    def contradicted(self) -> bool:
        """Whether there are texts, and none is what was declared."""
        return bool(self.own and self.said and self.said.acceptable and not self.agreeing)

    @cached_property
    def license(self) -> str:
        """An SPDX expression where possible; what a text grants counts more than what is declared."""
        if self.said and self.said.expression and not self.contradicted:
            return next(iter(self._with_exception(self.said.expression)), self.said.expression)
        texts = [one.license for one in (self.agreeing or self.own)]
        if texts:
            joined = " AND ".join(texts)
            return normalised(joined) or joined
        return self.said.text if self.said else "unknown"

    def _with_exception(self, expression: str) -> list[str]:
        """The declared licence with the added permission that its text has, and the metadata often omit."""
        texts = [one.license for one in self.agreeing if " WITH " in one.license]
        return [one for one in texts if one.partition(" WITH ")[0] in (expression, base(expression))]

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """The licences in `license`; of an ambiguous declaration without a text, the most likely one."""
        if self.license == "unknown" or (not self.own and self.said and not self.said.expression):
            return self.said.acceptable[:1] if self.said else ()
        return parse(self.license).ids()

    @property
    def judgement(self) -> Judgement:
        if not self.ids:
            return FINE
        if len(self.ids) == 1:
            return judge(self.ids[0], self.project)
        return parse(self.license).evaluate(lambda id: judge(id, self.project), worst, best)

    @property
    def evidence(self) -> list[Citation]:
        """Where the licence is to be read."""
        texts = self.agreeing or self.own
        telling = [one for one in texts if judge(one.license, self.project) is not FINE]
        places = [one.citation for one in (telling or texts)]
        return places + ([self.metadata.at(self.said.field)] if self.said and not self.contradicted else [])


def _once(found: list[Identified]) -> list[Identified]:
    """The first place of every licence; a notice gives way to a text of the same licence."""
    kept: list[Identified] = []
    for one in sorted(found, key=lambda each: each.match.kind == "notice"):
        if not any(base(one.license) == base(other.license) for other in kept):
            kept.append(one)
    return kept


def _without_base_texts(found: list[Identified], said: Declared | None) -> list[Identified]:
    """LGPL packages ship the GPL's text as well, which theirs builds upon: that is no second licence."""
    if not any(base(one.license).startswith("LGPL") for one in found):
        return found
    return [
        one
        for one in found
        if not one.license.startswith("GPL")
        or " WITH " in one.license
        or (said is not None and said.allows(one.license))
    ]
