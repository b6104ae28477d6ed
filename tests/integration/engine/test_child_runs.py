"""Workflows as stages: child runs, awaited or let go, through everything that can happen to a run."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from orchestrator.cli.runs import family
from orchestrator.definitions.vocabulary import Composable, child, each, fan_out, workflow
from orchestrator.engine import Pointer
from orchestrator.planning.bounds import bounds
from orchestrator.planning.mermaid import mermaid
from orchestrator.prune import Pruner, Rule
from schemas.errors import Conflict, DefinitionError
from schemas.workflows import Workflow
from tests.integration.engine.bench import Bench, Boom, named
from tests.integration.engine.test_patterns import acting

A, B, C = (named(name) for name in "abc")
INNER = workflow("inner", A >> B)


def around(body: Composable | None = None, **fields: Any) -> Workflow:
    return workflow("outer", body or C >> child(INNER) >> C, **fields)


def children(bench: Bench, run: UUID) -> dict[str, UUID]:
    """The latest runs that steps of this one started, by step."""
    rows = bench.query(
        "SELECT parent_step, id FROM runs WHERE parent_run = %s ORDER BY parent_step, parent_try", run
    )
    return dict(rows)


def state(bench: Bench, run: UUID) -> str:
    ((found,),) = bench.query("SELECT state FROM runs WHERE id = %s", run)
    return str(found)


def test_a_workflow_is_a_stage_and_its_run_a_run_of_its_own(bench: Bench) -> None:
    # When a run comes to a stage that is a workflow
    run = bench.submit(around(), "x", tenant="acme", labels={"team": "blue"}, priority=3)
    bench.drain(lambda agent, value, _: f"{value}{agent}", rounds=1)

    # Then another run is under way, for the same tenant, and the step waits without a worker
    inner = children(bench, run)["1"]
    view = bench.views.summary(inner)
    assert (view.workflow, view.state, view.parent_run, view.parent_step) == ("inner", "queued", run, "1")
    assert (view.tenant, view.labels, view.priority, view.awaited) == ("acme", {"team": "blue"}, 3, True)
    assert bench.states(run)["1"] == "open"

    # And its output is that of the step
    bench.drain(lambda agent, value, _: f"{value}{agent}")
    assert bench.end(run).output == "xcabc"
    assert bench.view(inner).input == "xc"
    step = next(step for step in bench.view(run).steps if step.path == "1")
    assert (step.state, step.child) == ("done", inner)
    assert [one.id for one in bench.view(run).children] == [inner]


def test_a_child_that_fails_fails_its_step_with_a_reason_that_names_it(bench: Bench) -> None:
    run = bench.submit(around())
    bench.drain(acting(b=Boom("no")))

    error = bench.end(run).error
    assert error is not None
    assert error.type == "ChildFailed"
    assert error.message == f"run {children(bench, run)['1']} of inner failed: no"


def test_a_fallback_takes_the_place_of_a_child_that_fails(bench: Bench) -> None:
    run = bench.submit(around(C >> child(INNER).otherwise(C) >> C))
    bench.drain(acting(b=Boom("no"), c=lambda value: ["c", value]))

    assert bench.end(run).output == ["c", ["c", ["c", None]]]


def test_the_same_whatever_the_order_and_however_often_messages_come(bench: Bench) -> None:
    run = bench.submit(
        around(each(child(workflow("middle", fan_out(A, x=child(INNER)))), join=C)), list(range(20))
    )
    bench.drain(chaos=0.3)

    assert bench.end(run).state == "completed"
    assert bench.query("SELECT count(*) FROM runs") == [(1 + 20 + 20,)]
    assert set(bench.executed.values()) == {1}


def test_a_child_that_is_let_go_lives_on_by_itself(bench: Bench) -> None:
    run = bench.submit(around(child(INNER, wait=False) >> C.when("input.run != ''")))
    inner = children(bench, run)["0"]
    assert bench.states(run)["0"] == "done"

    bench.engine.pause(run)
    assert state(bench, inner) == "queued"
    bench.engine.cancel(run)
    bench.drain()

    assert state(bench, inner) == "completed"


def test_a_first_stage_that_is_a_workflow_waits_for_the_delay_of_the_run(bench: Bench) -> None:
    run = bench.submit(around(child(INNER)), delay=60.0)
    assert bench.messages == []
    inner = children(bench, run)["0"]

    bench.query("UPDATE steps SET due_at = now() WHERE run_id = %s", inner)
    bench.drain()

    assert bench.end(run).state == "completed"


# --- what reaches children --------------------------------------------------------------------------------

DEEP = around(fan_out(A, x=child(workflow("middle", A >> child(INNER) >> A))), timeout=600)


def deep(bench: Bench) -> tuple[UUID, UUID, UUID]:
    """A run, its child and that one's child; the innermost and the outermost have a step that is ready."""
    run = bench.submit(DEEP)
    bench.messages = [one for one in bench.messages if one.run.id != run]
    bench.drain(rounds=1)
    middle = children(bench, run)["0/x"]
    return run, middle, children(bench, middle)["1"]


