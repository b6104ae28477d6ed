"""What it costs to mask: `python -m benchmarks.guards`.

CPU time for a KB, the best of thirty: prose (this repository's README), hashes, and a short output, each with nothing
to find, a few secrets, and some personal data.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from orchestrator.masking.masker import OWN, Findings
from workers.guards.injection import suspicion
from workers.guards.masking import masker
from workers.guards.personal import KINDS

ROUNDS = 30
ENVIRONMENT = {"A_TOKEN": "0123456789abcdef-" * 2, "A_URL": "postgresql://me:correct-horse@host/base"}


def best(act: Callable[[], object]) -> float:
    """Seconds."""
    found = []
    for _ in range(ROUNDS):
        begun = time.process_time_ns()
        act()
        found.append(time.process_time_ns() - begun)
    return min(found) / 1e9


def main() -> None:
    os.environ.update(ENVIRONMENT)
    prose = Path(__file__).parents[1].joinpath("README.md").read_text()[:20_000]
    texts = {
        "prose": json.dumps({"text": prose}, ensure_ascii=False),
        "hashes": json.dumps([hashlib.md5(bytes([n % 256, n // 256])).hexdigest() for n in range(600)]),  # noqa: S324
        "short": '{"text":"Good day, Ada Lovelace."}',
    }
    masks = {
        "own credentials": OWN.json,
        "and secrets": masker(True, ()).json,
        "and personal data": masker(True, KINDS).json,
        "injection": lambda text, _: suspicion(text),
    }
    print(f"{'':20}" + "".join(f"{name:>28}" for name in texts))
    for what, mask in masks.items():
        row = ""
        for text in texts.values():
            seconds = best(lambda mask=mask, text=text: mask(text, Findings()))  # type: ignore[misc]
            row += f"{seconds * 1e6:14.0f} us {seconds * 1e6 / len(text) * 1024:7.1f} us/KB"
        print(f"{what:20}{row}")


if __name__ == "__main__":
    main()
