"""`baton runs tools`: what agents had done for them."""

from __future__ import annotations

import json
from dataclasses import replace
from uuid import UUID

from orchestrator.tool_calls.log import CallLog, EndedCall
from tests.integration.cli.test_approvals import BUY
from tests.integration.cli.test_moving_runs import Baton
from tests.integration.cli.test_moving_runs import baton as baton
from tests.integration.engine.bench import Bench


def test_the_calls_of_a_run_are_listed(baton: Baton, bench: Bench) -> None:
    run = bench.submit(BUY, {"amount": 500})
    assert "No tool was called in this run." in baton("runs", "tools", str(run)).stdout
    assert "baton runs ls" in baton("runs", "tools", str(UUID(int=7)), code=1).stderr
    log = CallLog(bench.pool)
    call = EndedCall(run, "0", 1, 3, "order", "look_up", "search", "key:3", {"query": "tides"}, seconds=0.25)
    log.write(call)
    log.write(replace(call, tool="guess", result=["found"], cached=True, part_of=None))
    log.write(replace(call, error="out of\nstock", runs_on=True))

    lines = [" ".join(line.split()) for line in baton("runs", "tools", str(run)).stdout.splitlines()]

    assert lines[1:] == [
        '0 order 1 search: look_up 250 ms {"query": "tides"} null',
        '0 order 1 guess 250 ms, cached {"query": "tides"} ["found"]',
        '0 order 1 search: look_up 250 ms, its thread ran on {"query": "tides"} ! out of stock',
    ]
    whole = json.loads(baton("runs", "tools", str(run), "--json").stdout)
    assert [one["idempotency_key"] for one in whole] == 3 * ["key:3"]
    assert whole[2]["error"] == "out of\nstock"
