"""Digests any text, section by section: its key sentences, word for word and with their lines, and its terms.

    split_sections >> each section: digest_section >> merge_digests

No model and no key are needed: sentences are taken from the text, not written. Try it on a file of your own:
`baton run text-digest @README.md`.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from pydantic import BaseModel, Field
from rich.console import Group, RenderableType
from rich.text import Text as Styled

from examples.prose import blocks
from examples.sentences import key_sentences, key_terms, sentences
from orchestrator import each, workflow
from schemas import Gap, Gathered
from workers import agent

MAX_SECTIONS = 500
SECTION_LINES = 120
"""Lines after which a text without headings is cut at the next empty line."""
PER_SECTION = 2
"""Key sentences of a section."""
TERMS = 8


class Text(BaseModel):
    """A text in Markdown, reStructuredText or plain lines."""

    text: str = Field(max_length=5_000_000)
    title: str | None = None


class Section(BaseModel):
    """A part of the text, from its heading on."""

    title: str
    first_line: int
    text: str


class Sections(BaseModel):
    """The parts of a text, in order."""

    sections: list[Section]


class KeySentence(BaseModel):
    """A sentence of the text, and the line on which it starts."""

    line: int
    text: str


class SectionDigest(BaseModel):
    """What one section says."""

    title: str
    line: int
    words: int
    sentences: list[KeySentence]
    terms: list[str]


class Digest(BaseModel):
    """What the text says, section by section."""

    title: str
    words: int
    terms: list[str]
    """Those that most sections have in common first."""
    sections: list[SectionDigest]
    gaps: list[Gap] = []
    """Sections (by index) that could not be digested."""


@agent(timeout=60)
def split_sections(given: Text) -> Sections:
    """Cut a text at its headings, or where it has none, at empty lines."""
    lines = given.text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    headings = {one.line: one.text for one in blocks("\n".join(lines)) if one.heading}
    starts = sorted({1, *(line - _overlined(lines, line) for line in headings), *_cuts(lines, headings)})
    kept = starts[:MAX_SECTIONS]
    title = given.title or next(iter(headings.values()), "Text")
    found = []
    for start, end in zip(kept, [*kept[1:], len(lines) + 1], strict=True):
        body = "\n".join(lines[start - 1 : end - 1])
        if body.strip():
            heading = headings.get(start) or headings.get(start + 1)
            found.append(Section(title=heading or (title if start == 1 else ""), first_line=start, text=body))
    return Sections(sections=found)


@agent(timeout=60)
def digest_section(section: Section) -> SectionDigest:
    """Find the sentences that say most of a section, and the words that it is about."""
    found = sentences(section.text, section.first_line)
    return SectionDigest(
        title=section.title,
        line=section.first_line,
        words=len(section.text.split()),
        sentences=[KeySentence(line=one.line, text=one.text) for one in key_sentences(found, PER_SECTION)],
        terms=key_terms(found, TERMS),
    )


@agent(timeout=60)
def merge_digests(digests: Gathered[SectionDigest]) -> Digest:
    """Put the sections together; those that say nothing in sentences are left out."""
    sections = digests.results
    shared = Counter(term for one in sections for term in one.terms)
    return Digest(
        title=sections[0].title if sections else "",
        words=sum(one.words for one in sections),
        terms=[term for term, _ in shared.most_common(TERMS)],
        sections=[one for one in sections if one.sentences],
        gaps=digests.gaps,
    )


text_digest = workflow(
    "text-digest",
    split_sections
    >> each(digest_section, items="sections", join=merge_digests, require="any", max_items=MAX_SECTIONS),
    description="Digests any text, section by section, in its own sentences.",
    timeout=300,
)


def render(output: Digest | dict[str, Any]) -> RenderableType:
    """The digest for `rich.print`."""
    digest = output if isinstance(output, Digest) else Digest.model_validate(output)
    parts = [Styled(f"{digest.title} ({digest.words} words)", style="bold")]
    if digest.terms:
        parts.append(Styled(f"About: {', '.join(digest.terms)}", style="dim"))
    for one in digest.sections:
        parts.append(Styled(f"\n{one.title}", style="bold cyan"))
        parts += [Styled(f"  {each.line:>5}  {each.text}") for each in one.sentences]
    parts += [Styled(f"section {gap.branch} is missing: {gap.reason}", style="yellow") for gap in digest.gaps]
    return Group(*parts)


def _overlined(lines: list[str], line: int) -> int:
    """1 for a heading with a line above it, as reStructuredText has for titles."""
    above = lines[line - 2].strip() if line > 1 else ""
    return int(len(above) > 2 and not above.isalnum() and len(set(above)) == 1)


def _cuts(lines: list[str], headings: dict[int, str]) -> list[int]:
    """Where parts that are too long for one section are cut."""
    cuts, last = [], 1
    for number, line in enumerate(lines, 1):
        if number in headings:
            last = number
        elif number - last >= SECTION_LINES and not line.strip():
            cuts.append(number)
            last = number
    return cuts
