"""Signs that a text which should be data wants to give a model orders: cheap, and neither complete nor certain.

What is looked for: phrases that all lists of such attacks share (OWASP LLM01:2025, Prompt Injection; Perez and Ribeiro,
"Ignore Previous Prompt", 2022), marks by which chat formats tell who speaks, characters that nobody sees, encoded
orders, and pictures whose address carries data away (Rehberger, "Embrace the Red", 2023). Whoever wants more gives a
detector of their own.
"""

from __future__ import annotations

import base64
import binascii
import re
import unicodedata
from collections.abc import Iterator
from typing import Any, NamedTuple

from pydantic import Field

from schemas.base import Frozen

MOST = 200_000
"""Characters that are looked at; of a longer text its beginning and its end."""


PIECE = 500
"""Characters that are brought to their plain form together."""


class Suspicion(Frozen):
    """How sure it is that a text wants to give orders, and why: never in its own words."""

    score: float = Field(default=0.0, ge=0, le=1)
    reasons: tuple[str, ...] = ()


NONE = Suspicion()


class _Sign(NamedTuple):
    """One sign, in a text in small letters."""

    reason: str
    weight: float
    marks: tuple[str, ...]
    """Each begins with one of these: to look for them costs a hundredth of what the pattern does everywhere."""
    pattern: re.Pattern[str]

    def is_in(self, low: str) -> bool:
        return any(self.pattern.match(low, at) for mark in self.marks for at in _places(mark, low))


def _places(mark: str, text: str) -> Iterator[int]:
    at = text.find(mark)
    while at >= 0:
        yield at
        at = text.find(mark, at + 1)


def _sign(reason: str, weight: float, marks: str, pattern: str) -> _Sign:
    """`marks` are separated by bars."""
    return _Sign(reason, weight, tuple(marks.split("|")), re.compile(pattern))


# Whatever repeats has a greatest length: texts come from anybody, and one that is made of beginnings must not hold up
# a worker.
_SIGNS = (
    _sign("it says to ignore instructions", 0.7,
          "ignore|disregard|forget|override|bypass|do not follow|don't follow|stop following",
          r"\b(?:ignore|disregard|forget|override|bypass|do not follow|don't follow|stop following)\b[^.!?\n]{0,40}?"
          r"\b(?:previous|prior|above|earlier|preceding|original|existing|all|any|your|these|system)\b[^.!?\n]{0,30}?"
          r"\b(?:instructions?|prompts?|rules|directions|guidelines|commands?|orders)\b"),
    _sign("it says to ignore instructions", 0.7, "ignor|vergiss|missachte|olvida|omite|oubli|忽略|无视|忘记",
          r"\b(?:ignoriere?|vergiss|missachte)\b[^.!?\n]{0,40}\b(?:anweisung|instruktion|befehl|regel)"
          r"|\b(?:ignora|olvida|omite)\b[^.!?\n]{0,40}\binstrucciones"
          r"|\b(?:ignore[rz]?|oublie[rz]?)\b[^.!?\n]{0,40}\b(?:instructions|consignes)\s{1,9}(?:précédentes|antérieures)"
          r"|(?:忽略|无视|忘记)[^。\n]{0,12}(?:指令|指示|说明)"),
    _sign("it says who the model is", 0.5, "you are now|from now on|act as if you|pretend ",
          r"\b(?:you are now|from now on,? you(?: are|'re| will)|act as if you (?:are|were)|pretend (?:to be|you are))"
          r"\b[^.\n]{0,60}\b(?:an?|the|no longer|free|unrestricted|developer|dan|admin|root|assistant|ai|model|mode)"
          r"\b"),
    _sign("it announces new instructions", 0.5, "new|updated|revised|real|actual|important|urgent|additional|hidden",
          r"\b(?:new|updated|revised|real|actual|important|urgent|additional|hidden)\s{1,9}(?:system\s{1,9})?"
          r"(?:instructions?|prompt|orders)\s{0,9}(?:for (?:the )?(?:ai|assistant|model|agent))?\s{0,9}[:\-]"),
    _sign("it speaks to the model", 0.5, "attention|note|message|instruction|reminder|if you are a",
          r"\b(?:attention|note|message|instructions?|reminder)\s{0,9}(?:to|for)\s{0,9}(?:the|any|all)?\s{0,9}"
          r"(?:ai|llm|language model|assistant|chatbot|agent)s?\b\s{0,9}[:,\-]"
          r"|\bif you are an?\s{1,9}(?:ai|llm|language model|assistant|agent|bot)\b"),
    _sign("it asks for what the model was told", 0.6, "reveal|repeat|print|show|output|leak|tell me|send",
          r"\b(?:reveal|repeat|print|show|output|leak|tell me|send)\b[^.!?\n]{0,30}\b(?:your|the)\s{1,9}"
          r"(?:system|initial|hidden|original|secret)\s{1,9}(?:prompt|instructions?|message)"),
    _sign("it says to hide something from people", 0.5, "do not |don't |never |without ",
          r"\b(?:do not|don't|never|without)\s{1,9}(?:tell|mention|inform|alert|notify|reveal)(?:ing)?\b"
          r"[^.!?\n]{0,30}\b(?:user|human|person|anyone|owner|operator|customer)s?\b"),
    _sign("it says where to send data", 0.5, "send|post|forward|upload|exfiltrate|transmit|email|e-mail",
          r"\b(?:send|post|forward|upload|exfiltrate|transmit|email|e-mail)\b[^.!?\n]{0,60}\b(?:conversation|history|context"
          r"|secrets?|passwords?|credentials?|api keys?|tokens?|data|everything|contents?|messages?)\b[^.!?\n]{0,40}"
          r"(?:https?://|\bto\s{1,9}[\w.+-]+@)"),
    _sign("it says to call a tool", 0.4, "you must|you should|please|now|immediately",
          r"\b(?:you must|you should|please|now|immediately)\b[^.!?\n]{0,20}\b(?:call|invoke|run|execute|use)\b"
          r"[^.!?\n]{0,20}\b(?:tool|function|command)\b"),
    _sign("it has marks of a chat format", 0.6, "<|[",
          r"<\|(?:im_start|im_end|system|user|assistant|endoftext|eot_id|start_header_id)\|>|\[/?inst\]|<</?sys>>"
          r"|</?(?:system|assistant|tool_result|tool_response|function_results?|system[-_]prompt)>"
          r"|<start_of_turn>|<end_of_turn>"),
    _sign("it has lines that pretend to be another speaker", 0.4, "\n",
          r"\n[ \t#*]{0,99}(?:system|assistant|developer)(?: message| prompt)?[ \t*]{0,9}:[ \t]{0,99}\S"),
    _sign("it has a picture whose address carries data", 0.6, "![|<img",
          # In none of both another one begins, so no part of a text is read for many of them.
          r"!\[[^\]\n]{0,200}\]\(\s{0,9}https?://[^)\s][^)\s?&/]{0,300}[?&/]"
          r"(?:[^)\s=%{$!]|%(?!3d)|!(?!\[))*+(?:=|%3d|[{$])"
          r"|<img\b[^<>]{0,200}\bsrc\s{0,9}=\s{0,9}[\"']?https?://[^\"'<>\s?]{1,300}\?[^\"'<>\s]*?"
          r"(?:\{|\$|data=|q=|secret|token)"),
)  # fmt: skip

