"""`embedder(...)`: vectors from a service that speaks OpenAI's wire format for embeddings."""

from __future__ import annotations

from urllib.parse import urlsplit

from schemas.errors import DefinitionError, Fault
from schemas.usage import Price
from workers.memory.declared import Embedder

OPENAI = "https://api.openai.com/v1"


def embedder(
    model: str,
    *,
    dimensions: int | None = None,
    base_url: str | None = None,
    key: str | None = None,
    price: Price | None = None,
    timeout: float = 30.0,
) -> Embedder:
    """Vectors from a model such as `openai:text-embedding-3-small`.

    With a `base_url` it is any server that speaks OpenAI's embeddings (Ollama, vLLM, a gateway); the model is then
    `openai:NAME`, `key` names the environment variable with its credential, if it wants one, and its `price` (the
    input's) has to be said. `dimensions` asks the model for shorter vectors. `timeout` is in seconds.

    Raises `DefinitionError`.
    """
    provider, _, name = model.partition(":")
    faults = []
    if provider != "openai" or not name or "%" in name:
        faults.append(Fault("model", "write openai:NAME, for the wire format"))
    if base_url is not None and price is None:
        faults.append(
            Fault("price", "nobody knows it behind a base_url: Price(input=0, output=0) if it is free")
        )
    parts = urlsplit(base_url or OPENAI)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        faults.append(Fault("base_url", "it is no http(s) URL"))
    if parts.username or parts.password or parts.query:
        faults.append(Fault("base_url", "a URL is no place for credentials: name their variable as key"))
    if dimensions is not None and dimensions < 1:
        faults.append(Fault("dimensions", f"{dimensions} is not a number above 0"))
    if faults:
        raise DefinitionError(f"embedder {model!r}", faults)
    from workers.memory.service import Service  # its client takes a while to load

    service = Service(
        name,
        base_url or OPENAI,
        key if base_url is not None else key or "OPENAI_API_KEY",
        dimensions,
        price,
        timeout,
    )
    return Embedder(model, service.embed, service.worst)
