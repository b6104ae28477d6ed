"""Supervisors: what is assigned and what is refused, what becomes of workers that fail, and when it ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from orchestrator.definitions.compile import compile_workflow
from orchestrator.definitions.teams import supervise
from orchestrator.definitions.vocabulary import Composable, Part, child, each, fan_out, route, rule, workflow
from orchestrator.engine import Claimed, Pointer
from orchestrator.identify import new_id
from orchestrator.planning.bounds import bounds
from orchestrator.watching.replay import Replay
from schemas import AgentSpec, Assignments, Brief, Budget, Review, Supervised, Usage
from schemas.errors import DefinitionError
from schemas.events import EventKind
from schemas.outcomes import Done
from schemas.usage import Bounds
from schemas.workflows import Leaf, Workflow
from tests.integration.engine.bench import Bench, Boom, done, named

BRIEF, REVIEW = Brief.model_json_schema(), Review.model_json_schema()
PLANNER = named("planner", takes=BRIEF, gives=Assignments.model_json_schema())
REVIEWER = named("reviewer", takes=BRIEF, gives=REVIEW)
TEXT = {"type": "string"}
A, B, C = (named(name, takes=TEXT) for name in "abc")

YES = {"accept": True, "answer": "good"}
NO = {"accept": False, "feedback": "more"}


def team(*workers: Composable, **terms: Any) -> Composable:
    return supervise(*(workers or (A, B)), planner=PLANNER, reviewer=REVIEWER, **terms)


def to(*given: tuple[str, Any]) -> dict[str, Any]:
    """Assignments: worker and input."""
    return {
        "assignments": [
            {"worker": worker, "input": value, "why": f"to know {value}"} for worker, value in given
        ]
    }


def turns(*answers: Any) -> Callable[[Any], Any]:
    """One answer for each round."""
    return lambda brief: answers[brief["round"] - 1]


class Cast:
    """Agents with given answers, who remember what they were given; a worker returns its name and its input."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.seen: dict[str, list[Any]] = {}

    def __call__(self, agent: str, value: Any, claimed: Claimed) -> Any:
        self.seen.setdefault(agent, []).append(value)
        answer = self.answers.get(agent, f"{agent}: {value}")
        answer = answer(value) if callable(answer) else answer
        if isinstance(answer, Boom):
            raise answer
        return answer


def worked(bench: Bench, body: Composable, cast: Cast, **fields: Any) -> Any:
    """The output of a run of this supervisor, which fits its model, or the message of its failure."""
    run = bench.submit(workflow("w", body, **fields), "task")
    bench.drain(cast)
    end = bench.end(run)
    if end.error is not None:
        return end.error.message
    Supervised.model_validate(end.output)
    for brief in (*cast.seen.get("planner", ()), *cast.seen.get("reviewer", ())):
        Brief.model_validate(brief)
    return end.output


# --- rounds -----------------------------------------------------------------------------------------------


def test_workers_get_their_assignments_and_the_reviewer_what_they_found(bench: Bench) -> None:
    cast = Cast(planner=to(("a", "x"), ("b", "y"), ("a", "z")), reviewer=YES)

    end = worked(bench, team(), cast)

    assert end == {
        "answer": "good",
        "accepted": True,
        "ended": "accepted",
        "rounds": 1,
        "feedback": "",
        "found": [],
        "gaps": [],
    }
    assert sorted(cast.seen["a"]) == ["x", "z"]
    (brief,) = cast.seen["reviewer"]
    assert [(one["worker"], one["output"], one["why"]) for one in brief["found"]] == [
        ("a", "a: x", "to know x"),
        ("b", "b: y", "to know y"),
        ("a", "a: z", "to know z"),
    ]


