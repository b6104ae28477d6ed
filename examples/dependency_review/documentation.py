"""The documentation agent: what a package says it is for, in its own sentences."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from examples.dependency_review.metadata import Metadata, cite
from examples.dependency_review.models import Citation, DocumentationDigest, Finding, Material, Severity
from examples.prose import Block, blocks
from examples.sentences import Sentence, key_sentences, sentences_of
from workers import agent

KEEP = 3
"""Sentences of a digest."""
SHORT = 30
"""Words below which a description tells a reader next to nothing."""
_OTHER_MATTERS = re.compile(
    r"licen[cs]|copying|sponsor|funding|donat|backers"
    r"|contribut|credits|acknowledg|thanks|security contact|code of conduct|bug tracker|wiki|mailing list"
    r"|enterprise|author|table of contents|supported python|version",
    re.I,
)
_CHANGES = re.compile(r"change ?log|^changes|^history|release notes|what's new|^v?\d+\.\d+", re.I)
_BOILERPLATE = re.compile(r"tidelift|sponsor|donat|open ?collective|code of conduct|mailing list|badge", re.I)


@agent(timeout=60)
def documentation_digest(material: Material) -> DocumentationDigest:
    """Take the key sentences from a package's description, each with its place."""
    metadata = Metadata(material.metadata)
    summary = metadata.get("Summary")
    text, first_line = metadata.description
    title = f"{material.package.name} {summary.value if summary else ''}"
    found = list(blocks(text, first_line))
    about = [one for one in sentences_of(_about_it(found)) if not _BOILERPLATE.search(one.text)]
    return DocumentationDigest(
        package=material.package.name,
        version=material.package.version,
        summary=summary.value if summary else "",
        key_sentences=[_quote(metadata, one) for one in key_sentences(about, KEEP, title)],
        sections=[one.text for one in found if one.heading][:20],
        findings=list(_findings(metadata, text)),
    )


def _about_it(found: Iterable[Block]) -> Iterator[Block]:
    """Without the sections on licence, money and people; a change log ends what is worth reading."""
    skipped_level = 0
    for block in found:
        if block.heading:
            if _CHANGES.search(block.text):
                return
            if skipped_level and block.heading > skipped_level:
                continue
            skipped_level = block.heading if _OTHER_MATTERS.search(block.text) else 0
        if not skipped_level:
            yield block


def _quote(metadata: Metadata, sentence: Sentence) -> Citation:
    return Citation(file=metadata.source.file, line=sentence.line, quote=sentence.text)


def _findings(metadata: Metadata, text: str) -> Iterator[Finding]:
    words = len(text.split())
    if not words:
        yield _finding("documentation.none", "minor", "Has no description", metadata.nowhere())
    elif words < SHORT:
        first_line = metadata.description[1]
        place = cite(
            metadata.source, first_line + next(i for i, one in enumerate(text.split("\n")) if one.strip())
        )
        yield _finding("documentation.short", "info", f"Its description has only {words} words", place)


def _finding(rule: str, severity: Severity, message: str, place: Citation) -> Finding:
    return Finding(rule=rule, severity=severity, message=message, citations=[place])
