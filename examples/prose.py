"""Headings and paragraphs of Markdown, reStructuredText or plain text, without markup, with line numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_FENCE = re.compile(r"^\s{0,3}(```|~~~)")
_HASHES = re.compile(r"^\s{0,3}(#{1,6})\s+(.*?)\s*#*\s*$")
_UNDERLINE = re.compile(r"^\s{0,3}([=\-~^\"'*+#`:._])\1{2,}\s*$")
_ITEM = re.compile(r"^\s*(?:[-*+•]|\d{1,3}[.)]|\([a-z0-9]\))\s+")
_SKIPPED = re.compile(r"^\s*(?:\||\+[-=]|>>>|\.\. |\$ |:[a-z-]+:|\[[^\]]+\]:\s|<!--|\s*-->)")
_HTML_BLOCK = re.compile(
    r"^\s*</?(?:h\d|p|div|li|ul|ol|table|tr|td|details|summary|br|a|img|center|sup)\b", re.I
)
_DIRECTIVE = re.compile(r"^\s*\.\. [a-z-]*(?:code|literal|raw|table|toctree|contents|image|figure|highlight)")
_PICTURE = re.compile(r"\[?!\[[^\]]*\](?:\([^)]*\)|\[[^\]]*\])(?:\]\([^)]*\)|\]\[[^\]]*\])?")
_LINK = re.compile(r"\[([^\]]+)\](?:\([^)]*\)|\[[^\]]*\])")
_ROLE = re.compile(r":[\w:]+:(?=`)")
_RST_LINK = re.compile(r"`([^`<]+?)\s*<[^>`]*>`_{1,2}")
LOOSE_MARK = re.compile(r" (?=[.,;:!?](?:\s|$))")
"""The blank before a punctuation mark that is left where markup was taken out."""
_TAG = re.compile(r"</?[a-zA-Z][^>]*>|<!--.*?-->")
_MARKS = re.compile(
    r"`+(?:_{1,2}(?!\w))?|\*\*+|(?<![\w`])_{1,2}(?=\w)|(?<![\w*])\*(?=\S)|(?<=\S)\*(?![\w*])|(?<=\w)_{1,2}(?=[\s.,;:)]|$)|(?<!\w)\|\w+\|_?(?!\w)"
)


@dataclass
class Block:
    """A heading or one paragraph (or list item): its lines with their numbers, markup removed."""

    heading: int = 0
    """1 for a top heading, 2 below it, and so on; 0 for text."""
    lines: list[tuple[int, str]] = field(default_factory=list)

    @property
    def text(self) -> str:
        return " ".join(text for _, text in self.lines)

    @property
    def line(self) -> int:
        """The number of its first line."""
        return self.lines[0][0]


def blocks(text: str, first_line: int = 1) -> Iterator[Block]:
    """The blocks of `text`, whose first line is number `first_line`; code, tables, images are left out."""
    lines = text.split("\n")
    styles: list[str] = []
    paragraph = Block()
    fence = ""
    code = False  # inside an indented block of code
    promised = False  # the paragraph before ended with `::`, so code follows
    for index, raw in enumerate(lines):
        was_code, fence = bool(fence), _fence(fence, lines, index)
        if was_code or fence:
            continue
        if not raw.strip():
            promised = paragraph.text.endswith("::") if paragraph.lines else promised
            yield from _close(paragraph)
            paragraph, code = Block(), False
            continue
        if not paragraph.lines:
            code = code or _starts_code(raw, promised)
            promised = (promised and code) or bool(_DIRECTIVE.match(raw))
        if code or _SKIPPED.match(raw):
            continue
        if level := _level(lines, index, styles):
            yield from _close(paragraph)
            paragraph = Block()
            yield from _close(Block(level, [(first_line + index, _heading_text(raw))]))
        elif not _UNDERLINE.match(raw):
            if _ITEM.match(raw) or _HTML_BLOCK.match(raw):
                yield from _close(paragraph)
                paragraph = Block()
            paragraph.lines.append((first_line + index, plain(raw)))
    yield from _close(paragraph)


def plain(line: str) -> str:
    """One line without links, images, emphasis, tags and list markers."""
    line = _PICTURE.sub("", _ITEM.sub("", line))
    line = _RST_LINK.sub(r"\1", _ROLE.sub("", _LINK.sub(r"\1", line)))
    line = _MARKS.sub("", _TAG.sub("", line)).lstrip("> ")
    return LOOSE_MARK.sub("", " ".join(line.split()))


def _close(block: Block) -> Iterator[Block]:
    kept = [(number, text) for number, text in block.lines if text]
    if kept:
        yield Block(block.heading, kept)


def _fence(fence: str, lines: list[str], index: int) -> str:
    """The fence that is open after this line: what was open, nothing, or one that opens here."""
    raw = lines[index]
    if fence:
        return "" if raw.strip().startswith(fence) else fence
    opened = _FENCE.match(raw)
    # Tildes below a text underline a heading of reStructuredText.
    underline = bool(opened and opened[1] == "~~~" and index and lines[index - 1].strip())
    return opened[1] if opened and not underline else ""


def _starts_code(raw: str, promised: bool) -> bool:
    """Four spaces or a tab make code in Markdown, any indent does after `::` in reStructuredText."""
    indented = raw.startswith(("    ", "\t")) or (promised and raw[0].isspace())
    return indented and not _ITEM.match(raw)


def _level(lines: list[str], index: int, styles: list[str]) -> int:
    """The level of the heading that stands on this line, or 0."""
    if hashes := _HASHES.match(lines[index]):
        return len(hashes.group(1))
    below = lines[index + 1] if index + 1 < len(lines) else ""
    underline = _UNDERLINE.match(below)
    here = lines[index].strip()
    if not underline or not any(char.isalnum() for char in here) or len(below.strip()) < 0.6 * len(here):
        return 0
    # The order in which reStructuredText styles appear says which is above which; it suits Markdown as well.
    style = underline.group(1)
    if style not in styles:
        styles.append(style)
    return styles.index(style) + 1


def _heading_text(raw: str) -> str:
    hashes = _HASHES.match(raw)
    return plain(hashes.group(2) if hashes else raw)