def test_the_planner_is_told_whom_it_may_ask_for_what(bench: Bench) -> None:
    cast = Cast(planner=to(("a", "x")), reviewer=YES)

    worked(bench, team(alternatives={"a": "b"}), cast)

    (brief,) = cast.seen["planner"]
    assert brief["task"] == "task"
    assert (brief["round"], brief["rounds"], brief["max_assignments"]) == (1, 2, 10)
    assert brief["workers"] == {name: {"description": "", "input": TEXT} for name in "ab"}


def test_a_later_round_knows_what_was_found_what_is_missing_and_what_is_wanted(bench: Bench) -> None:
    cast = Cast(
        planner=turns(to(("a", "x"), ("b", "y")), to(("a", "y"))), reviewer=turns(NO, YES), b=Boom("ill")
    )

    end = worked(bench, team(), cast)

    _, second = cast.seen["planner"]
    assert [one["output"] for one in second["found"]] == ["a: x"]
    (gap,) = second["gaps"]
    assert (gap["branch"], gap["input"], gap["state"], gap["reason"]) == ("b", "y", "failed", "ill")
    assert second["feedback"] == "more"
    # And what a later assignment found is missing no more
    assert (end["rounds"], end["gaps"]) == (2, [])


def test_what_another_worker_found_in_the_same_round_fills_no_gap(bench: Bench) -> None:
    cast = Cast(planner=to(("a", "x"), ("b", "x")), reviewer=YES, b=Boom("ill"))

    end = worked(bench, team(), cast)

    assert [gap["branch"] for gap in end["gaps"]] == ["b"]


def test_the_bound_ends_it_with_the_last_answer(bench: Bench) -> None:
    cast = Cast(
        planner=lambda brief: to(("a", f"x{brief['round']}")),
        reviewer=lambda brief: {"accept": False, "answer": brief["round"], "feedback": "more"},
    )

    end = worked(bench, team(max_rounds=3), cast)

    assert (end["answer"], end["accepted"], end["ended"], end["rounds"]) == (3, False, "rounds", 3)
    assert end["feedback"] == "more"


def test_a_round_that_finds_nothing_new_is_the_last(bench: Bench) -> None:
    again = Cast(planner=to(("a", "x")), reviewer=NO)
    assert worked(bench, team(max_rounds=5), again)["rounds"] == 2

    # What the reviewer names as findings goes before what the workers produced
    named_once = Cast(
        planner=lambda brief: to(("a", f"x{brief['round']}")),
        reviewer=turns(
            NO | {"findings": ["p"]}, NO | {"findings": ["q", "p"]}, NO | {"findings": ["p", "q"]}
        ),
    )
    end = worked(bench, team(max_rounds=5), named_once)
    assert (end["rounds"], end["ended"]) == (3, "nothing new")


def test_a_first_round_without_anything_may_be_made_good(bench: Bench) -> None:
    cast = Cast(planner=turns(to(("nobody", "x")), to(("a", "x"))), reviewer=turns(NO, YES))

    end = worked(bench, team(), cast)

    assert (end["accepted"], end["gaps"]) == (True, [])


# --- what is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"worker": "nobody", "input": "x"}, "there is no worker 'nobody', only a, b"),
        ({"worker": "a", "input": 7}, "'a' cannot take its input: 7 is not of type"),
        ({"worker": "a"}, "it is no assignment: input"),
        ({"input": "x"}, "it is no assignment: worker"),
        ("x", "it is no assignment"),
    ],
)
def test_what_no_worker_can_do_is_refused_and_told(bench: Bench, given: Any, reason: str) -> None:
    cast = Cast(planner={"assignments": [given, {"worker": "b", "task": "y"}]}, reviewer=YES)
    run = bench.submit(workflow("w", team()), "task")
    bench.drain(cast)

    (gap,) = bench.end(run).output["gaps"]
    assert gap["state"] == "refused"
    assert reason in gap["reason"]
    assert cast.seen["reviewer"][0]["gaps"] == [gap]
    assert cast.seen["b"] == ["y"]
    (told,) = [e.data for e in bench.events(run) if e.kind is EventKind.STEP_WARNING]
    assert reason in told["message"]


