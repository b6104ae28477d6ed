"""A language model by its name, where it is reached, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from orchestrator.definitions.limits import limit_faults
from schemas.breakers import Breaker
from schemas.errors import Fault
from schemas.limits import Limit
from schemas.usage import Price
from workers.models.providers import PROVIDERS, unknown, wanted


@dataclass(frozen=True)
class Model:
    """One model, wherever a model's name is taken: `Model("openai:qwen3", base_url=..., price=Price(...))`."""

    name: str
    """`PROVIDER:NAME`, any that pydantic-ai knows, such as `openai:gpt-5-mini`."""
    base_url: str | None = None
    """A server that speaks OpenAI's chat completions; the model is then `openai:NAME`."""
    key: str | None = None
    """The environment variable with the credential for `base_url`, if it wants one."""
    price: Price | None = None
    """Has to be said where it is not known; nobody knows it behind a `base_url`."""
    limits: Sequence[Limit] = ()
    """What all calls of it keep to together, in all workers, whichever agent makes them."""
    breaker: Breaker | None = None
    """Leaves it alone for a while when its calls keep failing; `fallbacks` answer meanwhile."""

    def __post_init__(self) -> None:
        if isinstance(self.limits, list):  # what is hashed, to find its client, can be no list
            object.__setattr__(self, "limits", tuple(self.limits))

    @property
    def provider(self) -> str:
        return self.name.partition(":")[0]

    @property
    def id(self) -> str:
        """Its name at its provider."""
        return self.name.partition(":")[2]

    @property
    def variables(self) -> tuple[str, ...]:
        """The environment variables of which its worker needs one."""
        if self.base_url is not None:
            return (self.key,) if self.key else ()
        return wanted(self.provider)

    def faults(self, where: str = "") -> Iterator[Fault]:
        """What is wrong with it; `where` comes before the name of what is."""
        if not self.provider or not self.id:
            yield Fault(f"{where}model", "write PROVIDER:NAME, such as openai:gpt-5-mini")
        elif (wrong := unknown(self.provider)) is not None:
            yield Fault(f"{where}model", wrong)
        yield from limit_faults(self.limits, f"{where}limits")
        if any(limit.key is not None for limit in self.limits):
            yield Fault(f"{where}limits", "a model has no key, only an agent or a tool has one")
        if self.base_url is None:
            if self.key is not None:
                yield Fault(f"{where}key", "only a base_url has one; providers have variables of their own")
            return
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            yield Fault(f"{where}base_url", "it is no http(s) URL")
        if parts.username or parts.password or parts.query:
            yield Fault(f"{where}base_url", "a URL is no place for credentials: name their variable as key")
        if self.provider in PROVIDERS and self.provider != "openai":
            yield Fault(f"{where}model", "behind a base_url it is openai:NAME, for the wire format")
        if self.price is None:
            yield Fault(
                f"{where}price", "nobody knows it behind a base_url: Price(input=0, output=0) if it is free"
            )
