"""What a process logs and prints holds no credential of its own, and no secret that looks like one."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any, TextIO
from urllib.parse import urlsplit

from orchestrator.masking.masker import discreet

CLIENTS = frozenset({"httpx", "httpx2"})
"""Loggers that tell the URL of each request."""

_FORMATTER = logging.Formatter()


class DiscreetRecords:
    """Makes log records without secrets in texts, arguments and tracebacks: no handler, whoever adds it, sees any."""

    def __init__(self, make: Callable[..., logging.LogRecord]) -> None:
        self._make = make

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record = self._make(*args, **kwargs)
        if record.name in CLIENTS and isinstance(record.args, tuple):
            record.args = tuple(_shortened(one) for one in record.args)
        try:
            told = record.getMessage()
        except Exception:  # noqa: BLE001  its handler says what is wrong with it, and shows what it was given
            record.msg, record.args = discreet(str(record.msg)), _shown(record.args)
            return record
        masked = discreet(told)
        if masked != told:
            record.msg, record.args = masked, ()
        if record.exc_info:
            record.exc_text = discreet(_FORMATTER.formatException(record.exc_info))
        if record.stack_info:
            record.stack_info = discreet(record.stack_info)
        return record


def _shown(args: Any) -> Any:
    """What a record was given and cannot be told with: texts without secrets, and of all else what it is."""
    if isinstance(args, Mapping):
        return {name: _shown_one(one) for name, one in args.items()}
    return tuple(_shown_one(one) for one in args or ())


def _shown_one(one: Any) -> Any:
    if isinstance(one, int | float):
        return one
    return discreet(one) if isinstance(one, str) else f"<{type(one).__name__}>"


def _shortened(told: Any) -> Any:
    """Of a URL, where it leads: what follows may be what lets somebody in, as with webhooks of chats."""
    text = str(told)
    parts = urlsplit(text) if "://" in text else None
    if parts is None or not parts.path.strip("/"):
        return told
    return f"{parts.scheme}://{parts.netloc}/..."


def guard_logs() -> None:
    """Let no logger of this process say a secret."""
    make = logging.getLogRecordFactory()
    if not isinstance(make, DiscreetRecords):
        logging.setLogRecordFactory(DiscreetRecords(make))


def _without_arguments(record: logging.LogRecord) -> bool:
    """Celery hands what tasks were given to those who write down all that a record has, as lines of JSON say."""
    data = getattr(record, "data", None)
    if isinstance(data, dict):
        kept = {name: one for name, one in data.items() if name not in ("args", "kwargs")}
        told = {name: discreet(one) if isinstance(one, str) else one for name, one in kept.items()}
        record.__dict__["data"] = told
        if record.args is data:
            record.args = told
    return True


logging.getLogger("celery.app.trace").addFilter(_without_arguments)


class DiscreetStream:
    """What a program prints, without its secrets, as far as one is written at a time."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(discreet(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def guard_streams() -> None:
    """Let nothing be printed by this process unmasked."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, DiscreetStream):
            setattr(sys, name, DiscreetStream(stream))