def deep(levels: int) -> Any:
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("worker", "value"),
    [
        (named("odd", takes={"type": 5}), "x"),
        (named("odd"), deep(400)),
        (named("odd", takes=TEXT), deep(400)),
    ],
)
def test_what_cannot_be_checked_is_refused_and_nobody_else_is_disturbed(
    bench: Bench, worker: Part, value: Any
) -> None:
    beside = bench.submit(workflow("beside", C), "x")
    cast = Cast(planner=to(("odd", value), ("a", "x")), reviewer=YES)

    end = worked(bench, team(A, worker), cast)

    assert bench.end(beside).state == "completed"
    assert "odd" not in cast.seen or end["gaps"] == []
    assert cast.seen["a"] == ["x"]


def test_too_many_assignments_are_trimmed(bench: Bench) -> None:
    cast = Cast(planner=to(*(("a", str(n)) for n in range(1_000))), reviewer=YES)

    end = worked(bench, team(max_assignments=4), cast)

    assert sorted(cast.seen["a"]) == ["0", "1", "2", "3"]
    (gap,) = end["gaps"]
    assert gap["reason"] == "too many: a round has at most 4 assignments, 996 more are left out"


def test_a_planner_that_returns_no_list_has_assigned_nothing(bench: Bench) -> None:
    end = worked(bench, team(), Cast(planner={"assignments": 5}, reviewer=NO | {"answer": "none"}))

    assert (end["answer"], end["ended"]) == ("none", "nothing new")
    assert end["gaps"][0]["reason"] == "the planner returned no list of assignments"


def test_assignments_beyond_the_budget_are_refused(bench: Bench) -> None:
    # Given a run of which the planner has consumed 600 of 1,000 tokens
    cast = Cast(reviewer=YES)
    run = bench.submit(workflow("w", team(), budget=Budget(tokens=1_000)), "task")
    assignments = [
        {"worker": "a", "input": str(n), "tokens": tokens} for n, tokens in enumerate((300, 200, 100))
    ]
    claimed = bench.claim(run, "0/0/plan")
    planned = replace(done(claimed, {"assignments": assignments}), outcome=Done(usage=Usage(tokens=600)))
    bench._record(bench.engine, planned)
    bench.messages = [one for one in bench.messages if one.path != "0/0/plan"]
    bench.drain(cast)

    # Then those that it can no longer pay for are not worked on
    assert sorted(cast.seen["a"]) == ["0", "2"]
    (gap,) = bench.end(run).output["gaps"]
    assert gap["reason"] == "over budget: 100 of 1000 tokens are left"


def test_what_an_agent_declares_counts_where_the_planner_expects_nothing(bench: Bench) -> None:
    dear = AgentSpec(name="dear", input_schema=TEXT, output_schema={}, bounds=Bounds(usd=0.4))
    cast = Cast(planner=to(*(("dear", str(n)) for n in range(3))), reviewer=YES)

    end = worked(bench, team(Part(Leaf(agent="dear"), (dear,))), cast, budget=Budget(usd=1.0))

    assert sorted(cast.seen["dear"]) == ["0", "1"]
    assert [gap["reason"] for gap in end["gaps"]] == ["over budget: 0.2 of 1.0 usd are left"]


def test_no_further_round_begins_when_the_budget_is_used_up(bench: Bench) -> None:
    cast = Cast(planner=to(("a", "x")), reviewer=NO | {"answer": "so far"})
    run = bench.submit(workflow("w", team(), budget=Budget(usd=1.0)), "task")
    bench.finish(bench.claim(run, "0/0/plan"), to(("a", "x")))
    worker = bench.claim(run, "0/0/work/0/a")

    bench._record(bench.engine, replace(done(worker, "found"), outcome=Done(usage=Usage(usd=1.0))))
    bench.drain(cast)

    end = bench.end(run).output
    assert (end["answer"], end["ended"], end["rounds"]) == ("so far", "budget", 1)
    assert bench.view(run).degraded
    assert_replayed(bench, run)


