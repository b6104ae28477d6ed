"""What becomes no crew: see `tests/integration/adapters/test_crewai.py`."""

from __future__ import annotations

import os
from typing import Any


def broken() -> Any:
    raise ValueError("no crew today")


def dying() -> Any:
    os._exit(7)
