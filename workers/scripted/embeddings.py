"""Vectors that need no model: texts that have words in common point the same way, and always the same."""

from __future__ import annotations

import hashlib
import math
import re
from typing import Any

DIMENSIONS = 256


def vector(text: str, dimensions: int = DIMENSIONS) -> list[float]:
    """A direction for a text: each of its words has one of its own, told by a digest of its first letters."""
    numbers = [0.0] * dimensions
    for word in re.findall(r"\w+", text.lower()) or [text]:
        digest = hashlib.sha256(word[:5].encode()).digest()
        for at in range(0, 16, 4):
            place = int.from_bytes(digest[at : at + 3], "big") % dimensions
            numbers[place] += 1.0 if digest[at + 3] % 2 else -1.0
    length = math.hypot(*numbers)
    return [number / length for number in numbers] if length else [1.0, *numbers[1:]]


def answered(body: dict[str, Any]) -> tuple[dict[str, Any], list[str], int]:
    """The answer to a request in OpenAI's format, the texts that it is about, and their tokens."""
    given = body["input"]
    texts = [given] if isinstance(given, str) else list(given)
    dimensions = int(body.get("dimensions") or DIMENSIONS)
    tokens = sum(max(1, len(text) // 4) for text in texts)
    answer = {
        "object": "list",
        "model": body["model"],
        "data": [
            {"object": "embedding", "index": index, "embedding": vector(text, dimensions)}
            for index, text in enumerate(texts)
        ],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
    return answer, texts, tokens
