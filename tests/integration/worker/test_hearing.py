"""A worker that lives and hears nothing notices it, and hears again."""

from __future__ import annotations

import signal
import sys

from tests.agents import arithmetic
from tests.integration.worker.stack import QUICK, Stack, ready


def test_a_worker_that_went_deaf_connects_anew(alone: Stack) -> None:
    # Given a worker that consumes
    command = (sys.executable, "-m", "celery", "-A", "tests.agents.deaf", "worker", "--loglevel", "INFO")
    options = ("-Q", "agent.increment", "-P", "threads", "-c", "4", "-n", "deaf@localhost", *QUICK)
    worker = ready(alone.processes.start(*command, *options, name="deaf", env=alone.env))
    assert alone.run(arithmetic.single, 1) == 2

    # When it takes no message any more
    worker.signal(signal.SIGUSR2)
    runs = [alone.submit(arithmetic.single, number) for number in range(3)]

    # Then it does so again before long, by itself
    assert [run.result(40) for run in runs] == [1, 2, 3]
    assert worker.alive
    assert "messages wait, and none comes" in worker.text()
