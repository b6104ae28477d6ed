"""The key sentences and terms of a text, taken from it word for word, each with its line.

Sentences are ranked by TextRank (Mihalcea & Tarau, "TextRank: Bringing Order into Texts", EMNLP 2004): a
sentence counts when sentences that count share its words. Early sentences and those with words of the title
weigh more, as in Edmundson, "New Methods in Automatic Extracting", J. ACM 16 (1969). Everything is
deterministic.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from examples.prose import LOOSE_MARK, Block, blocks

MAX_RANKED = 60
"""Sentences that are compared with each other; the cost grows with the square."""
_DAMPING = 0.85  # of PageRank and of TextRank, section 2.1
_ROUNDS = 30  # TextRank, section 2: graphs of this size converge within 20 to 30 rounds
_EARLY = 6.0  # the first sentence weighs four times its rank, the fifth twice: what READMEs are like
_WORDS = re.compile(r"[^\W\d_][\w'-]+")
_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9])")
_ABBREVIATION = re.compile(
    r"(?:\b(?:e\.g|i\.e|etc|vs|cf|resp|approx|incl|Mr|Mrs|Dr|No|Fig|St|Inc|Ltd))\.$", re.I
)
_STOP_WORDS = """
    a about above after again all also although am an and another any are as at be because been before
    being below between both but by can cannot could did do does doing done down each either else etc
    even every few for from further get gets give given gives had has have having he her here hers him
    his how however if in instead into is it its itself just least less let like made make makes many
    may me might more most much must my need needs neither never new no nor not now of off often on once one
    only or other others our out over own per rather same see set several shall she should show since so
    some such take than that the their them then there therefore these they this those though through
    thus to too two under until up upon us use used uses using very via want was way we well were what
    when where whether which while who whole whom why will with within without would yes yet you your
"""
_STOP = frozenset(_STOP_WORDS.split())


@dataclass(frozen=True)
class Sentence:
    """One sentence as it stands in the text, without markup."""

    text: str
    line: int
    """The line on which it starts, from 1."""
    words: tuple[str, ...]
    """Its meaningful words, in lower case."""


def sentences(text: str, first_line: int = 1) -> list[Sentence]:
    """The sentences of Markdown, reStructuredText or plain text; code and tables are left out."""
    return sentences_of(blocks(text, first_line))


def sentences_of(found: Iterable[Block]) -> list[Sentence]:
    """The sentences of these blocks; headings have none."""
    return [one for block in found if not block.heading for one in _of(block)]


def key_sentences(found: Sequence[Sentence], keep: int, title: str = "") -> list[Sentence]:
    """The `keep` sentences that say most, in the order of the text; words of the `title` add weight."""
    pool = list(found[:MAX_RANKED])
    ranks = _textrank([frozenset(one.words) for one in pool])
    about = set(_meaningful(title))
    score = {
        i: rank * (1 + _EARLY / (2 + i)) * (1 + len(about.intersection(pool[i].words)) / (1 + len(about)))
        for i, rank in enumerate(ranks)
    }
    best = sorted(score, key=lambda i: (-score[i], i))
    chosen: list[int] = []
    for i in best:
        if len(chosen) < keep and not any(_alike(pool[i], pool[j]) for j in chosen):
            chosen.append(i)
    return [pool[i] for i in sorted(chosen)]


def key_terms(found: Iterable[Sentence], keep: int) -> list[str]:
    """The words that occur most often, at least twice; of equals the one that comes first."""
    counts = Counter(word for one in found for word in one.words)
    return [word for word, count in counts.most_common() if count > 1][:keep]


def _of(block: Block) -> Iterator[Sentence]:
    joined, starts = "", []
    for _, piece in block.lines:
        starts.append(len(joined))
        joined += piece + " "
    for start, piece in _cut(joined):
        text = LOOSE_MARK.sub("", piece)
        line = block.lines[bisect_right(starts, start) - 1][0]
        if _is_prose(text):
            yield Sentence(text, line, _meaningful(text))


def _meaningful(text: str) -> tuple[str, ...]:
    words = (word.lower() for word in _WORDS.findall(text))
    return tuple(word for word in words if word not in _STOP and len(word) > 2)


def _cut(text: str) -> Iterator[tuple[int, str]]:
    """The sentences of a paragraph, each with its offset."""
    start = 0
    ends = [match for match in _END.finditer(text) if not _ABBREVIATION.search(text[: match.start()])]
    for end in [match.end() for match in ends] + [len(text)]:
        if piece := text[start:end].strip():
            yield start + text[start:end].index(piece[0]), piece
        start = end


def _is_prose(text: str) -> bool:
    """Between 5 and 50 words, and mostly letters: no fragments, no numbers, no leftovers of markup."""
    words = [word for word in text.split() if any(char.isalpha() for char in word)]
    letters = sum(char.isalpha() or char.isspace() for char in text)
    return 5 <= len(words) <= 50 and letters >= 0.8 * len(text) and "://" not in text and text[-1] != ":"


def _alike(one: Sentence, other: Sentence) -> bool:
    """Whether two sentences share most of their words, so that one of them is enough."""
    left, right = set(one.words), set(other.words)
    return len(left & right) > 0.6 * min(len(left), len(right)) if left and right else one.text == other.text


def _textrank(bags: Sequence[frozenset[str]]) -> list[float]:
    """TextRank on sentences: words in common over the sum of the logarithms of both lengths (section 4.1)."""
    weights: list[dict[int, float]] = [{} for _ in bags]
    for i, left in enumerate(bags):
        for j in range(i):
            if shared := len(left & bags[j]):
                size = math.log(len(left) + 1) + math.log(len(bags[j]) + 1)
                weights[i][j] = weights[j][i] = shared / size
    totals = [sum(row.values()) for row in weights]
    ranks = [1.0] * len(bags)
    for _ in range(_ROUNDS):
        ranks = [
            (1 - _DAMPING) + _DAMPING * sum(w / totals[j] * ranks[j] for j, w in row.items())
            for row in weights
        ]
    return ranks
