"""The programs that the README shows are run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

from orchestrator.store.schema import upgrade
from tests.support import Processes

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)


def test_the_first_program_is_the_example_that_it_claims_to_be() -> None:
    assert PROGRAMS[0] == (ROOT / "examples" / "hello.py").read_text()


def test_the_second_program_runs_against_one_worker(database: str, broker: str, processes: Processes) -> None:
    # Given a worker of the first program's agents, started as the README says
    upgrade(database)
    env = {
        "BATON_DATABASE_URL": database,
        "BATON_BROKER_URL": broker,
        "BATON_APP": "examples.hello",
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore",
    }
    queues = ",".join(f"agent.{name}" for name in ("tidy", "formal", "casual", "letter"))
    worker = processes.worker("-Q", queues, env=env)

    # When the program runs
    program = processes.python(PROGRAMS[1], name="producer", env=env)

    # Then it prints the letter, and the story of its run from the first event to the last
    assert program.wait(60) == 0, program.text()
    told = program.text().splitlines()
    assert told[0] == "{'text': 'Good day, Ada Lovelace. Hi Ada!'}"
    assert told[1].startswith("1 run.submitted")
    assert told[-1].split()[1:] == ["run.completed"]
    assert worker.alive
    assert len(PROGRAMS) == 2
