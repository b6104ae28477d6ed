"""Puts our result backend under Celery's tests.

Many of them are skipped unless the results are in Redis, although they use Redis only to leave traces: they ask
whether the address of the backend begins with `redis`. So ours has a name that does.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from celery.app import backends

from tests.chaos.celery_suite.exclusions import EXCLUDED, OTHER_MODULES

SCHEME = "redis-traces"
LONGEST = 600
"""Seconds for one test; their own limits are for machines with more processors, and some tests wait a minute."""

backends.BACKEND_ALIASES[SCHEME] = "orchestrator.results:Backend"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is excluded."""
    out = [item for item in items if _name(item) in EXCLUDED]
    items[:] = [item for item in items if item not in out]
    config.hook.pytest_deselected(items=out)
    for item in items:
        item.add_marker(pytest.mark.timeout(LONGEST), append=False)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was left out, and why."""
    terminalreporter.section("left out")
    for line in _reasons():
        terminalreporter.write_line(line)


def _reasons() -> Iterator[str]:
    for name, reason in {**EXCLUDED, **OTHER_MODULES}.items():
        yield f"{name}: {reason}"


def _name(item: pytest.Item) -> str:
    return item.nodeid.rpartition("t/integration/")[2].partition("[")[0]