class BudgetExceeded(Boom):
    """An agent that was not begun."""


def refused(who: str) -> BudgetExceeded:
    return BudgetExceeded(f"no budget is left for the {who}")


def test_work_that_nobody_can_afford_to_review_is_what_it_ends_with(bench: Bench) -> None:
    cast = Cast(planner=to(("a", "x"), ("b", "y")), a=Boom("ill"), b="found", reviewer=refused("reviewer"))
    run = bench.submit(workflow("w", team()), "task")
    bench.drain(cast)

    end = bench.end(run).output
    assert bench.end(run).error is None
    Supervised.model_validate(end)
    assert (end["answer"], end["accepted"], end["ended"], end["rounds"]) == (None, False, "budget", 0)
    (found,) = end["found"]
    assert (found["worker"], found["input"], found["output"]) == ("b", "y", "found")
    assert [gap["branch"] for gap in end["gaps"]] == ["a"]
    assert bench.view(run).degraded
    assert_replayed(bench, run)


@pytest.mark.parametrize("who", ["planner", "worker", "reviewer"])
def test_a_later_round_that_nobody_can_afford_ends_with_the_answer_before_it(bench: Bench, who: str) -> None:
    cast = Cast(
        planner=turns(to(("a", "x")), refused("planner") if who == "planner" else to(("b", "y"))),
        b=refused("worker") if who == "worker" else "more",
        reviewer=turns(NO | {"answer": "so far"}, NO if who == "worker" else refused("reviewer")),
    )

    end = worked(bench, team(max_rounds=3), cast)

    assert (end["answer"], end["rounds"]) == ("so far" if who != "worker" else None, 1 + (who == "worker"))
    assert end["ended"] == ("nothing new" if who == "worker" else "budget")
    assert [one["output"] for one in end["found"]] == (["more"] if who == "reviewer" else [])


@pytest.mark.parametrize("reason", [refused("planner"), Boom("ill")])
def test_a_first_round_with_nothing_to_show_fails(bench: Bench, reason: Boom) -> None:
    assert worked(bench, team(), Cast(planner=reason)) == str(reason)
    assert worked(bench, team(), Cast(planner=to(("a", "x")), a=reason, reviewer=reason)) == str(reason)


def test_a_review_that_fails_for_another_reason_fails_the_first_round(bench: Bench) -> None:
    assert worked(bench, team(), Cast(planner=to(("a", "x")), reviewer=Boom("ill"))) == "ill"


@pytest.mark.parametrize("free", [True, False])
def test_work_that_takes_more_than_is_left_is_not_lost(bench: Bench, free: bool) -> None:
    # Given a reviewer that costs nothing, or says that it does
    reviewer = REVIEWER if free else named("dear", takes=BRIEF, gives=REVIEW, bounds=Bounds(usd=0.1))
    body = supervise(A, B, planner=PLANNER, reviewer=reviewer)
    run = bench.submit(workflow("w", body, budget=Budget(usd=1.0)), "task")
    bench.finish(bench.claim(run, "0/0/plan"), to(("a", "x")))
    worker = bench.claim(run, "0/0/work/0/a")
    bench._record(bench.engine, replace(done(worker, "found"), outcome=Done(usage=Usage(usd=1.5))))
    bench.messages = [one for one in bench.messages if one.path == "0/0/review"]
    bench.drain(Cast(reviewer=NO | {"answer": "so far"}))

    # Then it reviews what was found, or that is what it ends with
    end = bench.end(run)
    assert (end.state, end.output["ended"]) == ("completed", "budget")
    assert end.output["answer"] == ("so far" if free else None)
    assert [one["output"] for one in end.output["found"]] == ([] if free else ["found"])
    assert bench.view(run).degraded


