"""What a workflow can consume at most, by hand; and what `strict` refuses because of it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator import approve, debate, each, fan_out, loop, route, rule, supervise, workflow
from orchestrator.cli.app import app
from orchestrator.definitions.compile import compile_workflow
from orchestrator.definitions.vocabulary import Composable
from orchestrator.planning.amounts import Amount
from orchestrator.planning.bounds import bounds
from orchestrator.planning.strict import excesses, refuse_excess, unheld
from schemas import AgentSpec, Bounds, Budget, BudgetTooSmall, Retry
from schemas.workflows import Workflow
from tests.unit.cli.apps import Note
from workers import agent


def paid(name: str, tokens: int | None, retries: int = 0, **more: float) -> Composable:
    """An agent that may take so many tokens in one attempt."""

    def work(note: Note) -> Note:
        return note

    declared = Bounds(tokens=tokens, **more)  # type: ignore[arg-type]
    return agent(name=name, timeout=10, retry=Retry(max=retries, base=1), bounds=declared)(work)


SMALL, LARGE, RETRIED = paid("small", 10), paid("large", 100), paid("retried", 5, retries=3)


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        (SMALL >> LARGE, 110),
        (RETRIED, 20),  # every attempt is paid
        (fan_out(SMALL, LARGE), 110),
        (each(SMALL, items=None, max_items=7), 70),
        (each(SMALL, max_items=7, join=paid("join", 1)), 71),
        (SMALL.otherwise(LARGE), 110),
        (route(SMALL, LARGE, rules=[rule("r", go="small", when="true")], fallback="small"), 100),
        (loop(SMALL, max_rounds=4), 40),
        (debate(SMALL, LARGE, rubric={"evidence": 1.0}, judge=paid("judge", 7)), 117),
        # Two rounds, each of a plan, at most three assignments of the dearest worker, and a review
        (
            supervise(SMALL, LARGE, planner=paid("p", 1), reviewer=paid("r", 2), max_assignments=3),
            2 * (1 + 300 + 2),
        ),
        (loop(each(RETRIED, max_items=3) >> LARGE, max_rounds=2), 2 * (3 * 20 + 100)),
    ],
)
def test_tokens_add_up_over_every_pattern(body: Composable, tokens: int) -> None:
    node = body.part
    spent = bounds(_unchecked(node)).tokens

    assert spent.bound == tokens


def _unchecked(part: Composable) -> Workflow:
    """A workflow whose types need not fit: only its bounds are asked for."""
    from schemas.workflows import Pipeline

    agents = {spec.name: spec for spec in part.part.agents}
    return Workflow(name="w", body=Pipeline(stages=(part.part.node,)), agents=agents)


def test_what_an_agent_does_not_declare_is_unknown_and_never_zero() -> None:
    worst = bounds(workflow("w", SMALL >> paid("silent", None)))

    assert worst.tokens.bound is None
    assert (worst.tokens.total, worst.tokens.unknown) == (10, {"silent"})
    assert worst.usd.unknown == {"small", "silent"}


def test_a_way_that_is_not_known_could_be_the_dearest() -> None:
    ways = route(SMALL, paid("silent", None), rules=[rule("r", go="small", when="true")], fallback="small")
    assert bounds(workflow("w", ways)).tokens.bound is None


def test_time_is_told_by_who_takes_it() -> None:
    wide = workflow("w", SMALL >> fan_out(LARGE, RETRIED, within=22))
    assert dict(bounds(wide).time.causes) == pytest.approx(
        {"small": 10, "large": 22 * 10 / 57, "retried": 22 * 47 / 57}
    )


def test_endless_waits_are_what_takes_the_time() -> None:
    waiting = bounds(workflow("w", SMALL >> approve("publish")))
    assert waiting.time.largest(1) == [("approve publish", math.inf)]
    assert waiting.seconds == math.inf


def test_shares_of_an_endless_amount_go_to_what_is_endless() -> None:
    amount = Amount({"a": 5, "b": math.inf}).scaled(60)
    assert dict(amount.causes) == {"b": 60}


def test_a_definition_without_bounds_keeps_its_id() -> None:
    """Runs that were stored before agents could declare bounds must still be found by it."""
    spec = AgentSpec(name="a", input_schema={}, output_schema={})
    assert "bounds" not in spec.model_dump_json()
    assert AgentSpec.model_validate_json(paid("b", 3).part.agents[0].model_dump_json()).bounds == Bounds(
        tokens=3
    )


# --- strict -----------------------------------------------------------------------------------------------


def test_a_refusal_names_the_bound_its_value_the_budget_and_what_weighs_most() -> None:
    dear = workflow(
        "dear", each(SMALL, max_items=1) >> each(LARGE, max_items=50), budget=Budget(tokens=1_000)
    )

    with pytest.raises(BudgetTooSmall) as refused:
        refuse_excess(dear)

    assert str(refused.value) == (
        "Workflow 'dear' may not start strictly: it can take 5,010 tokens, and the budget is 1,000 "
        "(most: large 5,000, small 10)."
    )


def test_every_excess_is_named_at_once() -> None:
    one = paid("one", 100, model_calls=3, usd=0.02)
    dear = workflow("dear", one, budget=Budget(tokens=99, model_calls=2, usd=0.02), timeout=9)

    assert list(excesses(dear)) == [
        "it can take 3 model calls, and the budget is 2 (most: one 3)",
        "it can take 100 tokens, and the budget is 99 (most: one 100)",
        "it can take 10 seconds, and the timeout is 9 (most: one 10)",
    ]


def test_what_is_limited_must_be_known() -> None:
    silent = workflow("w", SMALL >> paid("silent", None), budget=Budget(tokens=1_000_000))
    assert list(excesses(silent)) == [
        "nobody knows how many tokens it can take, and the budget is 1,000,000: silent declares no bounds"
    ]


def test_a_budget_cannot_hold_who_says_nothing_beforehand() -> None:
    both = SMALL >> paid("silent", None)
    assert unheld(workflow("w", both, budget=Budget(tokens=100))) == ["silent"]
    assert unheld(workflow("w", both, budget=Budget(seconds=1))) == unheld(workflow("w", both)) == []


def test_what_has_no_limit_and_what_fits_may_start() -> None:
    assert list(excesses(workflow("free", paid("silent", None)))) == []
    assert list(excesses(workflow("fits", LARGE, budget=Budget(tokens=100), timeout=10))) == []


def test_the_timeout_is_no_bound_of_itself() -> None:
    """The plan shows 7 s, for then the run ends; but it would end without a result."""
    assert "10 seconds, and the timeout is 7" in next(excesses(workflow("late", LARGE, timeout=7)))


# --- the command ------------------------------------------------------------------------------------------

APP = "tests.unit.cli.apps"


def test_plan_tells_what_is_not_known_and_strict_refuses_it() -> None:
    shown = CliRunner().invoke(app, ["plan", "line", "--app", APP])
    assert shown.exit_code == 0
    assert "tokens       unknown" in shown.stdout
    assert "no bounds declared by check, draft" in shown.stdout
    assert "learns only at their ends what attempts of check, draft consume" in shown.stdout

    refused = CliRunner().invoke(app, ["plan", "line", "--app", APP, "--strict"])
    assert refused.exit_code == 1
    assert "nobody knows how many tokens it can take, and the budget is 1,000" in refused.stderr


def test_plan_for_programs_has_null_for_what_is_not_known() -> None:
    facts = json.loads(CliRunner().invoke(app, ["plan", "line", "--app", APP, "--json"]).stdout)

    assert facts["bounds"]["tokens"] is None
    assert facts["unknown"]["tokens"] == ["check", "draft"]
    assert len(facts["excesses"]) == 2
    assert facts["unheld"] == ["check", "draft"]


def test_a_picture_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    refused = CliRunner().invoke(app, ["plan", "line", "--app", APP, "--svg", str(tmp_path / "no" / "a.svg")])
    assert refused.exit_code == 1
    assert "No such file or directory" in refused.stderr


def test_the_bounds_of_a_workflow_survive_its_json() -> None:
    made = workflow("w", LARGE)
    again = compile_workflow(Workflow.model_validate_json(made.model_dump_json())).workflow
    assert bounds(again).tokens.bound == 100
    assert again.id == made.id
