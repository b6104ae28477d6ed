"""The probe of a worker's container, asked as Docker asks it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from orchestrator.store import schema
from orchestrator.store.worker_queries import BEAT

PROBE = Path(__file__).resolve().parents[3] / "deploy" / "alive.py"


def probe(url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(PROBE)],
        env={**os.environ, "BATON_DATABASE_URL": url},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def beat(url: str, name: str, lease: float) -> None:
    worker = {
        "id": uuid4(),
        "name": name,
        "queues": ["agent.a"],
        "throttled": [],
        "concurrency": 1,
        "pool": "threads",
        "held": 0,
        "lease": lease,
    }
    with psycopg.connect(url) as connection:
        connection.execute(BEAT, worker)


@pytest.fixture
def migrated(database: str) -> str:
    schema.upgrade(database)
    return database


def test_a_worker_of_this_host_is_alive(migrated: str) -> None:
    beat(migrated, f"extract-1@{socket.gethostname()}", lease=60)

    assert probe(migrated).returncode == 0


def test_a_worker_of_another_host_does_not_count(migrated: str) -> None:
    beat(migrated, "extract-1@elsewhere", lease=60)

    answer = probe(migrated)

    assert answer.returncode == 1
    assert "fresh heartbeat" in answer.stderr


def test_a_late_heartbeat_does_not_count(migrated: str) -> None:
    beat(migrated, f"extract-1@{socket.gethostname()}", lease=-1)

    assert probe(migrated).returncode == 1


def test_without_postgres_the_answer_is_one_sentence() -> None:
    answer = probe("postgresql://baton:none@127.0.0.1:1/baton")

    assert answer.returncode == 1
    assert answer.stderr.startswith("Postgres does not answer:")
    assert "Traceback" not in answer.stderr