def test_a_round_that_has_no_seconds_left_is_reviewed_and_none_follows(bench: Bench) -> None:
    run = bench.submit(workflow("w", team(), budget=Budget(seconds=1e-6)), "task")
    plan, bench.messages = bench.claim(run, "0/0/plan"), []
    bench.finish(plan, to(("a", "x")))
    bench.query("UPDATE spendings SET seconds = 0")
    bench.drain(Cast(reviewer=NO | {"answer": "so far"}, a="found"))

    end = bench.end(run).output
    assert (end["answer"], end["ended"], end["rounds"]) == ("so far", "budget", 1)


def assert_replayed(bench: Bench, run: UUID) -> None:
    """Events tell the same as the tables."""
    replay = Replay(bench.plan(run), bench.events(run))
    assert {path: step.state.value for path, step in replay.steps.items()} == bench.states(run)
    assert replay.degraded == bench.view(run).degraded


def test_what_a_child_run_consumed_counts_as_well(bench: Bench) -> None:
    inner = child(workflow("inner", named("a")))
    cast = Cast(planner=to(("inner", "x")), reviewer=NO | {"answer": "so far"})
    run = bench.submit(workflow("w", team(A, inner=inner), budget=Budget(usd=1.0)), "task")
    bench.drain(cast, rounds=1)
    (below,) = [one for one in bench.messages if one.run.id != run]

    worker = bench.claim(below.run.id, below.path)
    bench._record(bench.engine, replace(done(worker, "found"), outcome=Done(usage=Usage(usd=1.0))))
    bench.drain(cast)

    assert bench.end(run).output["ended"] == "budget"


# --- depth ------------------------------------------------------------------------------------------------


def nested(**terms: Any) -> Composable:
    """A supervisor that has another one among its workers."""
    below = supervise(
        C,
        planner=named("lead", takes=Brief.model_json_schema(), gives=Assignments.model_json_schema()),
        reviewer=REVIEWER,
    )
    return team(
        A,
        inner=route(C, deep=below, rules=[rule("d", go="deep", when="input == 'deep'")], fallback="c"),
        **terms,
    )


def test_a_supervisor_may_delegate_to_another_one(bench: Bench) -> None:
    cast = Cast(planner=to(("inner", "deep")), lead=to(("c", "x")), reviewer=YES)

    end = worked(bench, nested(), cast)

    assert (end["accepted"], cast.seen["c"]) == (True, ["x"])


def test_no_agent_can_delegate_deeper_than_it_may(bench: Bench) -> None:
    cast = Cast(planner=to(("inner", "deep"), ("a", "x")), lead=to(("c", "x")), reviewer=YES)

    end = worked(bench, nested(depth=1), cast)

    assert "too deep" in end["gaps"][0]["reason"]
    assert ("lead" in cast.seen, cast.seen["a"]) == (False, ["x"])


def test_three_supervisors_below_each_other_are_refused_at_once() -> None:
    with pytest.raises(DefinitionError, match="supervisor 3 below each other, more than 2"):
        workflow("w", team(each=each(nested()).part))
    # Neither can one of them be in a run of its own
    with pytest.raises(DefinitionError, match="below each other, more than 2"):
        workflow("w", team(inner=child(workflow("inner", nested()))))


# --- what becomes of a worker -----------------------------------------------------------------------------


def test_an_alternative_takes_over_once_what_a_worker_failed_to_do(bench: Bench) -> None:
    cast = Cast(planner=to(("a", "x"), ("b", "y")), reviewer=YES, a=Boom("ill"))

    end = worked(bench, team(alternatives={"a": "b", "b": "a"}), cast)

    assert end["gaps"] == []
    assert sorted(cast.seen["b"]) == ["x", "y"]
    assert {one["output"] for one in cast.seen["reviewer"][0]["found"]} == {"b: x", "b: y"}


