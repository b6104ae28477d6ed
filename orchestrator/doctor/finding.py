"""What a check says."""

from __future__ import annotations

from enum import StrEnum

from orchestrator.masking.masker import discreet
from schemas.base import Frozen


class Level(StrEnum):
    OK = "ok"
    WARN = "warn"
    """It works, but not as it should."""
    FAIL = "fail"
    """It does not work, or accepted runs can be lost."""


class Finding(Frozen):
    """The answer of one check, in one sentence, with the act that mends it."""

    check: str
    level: Level
    sentence: str
    fix: str = ""


def ok(check: str, sentence: str) -> Finding:
    return _said(check, Level.OK, sentence, "")


def warn(check: str, sentence: str, fix: str) -> Finding:
    return _said(check, Level.WARN, sentence, fix)


def fail(check: str, sentence: str, fix: str) -> Finding:
    return _said(check, Level.FAIL, sentence, fix)


def _said(check: str, level: Level, sentence: str, fix: str) -> Finding:
    """What servers and programs answer may repeat the credentials that they were given."""
    return Finding(check=check, level=level, sentence=discreet(sentence), fix=discreet(fix))


def first_line(error: BaseException) -> str:
    """An exception's message, short enough for a sentence."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
