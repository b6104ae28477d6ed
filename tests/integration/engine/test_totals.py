"""What a run and its parts came to: every attempt counts, wherever it stands, and nothing counts twice."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator import child, each, fan_out, loop, workflow
from orchestrator.engine import Finished
from orchestrator.identify import new_id
from orchestrator.watching.replay import until
from schemas.outcomes import Done, ErrorInfo, Failed
from schemas.runs import RunView, StepView, Totals
from schemas.usage import Usage
from tests.integration.engine.bench import Bench, named

ONE = Usage(tokens=10, usd=0.5, model_calls=1)
SPLIT = named("split", gives={"type": "array", "items": {}})


def work(bench: Bench, *, tries: int = 1) -> None:
    """Every attempt costs the same; each step takes so many."""
    while bench.messages or bench.fire():
        one = bench.messages.pop(0)
        claimed = bench.claim(one.run.id, one.path)
        failed = Failed(error=ErrorInfo(type="Boom", message="again"), retry_in=0, usage=ONE)
        outcome = Done(usage=ONE) if claimed.attempt >= tries else failed
        output = None if isinstance(outcome, Failed) else "[1, 2, 3]"
        recorded = bench.engine.record(Finished(claimed.run.id, one.path, claimed.attempt, outcome, output))
        assert recorded.accepted
        bench.messages += recorded.ready


def times(number: int) -> Usage:
    return Usage(tokens=10 * number, usd=0.5 * number, model_calls=number)


def steps(view: RunView) -> dict[str, StepView]:
    return {step.path: step for step in view.steps}


def test_stages_and_composites_add_up_what_stands_below_them(bench: Bench) -> None:
    definition = workflow(
        "w", SPLIT >> each(named("a") >> named("b")) >> fan_out(named("c"), named("d"), join=named("e"))
    )
    run = bench.submit(definition)
    work(bench)

    view = bench.view(run)
    found = {path: step.totals.usage.model_calls for path, step in steps(view).items()}
    assert {path: found[path] for path in ("0", "1", "1/0", "1/0/1", "2", "2/join")} == {
        "0": 1, "1": 6, "1/0": 2, "1/0/1": 1, "2": 3, "2/join": 1,
    }  # fmt: skip
    assert view.totals.usage == times(10)
    assert view.totals.attempts == 10


def test_attempts_that_failed_count_too(bench: Bench) -> None:
    run = bench.submit(workflow("w", loop(named("a"), max_rounds=1) >> named("b")))
    work(bench, tries=3)

    view = bench.view(run)
    assert view.totals.usage == times(6)
    assert steps(view)["0"].totals.usage == times(3)
    assert steps(view)["0/0"].totals.attempts == 3
    assert steps(view)["0/0"].usage == ONE  # the latest


def test_time_runs_from_the_first_start_to_the_end(bench: Bench) -> None:
    run = bench.submit(workflow("w", fan_out(named("a"), named("b"))))
    a, b = bench.claim(run, "0/a"), bench.claim(run, "0/b")
    bench.finish(a)

    going = steps(bench.view(run))["0"]
    assert going.totals.seconds is None
    assert going.totals.began_at == steps(bench.view(run))["0/a"].started_at
    bench.finish(b)

    view = bench.view(run)
    ended = steps(view)
    assert ended["0"].totals.seconds is not None
    assert ended["0"].totals.busy == pytest.approx(ended["0/a"].totals.busy + ended["0/b"].totals.busy)
    assert ended["0"].totals.seconds >= ended["0/a"].totals.busy
    assert view.totals.seconds == pytest.approx(ended["0"].totals.seconds, abs=0.05)


def test_what_was_not_begun_came_to_nothing(bench: Bench) -> None:
    run = bench.submit(workflow("w", named("a") >> named("b")))
    assert bench.view(run).totals == Totals()
    assert all(step.totals == Totals() for step in bench.view(run).steps)


def test_a_fork_pays_nothing_for_what_it_kept(bench: Bench) -> None:
    run = bench.submit(workflow("w", named("a") >> named("b")))
    work(bench)
    forked = new_id()
    bench.messages += bench.engine.fork(run, "1", forked)
    work(bench)

    view = bench.view(forked)
    assert view.totals.usage == ONE
    assert steps(view)["0"].totals == Totals()


def test_a_moment_came_to_what_its_events_tell(bench: Bench) -> None:
    """At the end the events know what the rows know."""
    run = bench.submit(workflow("w", SPLIT >> each(named("a"))))
    work(bench, tries=2)
    events = bench.events(run)

    def moment(number: int) -> Any:
        return bench.views.moment(run, until(events, number), len(events))

    last, now = moment(len(events)), bench.view(run)
    assert last.totals.usage == now.totals.usage
    for then, real in zip(last.steps, now.steps, strict=True):
        assert (then.path, then.totals.usage, then.totals.attempts) == (
            real.path, real.totals.usage, real.totals.attempts,
        )  # fmt: skip
    first_failure = next(event.number for event in events if event.kind == "step.retrying")
    assert moment(first_failure).totals.usage == ONE
    assert moment(first_failure - 1).totals == Totals()


def test_what_child_runs_consumed_counts_in_the_run_around_them(bench: Bench) -> None:
    inner = workflow("inner", named("a") >> named("b"))
    middle = workflow("middle", child(inner) >> named("c"))
    run = bench.submit(workflow("outer", loop(child(middle), max_rounds=1) >> named("d")))
    work(bench, tries=2)

    view = bench.view(run)
    assert view.totals.usage == times(8)
    assert steps(view)["0"].totals.usage == times(6)
    assert view.totals.attempts == 2  # the others are those of other runs
    (figures,) = bench.views.figures([run])
    assert figures.usage == times(8)

    events = bench.events(run)
    last = bench.views.moment(run, events, len(events))
    assert last.totals.usage == times(8)