def test_when_both_fail_it_is_a_gap(bench: Bench) -> None:
    cast = Cast(planner=to(("a", "x"), ("b", "y")), reviewer=YES, a=Boom("ill"), b=Boom("ill, too"))

    end = worked(bench, team(alternatives={"a": "b"}), cast)

    assert [(gap["branch"], gap["reason"]) for gap in end["gaps"]] == [("a", "ill, too"), ("b", "ill, too")]
    assert len(cast.seen["b"]) == 2


def test_a_worker_is_tried_again_before_its_alternative(bench: Bench) -> None:
    tries: list[str] = []

    def moody(value: Any) -> Any:
        tries.append(value)
        return Boom("not yet", retry_in=0.0) if len(tries) == 1 else "at last"

    cast = Cast(planner=to(("a", "x")), reviewer=YES, a=moody)
    worked(bench, team(alternatives={"a": "b"}), cast)

    assert (len(tries), "b" in cast.seen) == (2, False)


def test_whoever_is_late_is_a_gap_and_the_reviewer_goes_on(bench: Bench) -> None:
    run = bench.submit(workflow("w", team(within=3600)), "task")
    bench.finish(bench.claim(run, "0/0/plan"), to(("a", "x"), ("b", "y")))
    bench.finish(bench.claim(run, "0/0/work/0/a"), "found")
    late = bench.claim(run, "0/0/work/1/b")

    bench.query("UPDATE steps SET due_at = now() WHERE run_id = %s AND due_at IS NOT NULL", run)
    bench.fire()
    bench.drain(Cast(reviewer=YES))

    (gap,) = bench.end(run).output["gaps"]
    assert (gap["branch"], gap["state"]) == ("b", "late")
    assert gap["reason"] == "the round took longer than 3600 s"
    assert not bench.finish(late, "too late").accepted
    assert bench.view(run).degraded


@pytest.mark.parametrize(("parallel", "at_once"), [(None, 3), (5, 5), (1, 1)])
def test_no_more_workers_at_a_time_than_allowed(bench: Bench, parallel: int | None, at_once: int) -> None:
    terms = {} if parallel is None else {"parallel": parallel}
    run = bench.submit(workflow("w", team(**terms)), "task")

    bench.finish(bench.claim(run, "0/0/plan"), to(*(("a", str(n)) for n in range(8))))

    running = [path for path, state in bench.states(run).items() if state == "ready"]
    assert len(running) == at_once
    bench.drain(Cast(reviewer=YES))
    assert bench.end(run).state == "completed"


# --- what becomes of planner and reviewer -----------------------------------------------------------------


@pytest.mark.parametrize("who", ["planner", "reviewer"])
def test_whoever_fails_in_the_first_round_fails_it_and_is_asked_again_by_a_resumed_run(
    bench: Bench, who: str
) -> None:
    answers = {"planner": to(("a", "x")), "reviewer": YES}
    run = bench.submit(workflow("w", team()), "task")
    bench.drain(Cast(**answers | {who: Boom("asleep")}))
    assert bench.end(run).error.message == "asleep"  # type: ignore[union-attr]

    bench.messages += bench.engine.resume(run)
    bench.drain(Cast(**answers))

    assert bench.end(run).output["accepted"]
    assert bench.executed[run, "0/0/work/0/a"] == 1


@pytest.mark.parametrize("who", ["planner", "reviewer"])
def test_a_failed_later_round_leaves_the_answer_of_the_one_before(bench: Bench, who: str) -> None:
    first = NO | {"answer": "so far"}
    answers = {"planner": to(("a", "x")), "reviewer": first}
    answers[who] = turns(answers[who], Boom("asleep"))
    run = bench.submit(workflow("w", team()), "task")
    bench.drain(Cast(**answers))

    end = bench.end(run).output
    assert (end["answer"], end["ended"], end["rounds"]) == ("so far", "failed", 1)
    assert bench.view(run).degraded


