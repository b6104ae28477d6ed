"""What the failures of providers mean, told in a sentence: which model, where, and why. Loaded in workers only."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError
from pydantic_ai.exceptions import ModelAPIError, ModelHTTPError, UnexpectedModelBehavior

from orchestrator.credentials import own
from schemas.errors import AgentError, Permanent, causes
from workers.calls import PASSING
from workers.models.named import Model
from workers.tools.declared import said

ITS_OWN = {401, 402, 403, 404}
"""Answers for good that tell of the provider and the account there, not of the request: another model may do."""
SAID = 300
"""Characters of what a provider says that are told."""


class ModelFailed(AgentError):
    """A model has not answered, and may do so next time."""

    says_all = True
    elsewhere = True
    """Whether another model may answer the same request."""
    passing = False
    """Whether it was said that the very same request is answered soon: 429."""
    cause = "no answer"
    """In a few words, none of them the provider's."""


class ModelRefused(Permanent):
    """A model does not answer this, and would not next time."""

    def __init__(self, message: str, *, elsewhere: bool, cause: str = "refused") -> None:
        super().__init__(message)
        self.elsewhere = elsewhere
        self.cause = cause


def failure(model: Model, error: Exception, url: str | None) -> ModelFailed | ModelRefused:
    """A failed request as the agent's failure, which says whether another attempt, or another model, may help.

    `url` is where it was sent.
    """
    told, cause = own(_told(model, error, f" at {address(url)}" if url else "")), _cause(error)
    status = error.status_code if isinstance(error, ModelHTTPError) else None
    if status is not None and status < 500 and status not in PASSING:
        return ModelRefused(told, elsewhere=status in ITS_OWN, cause=cause)
    failed = ModelFailed(told, retry_after=error.retry_after if isinstance(error, ModelAPIError) else None)
    failed.passing, failed.cause = status == 429, cause
    return failed


@contextmanager
def understood() -> Iterator[None]:
    """Only for what a provider's client does: an answer that is JSON but of another form, or another program's, is
    taken apart without a look at it, and what Python raises then is no fault of ours, and is told as the model's.
    """
    try:
        yield
    except (AttributeError, TypeError, LookupError, AssertionError) as error:
        raise UnexpectedModelBehavior(
            f"what it answers is not what a model answers ({_short(str(error))})"
        ) from error


def misfit(error: UnexpectedModelBehavior, corrections: int) -> str:
    """What the last answer got wrong that was not corrected, in one line, to stand behind a sentence."""
    cause = error.__cause__
    if cause is None:
        return f": {_short(str(error))}"
    wrong = next((said(one) for one in causes(cause) if isinstance(one, ValidationError)), None)
    tool = _WRONG_TOOL.match(str(error))
    which = f"; its calls of {tool[1]} were wrong" if tool else ""
    return f"{which} after {corrections} correction{'' if corrections == 1 else 's'}: {_short(wrong or str(cause))}"


_WRONG_TOOL = re.compile(r"Tool ('[^']*') exceeded")
"""How pydantic-ai begins to say that a model called a tool wrongly too often."""


def address(url: str) -> str:
    """A URL as it may be shown: without credentials, query and fragment."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}".rstrip("/")


def _told(model: Model, error: Exception, where: str) -> str:
    if isinstance(error, ModelHTTPError):
        said = _said(error.body)
        return f"{_answered(model, error.status_code, where)}{f': {said}' if said else ''}"
    unreached = _unreached(error)
    if unreached is not None:
        return f"{model.id} cannot be reached{where}: {unreached}"
    return f"{model.id}{where}: {_short(str(error))}"


def _answered(model: Model, status: int, where: str) -> str:
    match status:
        case 401 | 403:
            return f"{model.id}{where} refuses the key of its worker ({status})"
        case 404:
            mend = "its name" if model.base_url is None else "its name or base_url"
            return f"there is no model {model.id}{where} (404), mend {mend}"
    return f"{model.id}{where} answered {status}"


def _cause(error: Exception) -> str:
    if isinstance(error, ModelHTTPError):
        return str(error.status_code)
    return "no answer" if _unreached(error) is None else "not reached"


def _said(body: Any) -> str:
    """What a provider says of its refusal; the rest of what it sends may repeat what it was asked."""
    while isinstance(body, dict):
        body = body.get("error") or body.get("message")
    return _short(body) if isinstance(body, str) and not body.lstrip().startswith("<") else ""


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SAID else f"{line[:SAID]}…"


def _unreached(error: BaseException) -> str | None:
    """What the system says of a connection that could not be made, if that is what went wrong."""
    for one in causes(error):
        if isinstance(one, ConnectionError) and one.errno:
            return os.strerror(one.errno)
        if isinstance(one, OSError) and one.strerror:
            return one.strerror
    return None