def test_a_cancel_reaches_the_whole_tree(bench: Bench) -> None:
    runs = deep(bench)
    running = bench.claim(runs[2], "0")

    bench.engine.cancel(runs[0], "enough")

    assert [state(bench, run) for run in runs] == ["cancelled"] * 3
    assert not bench.finish(running).accepted
    assert bench.kinds(runs[2])[-1] == "run.cancelled"
    bench.messages, sent = [], bench.sweep()
    assert sent == 0


def test_a_cancelled_child_fails_its_step_and_the_run_goes_on_as_it_says(bench: Bench) -> None:
    run = bench.submit(around(child(INNER).otherwise(C)))
    inner = children(bench, run)["0/do"]

    bench.messages += bench.engine.cancel(inner, "not this one")
    bench.drain()

    assert bench.end(run).state == "completed"
    (step,) = [step for step in bench.view(run).steps if step.path == "0/do"]
    assert step.error is not None
    assert step.error.message == f"run {inner} of inner was cancelled: not this one"


def test_a_pause_reaches_the_whole_tree_and_resuming_too(bench: Bench) -> None:
    runs = deep(bench)
    running = bench.claim(runs[2], "0")

    bench.engine.pause(runs[0], "look at this")

    assert [state(bench, run) for run in runs] == ["paused"] * 3
    assert f"let it go on: baton runs resume {runs[0]}" in bench.view(runs[2]).notes
    # What runs may finish; what follows is held
    assert bench.finish(running).ready == ()
    with pytest.raises(Conflict, match=f"run {runs[0]} is"):
        bench.engine.resume(runs[1])

    bench.messages = bench.engine.resume(runs[0])
    bench.drain()
    assert [state(bench, run) for run in runs] == ["completed"] * 3


def test_a_child_that_was_paused_by_itself_stays_so_when_the_run_around_it_is_resumed(bench: Bench) -> None:
    runs = deep(bench)
    bench.engine.pause(runs[1])
    assert state(bench, runs[2]) == "paused"
    bench.engine.pause(runs[0])

    bench.messages = bench.engine.resume(runs[0])
    bench.drain()

    assert [state(bench, run) for run in runs] == ["running", "paused", "paused"]
    (note,) = bench.view(runs[0]).notes
    assert f"waits for run {runs[1]}, which is paused" in note
    bench.messages += bench.engine.resume(runs[1])
    bench.drain()
    assert bench.end(runs[0]).state == "completed"


def test_a_child_that_starts_while_its_run_is_paused_is_paused_with_it(bench: Bench) -> None:
    run = bench.submit(around(timeout=100.0), None)
    running = bench.claim(run, "0")
    bench.engine.pause(run)

    assert bench.finish(running).ready == ()
    inner = children(bench, run)["1"]
    assert state(bench, inner) == "paused"

    bench.messages = bench.engine.resume(run)
    assert bench.query("SELECT due_at IS NOT NULL, time_left FROM runs WHERE id = %s", inner) == [
        (True, None)
    ]
    bench.drain()
    assert bench.end(run).state == "completed"


def test_a_child_has_no_more_time_than_its_run_and_ends_with_it(bench: Bench) -> None:
    run = bench.submit(workflow("outer", child(workflow("inner", A, timeout=500.0)), timeout=50.0))
    inner = children(bench, run)["0"]
    assert bench.claim(inner, "0").run_left == pytest.approx(50, abs=5)

    bench.query("UPDATE runs SET due_at = now()")
    assert bench.engine.expire() == []

    for one in (run, inner):
        error = bench.end(one).error
        assert error is not None
        assert error.message == "the run took longer than its timeout of 50 s"


def test_a_child_that_takes_too_long_fails_its_step(bench: Bench) -> None:
    run = bench.submit(around(child(workflow("inner", A, timeout=5.0)).optional() >> C))
    inner = children(bench, run)["0/do"]

    bench.query("UPDATE runs SET due_at = now() WHERE id = %s", inner)
    bench.messages = bench.engine.expire()
    bench.drain(acting())

    assert bench.end(run).output == "c"
    assert bench.view(run).degraded


