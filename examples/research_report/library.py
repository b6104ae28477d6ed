"""A folder of documents: what there is, and which sentences of one speak of something."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel

HERE = Path(__file__).parent
_END = re.compile(r"(?<=[.;:])\s+(?=[\"(A-Z])")
_WORD = re.compile(r"[a-z][a-z-]{3,}")
_STOP_WORDS = """
    about after also been both does each from have into more most much need only over said same say says some
    speak speaks such than that their them then there these they this those under what when where which while
    whom whose will with would your
"""
_STOP = frozenset(_STOP_WORDS.split())


class Passage(BaseModel):
    """A sentence of a document, word for word, and where it stands."""

    document: str
    line: int
    text: str
    terms: list[str]
    """Those of the terms asked for that occur in it."""


def folder(name: str) -> Path:
    """A folder by its path; a relative one is looked for beside this example."""
    return HERE / name


def documents(name: str) -> list[str]:
    """The names of all documents in a folder."""
    return sorted(path.name for path in folder(name).iterdir() if path.is_file())


def terms(question: str) -> list[str]:
    """The words of a question that say what it is about."""
    return list(dict.fromkeys(word for word in _WORD.findall(question.lower()) if word not in _STOP))


def stem(term: str) -> str:
    """What a term has in common with its other forms; too short a rest would be in everything."""
    for ending in ("ations", "ation", "ings", "ing", "ies", "ied", "ees", "es", "ed", "s", "y"):
        if term.endswith(ending) and len(term) - len(ending) >= 4:
            return term.removesuffix(ending)
    return term


def passages(document: str, text: str, wanted: Sequence[str]) -> list[Passage]:
    """The sentences in which one of these terms begins a word."""
    patterns = {term: re.compile(rf"\b{re.escape(term)}", re.I) for term in wanted}
    found = []
    for line, sentence in _sentences(text):
        said = [term for term, pattern in patterns.items() if pattern.search(sentence)]
        if said:
            found.append(Passage(document=document, line=line, text=sentence, terms=said))
    return found


def _sentences(text: str) -> Iterator[tuple[int, str]]:
    """Each sentence on one line, with the line on which its paragraph begins it."""
    for paragraph in re.finditer(r"(?:^.*\S.*\n?)+", text, re.M):
        start = paragraph.start()
        for piece in _END.split(paragraph[0]):
            at = paragraph[0].index(piece) + start
            words = " ".join(piece.split())
            if words:
                yield text.count("\n", 0, at) + 1, words
