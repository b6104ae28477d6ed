"""What a worker logs holds no credential of its own, and no secret that looks like one."""

from __future__ import annotations

import logging
import sys
from typing import Any, TextIO

from workers.guards.masking import Findings, masker

_FORMATTER = logging.Formatter()


class Discreet(logging.Filter):
    """Masks secrets in records, with their arguments and tracebacks. It belongs to handlers: those see all loggers."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Lets every record pass."""
        masks, found = masker(True, ()), Findings()
        try:
            told = record.getMessage()
        except (TypeError, ValueError):
            return True  # its handler says what is wrong with it
        masked = masks.text(told, found)
        if found:
            record.msg, record.args = masked, ()
        if record.exc_info and not record.exc_text:
            record.exc_text = _FORMATTER.formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = masks.text(record.exc_text, found)
        if record.stack_info:
            record.stack_info = masks.text(record.stack_info, found)
        return True


DISCREET = Discreet()


def guard_logs(logger: logging.Logger) -> None:
    """Let nothing leave by the handlers of this logger unmasked."""
    for handler in logger.handlers:
        if DISCREET not in handler.filters:
            handler.addFilter(DISCREET)


class DiscreetStream:
    """What a program prints, without its secrets, as far as one is written at a time."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(masker(True, ()).text(text, Findings()))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def guard_streams() -> None:
    """Let nothing be printed by this process unmasked."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, DiscreetStream):
            setattr(sys, name, DiscreetStream(stream))