def test_a_reviewer_that_gives_no_review_fails_its_supervisor_and_nobody_else(bench: Bench) -> None:
    cast = Cast(planner=to(("a", "x")), reviewer={"accept": "perhaps"})
    run = bench.submit(workflow("w", fan_out(odd=team(), sound=C, require=1)), "task")

    bench.drain(cast)

    assert bench.end(run).output["sound"] == "c: task"
    assert "accept" in bench.end(run).output["gaps"][0]["reason"]


# --- runs -------------------------------------------------------------------------------------------------


def test_it_pauses_and_goes_on(bench: Bench) -> None:
    run = bench.submit(workflow("w", team()), "task")
    bench.finish(bench.claim(run, "0/0/plan"), to(("a", "x"), ("b", "y")))
    held = bench.claim(run, "0/0/work/0/a")
    bench.engine.pause(run)
    bench.finish(held, "found")
    bench.messages.clear()

    bench.messages += bench.engine.resume(run)
    bench.drain(Cast(reviewer=YES))

    assert bench.end(run).output["accepted"]


def test_it_is_cancelled_with_all_that_is_under_way(bench: Bench) -> None:
    run = bench.submit(workflow("w", team()), "task")
    bench.finish(bench.claim(run, "0/0/plan"), to(("a", "x"), ("b", "y")))

    bench.engine.cancel(run)
    bench.drain(Cast())

    assert set(bench.states(run).values()) == {"done", "cancelled"}


@pytest.mark.parametrize("step", ["0/0/plan", "0/0/work/0/a", "0/0/review"])
def test_whose_worker_dies_is_done_by_another_one(bench: Bench, step: str) -> None:
    run = bench.submit(workflow("w", team()), "task")
    cast = Cast(planner=to(("a", "x")), reviewer=YES)
    while step not in bench.states(run):
        bench.drain(cast, rounds=1)

    message = next(one for one in bench.messages if one.path == step)
    bench.claim(run, step)
    bench.engine.release(Pointer(run, step), lost=True)
    bench.messages.append(message)
    bench.drain(cast)

    assert bench.end(run).output["accepted"]
    assert set(bench.executed.values()) == {1}


def test_a_run_out_of_time_goes_on_with_its_assignments_when_it_is_resumed(bench: Bench) -> None:
    run = bench.submit(workflow("w", team(), timeout=3600.0), "task")
    bench.finish(bench.claim(run, "0/0/plan"), to(("a", "x"), ("b", "y")))
    bench.finish(bench.claim(run, "0/0/work/0/a"), "found")
    bench.query("UPDATE runs SET due_at = now() WHERE id = %s", run)
    bench.fire()
    assert bench.end(run).state == "failed"
    bench.messages.clear()

    bench.messages += bench.engine.resume(run)
    cast = Cast(reviewer=YES)
    bench.drain(cast)

    assert bench.end(run).output["accepted"]
    assert ("a" in cast.seen, cast.seen["b"]) == (False, ["y"])
    assert_told(bench, run)


@pytest.mark.parametrize(
    ("step", "executed"),
    [
        ("0/0/plan", {"planner", "a", "b", "reviewer"}),
        ("0/0/work/1", {"b", "reviewer"}),
        ("0/0/work/1/b", {"b", "reviewer"}),
        ("0/0/review", {"reviewer"}),
        ("0/1", {"planner", "b", "reviewer"}),
    ],
)
def test_a_fork_does_again_what_follows_from_its_step(bench: Bench, step: str, executed: set[str]) -> None:
    planner = turns(to(("a", "x"), ("b", "y")), to(("b", "z")))
    run = bench.submit(workflow("w", team()), "task")
    bench.drain(Cast(planner=planner, reviewer=turns(NO, YES)))

    fork = new_id()
    bench.messages += bench.engine.fork(run, step, fork)
    cast = Cast(planner=planner, reviewer=YES)
    bench.drain(cast)

    assert bench.end(fork).output["accepted"]
    assert set(cast.seen) == executed
    assert_told(bench, fork)


