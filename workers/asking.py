"""What an agent may ask a person, and how the answer comes back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from schemas.errors import Permanent, Unanswered
from schemas.waits import Asking, Expiry, WaitKind

NOTHING: Any = object()
"""Stands for no default answer, which None is not."""


HEADLINE = 500
"""Characters of a question that it goes by; all of it stands in what is shown. What a wait goes by is in an index,
where Postgres has no room for a long text."""


@dataclass(frozen=True)
class Question:
    """One question, with the type of its answer."""

    text: str
    type: Any = str
    audience: tuple[str, ...] = ()
    expires: float | None = None
    default: Any = NOTHING
    escalate_to: tuple[str, ...] = ()
    escalate_after: float | None = None
    context: Any = None

    def __post_init__(self) -> None:
        """Raises `Permanent` for a question that cannot be asked."""
        if not self.text.strip() or not is_storable(self.text):
            raise Permanent("a question needs a text, without NUL characters and lone surrogates")
        if self.default is not NOTHING and self.expires is None:
            raise Permanent("a default answer needs `expires`: without it nothing is answered by itself")
        for name, seconds in (("expires", self.expires), ("escalate_after", self.escalate_after)):
            if seconds is not None and seconds <= 0:
                raise Permanent(f"{name}={seconds} is not a number of seconds above 0")
        if bool(self.escalate_to) != (self.escalate_after is not None):
            raise Permanent("`escalate_to` and `escalate_after` need each other")

    def asking(self, position: int, name: str) -> Asking:
        """The wait for its answer, which comes to this place of the journal."""
        adapter = TypeAdapter(self.type)
        request = {"position": position, "name": name, "question": self.text, "takes": adapter.json_schema()}
        if self.context is not None:
            request["context"] = TypeAdapter(Any).dump_python(self.context, mode="json")
        return Asking(
            kind=WaitKind.QUESTION,
            key=self.text if len(self.text) <= HEADLINE else f"{self.text[:HEADLINE]}…",
            request=request,
            told={"question": self.text},
            audience=self.audience,
            expires=self.expires,
            escalate_to=self.escalate_to,
            escalate_after=self.escalate_after,
            expiry=self._expiry(adapter) if self.expires is not None else None,
        )

    def answered(self, kept: dict[str, Any]) -> Any:
        """The answer as what was asked for. Raises `Unanswered` if there is none."""
        if kept["decision"] == "expired":
            raise Unanswered(f"nobody has answered after {self.expires or 0:g} s: {self.text}")
        return TypeAdapter(self.type).validate_python(kept["answer"])

    def _expiry(self, adapter: TypeAdapter[Any]) -> Expiry:
        reason = f"nobody had answered after {self.expires or 0:g} s"
        if self.default is NOTHING:
            kept: dict[str, Any] = {"decision": "expired"}
        else:
            kept = {"answer": adapter.dump_python(self.default, mode="json"), "decision": "answered"}
        return Expiry(decision=kept["decision"], state="ready", reason=reason, output=kept, gives_output=True)


def is_storable(text: str) -> bool:
    """Whether Postgres has room for each of its characters."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def names(given: str | Iterable[str]) -> tuple[str, ...]:
    """One name or several."""
    return (given,) if isinstance(given, str) else tuple(given)