def test_a_fan_out_that_stops_waiting_ends_the_children_it_waited_for(bench: Bench) -> None:
    run = bench.submit(around(fan_out(C, x=child(INNER), require=1, within=60)))
    inner = children(bench, run)["0/x"]
    bench.drain(acting(), rounds=0)
    bench.finish(bench.claim(run, "0/c"), "c")

    bench.query("UPDATE steps SET due_at = now() WHERE run_id = %s AND path = '0'", run)
    bench.engine.expire()

    assert bench.end(run).output["c"] == "c"
    assert state(bench, inner) == "failed"
    bench.drain(acting())
    assert state(bench, inner) == "failed"


# --- resume, fork -----------------------------------------------------------------------------------------


def test_a_resumed_run_resumes_the_child_that_failed_and_keeps_the_one_that_is_done(bench: Bench) -> None:
    run = bench.submit(around(fan_out(x=child(INNER), y=child(workflow("other", A >> C)))))
    bench.drain(acting(c=Boom("no")))
    before = children(bench, run)
    assert bench.end(run).state == "failed"

    bench.messages += bench.engine.resume(run)
    bench.drain(acting())

    assert bench.end(run).output == {"x": "b", "y": "c", "gaps": []}
    assert children(bench, run) == before
    assert bench.executed[before["0/x"], "0"] == bench.executed[before["0/y"], "0"] == 1


def test_a_resumed_run_takes_what_its_child_has_done_meanwhile(bench: Bench) -> None:
    run = bench.submit(around())
    bench.drain(acting(b=Boom("no")))
    inner = children(bench, run)["1"]
    bench.messages += bench.engine.resume(inner)
    bench.drain(acting())
    assert (state(bench, run), state(bench, inner)) == ("failed", "completed")

    bench.messages += bench.engine.resume(run)
    bench.drain(acting())

    assert bench.end(run).output == "c"
    assert bench.executed[inner, "1"] == 2


def test_a_resumed_run_starts_another_child_where_one_was_cancelled(bench: Bench) -> None:
    run = bench.submit(around(child(INNER)))
    first = children(bench, run)["0"]
    bench.engine.cancel(first)
    assert bench.end(run).state == "failed"

    bench.messages = bench.engine.resume(run)
    bench.drain(acting())

    assert bench.end(run).output == "b"
    assert children(bench, run)["0"] != first
    assert len(bench.view(run).children) == 2


def test_a_run_that_ran_out_of_time_goes_on_with_its_children(bench: Bench) -> None:
    run, middle, inner = deep(bench)
    bench.query("UPDATE runs SET due_at = now() WHERE id = %s", run)
    bench.engine.expire()
    assert {state(bench, one) for one in (run, middle, inner)} == {"failed"}

    bench.messages = bench.engine.resume(run)
    bench.drain()

    assert bench.end(run).state == "completed"
    assert bench.query("SELECT count(*) FROM runs") == [(3,)]


def test_a_fork_keeps_what_children_have_done_and_starts_others_anew(bench: Bench) -> None:
    run = bench.submit(around(child(INNER) >> child(workflow("other", C))))
    bench.drain(acting())
    new = UUID(int=run.int + 1)

    bench.messages += bench.engine.fork(run, "1", new)
    bench.drain(acting(c=lambda value: [value]))

    assert bench.end(new).output == ["b"]
    assert list(children(bench, new)) == ["1"]


# --- dead steps -------------------------------------------------------------------------------------------


def test_a_step_of_a_child_that_is_set_aside_holds_its_run_up_not_the_one_around_it(bench: Bench) -> None:
    run = bench.submit(around(child(INNER)))
    inner = children(bench, run)["0"]
    for _ in range(10):
        if state(bench, inner) == "paused":
            break
        bench.claim(inner, "0")
        bench.engine.free(bench.engine.holdings())
    assert (state(bench, inner), state(bench, run)) == ("paused", "running")
    bench.engine.pause(run)

    # When the step is retried while the run around it is paused, then it waits for that one
    ((letter, path),) = bench.query("SELECT id, path FROM dead_letters")
    assert bench.engine.retry_step(letter, Pointer(inner, path)) == []
    assert state(bench, inner) == "paused"
    bench.messages = bench.engine.resume(run)
    bench.drain(acting())
    assert bench.end(run).output == "b"


# --- definitions ------------------------------------------------------------------------------------------