def test_what_happened_is_told(bench: Bench) -> None:
    cast = Cast(planner=turns(to(("a", "x"), ("a", "y")), to(("b", "z"))), reviewer=turns(NO, YES))
    run = bench.submit(workflow("w", team()), "task")
    bench.drain(cast)

    told = [e.data for e in bench.events(run) if e.kind is EventKind.STEP_DECIDED]
    assert [(one["verb"], one["choice"], one["by"], one["reason"]) for one in told] == [
        ("assigned", "a ×2", "planner", "to know x; to know y"),
        ("goes on with", "round 2", "reviewer", "more"),
        ("assigned", "b", "planner", "to know z"),
        ("ends with", "the answer of round 2", "reviewer", "accepted"),
    ]
    assert_told(bench, run)


def assert_told(bench: Bench, run: UUID) -> None:
    """The events of a run tell the states that the tables hold."""
    replay = Replay(bench.plan(run), bench.events(run))
    assert {path: str(step.state) for path, step in replay.steps.items()} == bench.states(run)


# --- definitions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda: team(alternatives={"a": "x"}), "'x', which is not one of a, b"),
        (lambda: team(alternatives={"a": "a"}), "the alternative of 'a' is itself"),
        (lambda: team(parallel=6), "less than or equal to 5"),
        (lambda: team(max_rounds=0, depth=3), "max_rounds(.|\n)*depth"),
        (lambda: supervise(A, planner=named("p"), reviewer=REVIEWER), "plan .p.: it must take a Brief"),
        (
            lambda: supervise(A, planner=named("p", takes=Brief.model_json_schema()), reviewer=REVIEWER),
            "it must return Assignments",
        ),
        (lambda: supervise(A, planner=PLANNER, reviewer=named("r")), "review .r.: it must take a Brief"),
        (
            lambda: named("n", gives={"type": "integer"}) >> team_of_texts(),
            "task: is integer, but Task is wanted",
        ),
        (lambda: team() >> named("d", takes=TEXT), "is Supervised, but string is wanted"),
        (lambda: supervise(planner=PLANNER, reviewer=REVIEWER), "it has no workers"),
    ],
)
def test_what_cannot_be_is_refused(make: Any, fault: str) -> None:
    with pytest.raises(DefinitionError, match=fault):
        workflow("w", make())


def team_of_texts() -> Composable:
    takes = Brief[str].model_json_schema()
    planner = named("planner", takes=takes, gives=Assignments.model_json_schema())
    return supervise(A, planner=planner, reviewer=REVIEWER)


def test_nobody_writes_a_round() -> None:
    made = workflow("w", team())
    body = made.model_dump(mode="json")
    body["body"]["stages"] = [{"pattern": "round", "supervisor": body["body"]["stages"][0]}]

    with pytest.raises(DefinitionError, match="a round is not written"):
        compile_workflow(Workflow.model_validate(body))


def test_the_json_form_is_the_same_supervisor() -> None:
    made = workflow("w", team(alternatives={"a": "b"}, within=5, depth=1))

    assert type(made).model_validate_json(made.model_dump_json()) == made


def test_its_bounds_are_known_before_it_starts(bench: Bench) -> None:
    definition = workflow("w", team(alternatives={"a": "b"}, max_assignments=4, max_rounds=2))
    most = bounds(definition)
    assert (most.calls, most.parallel) == (2 * (1 + 4 * 2 + 1), 3)

    # Given everything that can happen
    run = bench.submit(definition, "task")
    everything = to(*(("a", str(n)) for n in range(4)))
    bench.drain(Cast(planner=everything, reviewer=NO, a=Boom("ill")))

    # Then there are as many steps, and not one more
    states = bench.states(run)
    assert len(states) == most.steps
    assert max(path.count("/") + 1 for path in states) == most.depth
