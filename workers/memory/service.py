"""A service that makes vectors, asked in OpenAI's wire format for embeddings."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import httpx

from schemas.errors import AgentError, Permanent
from schemas.usage import Price, Usage
from workers.calls import PASSING
from workers.memory.declared import Embedded

_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = WeakKeyDictionary()
"""A client keeps its connections, which belong to an event loop."""


class Service:
    """One model behind one address."""

    def __init__(
        self,
        model: str,
        base_url: str,
        key: str | None,
        dimensions: int | None,
        price: Price | None,
        timeout: float,
    ) -> None:
        self._model = model
        self._url = f"{base_url.rstrip('/')}/embeddings"
        self._key = key
        self._dimensions = dimensions
        self._price = price
        self._timeout = timeout

    async def embed(self, texts: list[str]) -> Embedded:
        """Raises `AgentError`, as `Permanent` where another attempt would not help."""
        self._usd(0)
        asked: dict[str, Any] = {"model": self._model, "input": texts, "encoding_format": "float"}
        if self._dimensions is not None:
            asked["dimensions"] = self._dimensions
        credential = self._credential()
        headers = {"authorization": f"Bearer {credential}"} if credential else {}
        try:
            answer = await _client().post(self._url, json=asked, headers=headers, timeout=self._timeout)
        except httpx.HTTPError as error:
            raise AgentError(f"{self._model} cannot be reached: {error or type(error).__name__}") from None
        if answer.status_code != 200:
            said = answer.text[:300]
            said = said.replace(credential, f"<{self._key}>") if credential else said
            kind = AgentError if answer.status_code >= 500 or answer.status_code in PASSING else Permanent
            raise kind(f"{self._model} answers {answer.status_code}: {said}")
        return self._read(answer, texts)

    def worst(self, texts: list[str]) -> Usage:
        """As much as if each character of ASCII were a token's half, and every other one a token."""
        tokens = sum(len(text.encode()) for text in texts) // 2 + len(texts)
        return Usage(tokens=tokens, usd=self._usd(tokens))

    def _read(self, answer: httpx.Response, texts: Sequence[str]) -> Embedded:
        try:
            said = answer.json()
            found = sorted(said["data"], key=lambda one: int(one["index"]))
            vectors = [[float(number) for number in one["embedding"]] for one in found]
            tokens = int(said.get("usage", {}).get("prompt_tokens") or sum(map(len, texts)) // 4)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise AgentError(f"{self._model} gave no vectors: {error!r}") from None
        return Embedded(vectors, Usage(tokens=tokens, usd=self._usd(tokens)))

    def _credential(self) -> str | None:
        if self._key is None:
            return None
        credential = os.environ.get(self._key)
        if not credential:
            raise Permanent(
                f"the environment variable {self._key} is not set: it is to hold the key of {self._model}"
            )
        return credential

    def _usd(self, tokens: int) -> float:
        """Raises `Permanent` for a model of which nobody knows what it costs."""
        if self._price is not None:
            return self._price.of(tokens, 0)
        try:
            import genai_prices

            used = genai_prices.Usage(input_tokens=tokens, output_tokens=0)
            return float(genai_prices.calc_price(used, self._model, provider_id="openai").total_price)
        except (ModuleNotFoundError, LookupError):
            raise Permanent(
                f"the price of openai:{self._model} is not known: say it, price=Price(input=..., output=0)"
            ) from None


def _client() -> httpx.AsyncClient:
    loop = asyncio.get_running_loop()
    if loop not in _clients:
        _clients[loop] = httpx.AsyncClient()
    return _clients[loop]