TEXT = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
NUMBER = {"type": "object", "properties": {"number": {"type": "number"}}, "required": ["number"]}


def test_types_are_checked_on_both_sides_of_a_child(bench: Bench) -> None:
    texts, numbers = named("texts", takes=TEXT, gives=TEXT), named("numbers", takes=NUMBER, gives=NUMBER)
    inner = workflow("inner", texts)

    with pytest.raises(DefinitionError) as error:
        workflow("outer", numbers >> child(inner) >> numbers)

    assert [fault.path for fault in error.value.faults] == ["1 (child inner)", "2 (numbers)"]


def test_a_child_takes_results_in_the_shape_that_it_wants(bench: Bench) -> None:
    listing = named("listing", takes={"type": "array"})
    run = bench.submit(around(fan_out(A, B) >> child(workflow("inner", listing >> fan_out(A, B)))))

    bench.drain(acting(listing=lambda value: value))

    assert bench.view(children(bench, run)["1"]).input == ["a", "b"]
    assert bench.end(run).output == {"a": "a", "b": "b", "gaps": []}


def test_a_workflow_that_would_start_itself_is_refused() -> None:
    again = workflow("outer", A)
    with pytest.raises(DefinitionError, match="a run of 'outer' would start another run of 'outer'"):
        workflow("outer", A >> child(workflow("inner", child(again))))


def test_children_are_nested_five_deep_at_most() -> None:
    body: Composable = A
    for level in range(5):
        body = child(workflow(f"level-{level}", body))
    workflow("top", body)

    with pytest.raises(DefinitionError, match="its child runs are 6 below each other, more than 5"):
        workflow("top", child(workflow("level-5", body)))


def test_a_definition_is_the_same_in_json() -> None:
    again = Workflow.model_validate_json(DEEP.model_dump_json())

    assert (again, again.id) == (DEEP, DEEP.id)


def test_a_definition_that_was_pruned_is_there_again_when_its_run_begins(bench: Bench) -> None:
    run = bench.submit(around())
    bench.query("DELETE FROM definitions WHERE name = 'inner'")

    bench.drain(acting())

    assert bench.end(run).output == "c"
    assert bench.query("SELECT count(*) FROM definitions WHERE name = 'inner'") == [(1,)]


def test_a_thousand_children_of_an_each(bench: Bench) -> None:
    planner = named("planner", gives={"type": "array"})
    run = bench.submit(around(planner >> each(child(INNER), join=C, parallel=100)))

    bench.drain(acting(planner=list(range(1000)), c=lambda value: len(value["results"])))

    assert bench.end(run).output == 1000
    assert len(children(bench, run)) == 1000


# --- what is shown ----------------------------------------------------------------------------------------


def test_bounds_include_the_runs_that_a_run_starts() -> None:
    inner = workflow("inner", A >> B, timeout=10.0)
    alone, worst = bounds(inner), bounds(workflow("outer", each(child(inner), max_items=7, parallel=2)))

    assert (worst.runs, worst.calls, worst.attempts) == (7, 7 * alone.calls, 7 * alone.attempts)
    assert worst.steps == 1 + 7 * (1 + alone.steps)
    assert (worst.parallel, worst.seconds) == (2, 4 * 10.0)
    assert bounds(workflow("outer", child(inner, wait=False))).seconds == 0.0
    assert "[[" in mermaid(workflow("outer", child(inner)))


def test_child_runs_are_listed_below_their_parents_if_asked_for(bench: Bench) -> None:
    run, middle, inner = deep(bench)
    listed = {
        children: bench.views.runs(
            state=None, workflow=None, label=None, tenant=None, children=children, limit=10
        )
        for children in (False, True)
    }

    assert [one.id for one in listed[False]] == [run]
    assert [(one.id, depth) for one, depth in family(listed[True])] == [(run, 0), (middle, 1), (inner, 2)]


def test_old_children_go_after_the_run_that_could_still_resume_them(bench: Bench) -> None:
    run = bench.submit(around())
    bench.drain(acting(b=Boom("no")))
    bench.query(
        "UPDATE runs SET created_at = now() - interval '9 days', finished_at = now() - interval '8 days'"
    )
    bench.query("UPDATE runs SET finished_at = now() WHERE id = %s", run)
    rule = Rule(older_than=7 * 86_400)

    assert sum(gone.runs for gone in Pruner(bench.url, rule).batches()) == 0
    bench.query("UPDATE runs SET finished_at = now() - interval '8 days' WHERE id = %s", run)
    assert sum(gone.runs for gone in Pruner(bench.url, rule).batches()) == 2