_TAGS = re.compile("[\U000e0020-\U000e007f]{2,}")
"""Tags, deprecated twins of ASCII that no font shows. Only flags of regions have some, after their first sign."""
_FLAG = re.compile("\U0001f3f4[\U000e0020-\U000e007f]{2,6}\U000e007f")
_TURNED = re.compile("[\u202a\u202b\u202d\u202e\u2066-\u2068]")
_UNSEEN = re.compile("[\u200b\u2060\ufeff\u00ad]")
_IN_WORDS = re.compile("[a-zA-Z][\u200b\u200c\u200d\u2060\ufeff]+[a-zA-Z]")
_ENCODED = re.compile(r"[A-Za-z0-9+/_-]{40,}={0,2}")


def suspicion(text: str) -> Suspicion:
    """What speaks for orders in this text: each sign that is found leaves so much less doubt."""
    if len(text) > MOST:
        text = f"{text[: MOST // 2]}\n{text[-MOST // 2 :]}"
    signs = dict(_signs(text))
    if not signs:
        return NONE
    doubt = 1.0
    for weight in signs.values():
        doubt *= 1 - weight
    return Suspicion(score=round(1 - doubt, 3), reasons=tuple(signs))


def _signs(text: str) -> Iterator[tuple[str, float]]:
    """Reason and weight of each sign."""
    yield from _hidden(text)
    plain = _plain(text)
    yield from _found(plain)
    long = [word for word in plain.split() if len(word) >= 40]
    for blob in _ENCODED.findall(" ".join(long))[:50]:
        if any(weight >= 0.5 for _, weight in _found(_decoded(blob))):
            yield "it has encoded instructions", 0.8
            return


def _found(text: str) -> Iterator[tuple[str, float]]:
    low = f"\n{text.lower()}" if text else ""
    return ((sign.reason, sign.weight) for sign in _SIGNS if sign.is_in(low))


def _hidden(text: str) -> Iterator[tuple[str, float]]:
    if text.isascii():
        return
    if _TAGS.search(_FLAG.sub("", text)):
        yield "it has text in characters that nobody sees", 0.9
    if _TURNED.search(text):
        yield "it turns the direction of its text", 0.4
    if len(_IN_WORDS.findall(text)) >= 3:
        yield "it hides characters in words", 0.5


def _plain(text: str) -> str:
    """As a model may read it: letters of other shapes as those that they stand for, without what nobody sees."""
    if text.isascii():
        return text
    shown = "".join(chr(ord(c) - 0xE0000) if "\U000e0020" <= c < "\U000e007f" else c for c in text)
    # Piece by piece: to put accents in order takes time by the square of their number.
    pieces = (unicodedata.normalize("NFKC", shown[at : at + PIECE]) for at in range(0, len(shown), PIECE))
    return _UNSEEN.sub("", "".join(pieces))


def _decoded(blob: str) -> str:
    try:
        whole = blob.rstrip("=").translate(str.maketrans("-_", "+/"))
        made = base64.b64decode(whole + "=" * (-len(whole) % 4), validate=True).decode()
    except (binascii.Error, ValueError):
        return ""
    return made if made.isprintable() or "\n" in made else ""


def judged(verdict: Any) -> Suspicion:
    """What a detector has said: a number from 0 to 1, a `Suspicion`, something of that form, or nothing.

    Raises `TypeError` or `ValueError` for anything else.
    """
    if verdict is None:
        return NONE
    if isinstance(verdict, Suspicion):
        return verdict
    if isinstance(verdict, bool | int | float):
        return Suspicion(score=float(verdict), reasons=("its detector says so",) if verdict else ())
    return Suspicion.model_validate(verdict, from_attributes=True, extra="ignore")
