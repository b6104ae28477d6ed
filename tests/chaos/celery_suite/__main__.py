"""`python -m tests.chaos.celery_suite [pytest arguments]`: Celery's own integration tests on our result backend."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from redis import Redis as Client

from orchestrator.local.postgres import Postgres
from orchestrator.local.redis import Redis
from orchestrator.store.schema import upgrade
from tests.chaos.celery_suite.exclusions import MODULES
from tests.chaos.celery_suite.plugin import SCHEME
from tests.chaos.celery_suite.source import fetched

ROOT = Path(__file__).resolve().parents[3]


def main(arguments: Sequence[str]) -> int:
    """Run the tests; pytest's exit code."""
    tests = fetched()
    command = [
        *(sys.executable, "-m", "pytest", "-c", str(Path(__file__).with_name("pytest.ini"))),
        *("--rootdir", str(tests), "-p", "celery.contrib.pytest", "-p", "tests.chaos.celery_suite.plugin"),
    ]
    with _servers() as settings:
        modules = [f"t/integration/{module}" for module in MODULES]
        return subprocess.call([*command, *modules, *arguments], env={**os.environ, **settings}, cwd=tests)


@contextmanager
def _servers() -> Iterator[dict[str, str]]:
    """A PostgreSQL for the results and a Redis for messages and traces; the settings that lead there."""
    with tempfile.TemporaryDirectory(prefix="baton-celery-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        postgres, redis = Postgres(folder), Redis(folder)
        try:
            postgres.start()
            redis.start()
            upgrade(postgres.url)
            yield _settings(postgres, redis)
        finally:
            redis.stop()
            postgres.stop()
            postgres.erase()


def _settings(postgres: Postgres, redis: Redis) -> dict[str, str]:
    with Client.from_url(redis.url) as client:
        client.config_set("requirepass", "")  # Celery's tests know no password
    port = str(urlsplit(redis.url).port)
    return {
        "TEST_BROKER": f"redis://127.0.0.1:{port}/0",
        "TEST_BACKEND": f"{SCHEME}+{postgres.url}",
        "REDIS_HOST": "127.0.0.1",
        "REDIS_PORT": port,
        "WORKER_LOGLEVEL": "INFO",
        "PYTHONPATH": str(ROOT),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
