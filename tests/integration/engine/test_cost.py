"""What a step costs does not depend on how many others its run has, nor what many have cost on looking each up."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from orchestrator.definitions.vocabulary import each, workflow
from orchestrator.engine import Claimed, Pointer
from orchestrator.standing_budgets import StandingBudgets
from orchestrator.watching.costs import Costs
from schemas.usage import Budget
from schemas.workflows import WINDOW
from tests.integration.engine.bench import Bench, done, named

WIDE = 3_000
BATCH = 16


@pytest.fixture
def single(migrated: str) -> Iterator[Bench]:
    """A bench of one connection, so that its statistics are complete and its plans as old as they get."""
    made = Bench(migrated, size=1)
    yield made
    made.close()


def rows_read(bench: Bench) -> int:
    """Index entries of steps that this bench's connection has read so far."""
    bench.query("SELECT pg_stat_force_next_flush()")
    bench.query("SELECT pg_stat_clear_snapshot()")
    return int(
        bench.query("SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = 'steps'")[0][0]
    )


def test_a_batch_of_a_wide_run_reads_no_more_rows_than_it_has_steps(single: Bench) -> None:
    # Given statements that were planned on an empty table, and cached
    small = single.submit(workflow("small", each(named("a"))), [1])
    single.drain()
    assert single.end(small).state == "completed"

    # When some branches of a wide run end
    run = single.submit(workflow("wide", each(named("a"), max_items=WIDE)), list(range(WIDE)))
    before = rows_read(single)
    for start in range(0, 10 * BATCH, BATCH):
        pointers = [Pointer(run, f"0/{n}") for n in range(start, start + BATCH)]
        claimed = [one for one in single.engine.claim_all(pointers) if isinstance(one, Claimed)]
        assert len(claimed) == BATCH
        assert all(one.accepted for one in single.engine.record_all([done(one, 1) for one in claimed]))

    # Then each of them costs the rows it touches, not those beside it
    assert (rows_read(single) - before) / (10 * BATCH) < 20


def test_what_a_join_receives_is_read_row_by_row(single: Bench) -> None:
    # Given statements that were planned on an almost empty table, and cached
    for _ in range(10):
        single.submit(workflow("small", each(named("a"), join=named("j"))), [1])
        single.drain()

    # When a join receives what many branches gave
    run = single.submit(
        workflow("wide", each(named("a"), join=named("j"), max_items=WIDE)), list(range(WIDE))
    )
    ready = [f"0/{n}" for n in range(WINDOW)]
    while ready != ["0/join"]:
        claims = single.engine.claim_all([Pointer(run, path) for path in ready])
        outcomes = [done(one, 1) for one in claims if isinstance(one, Claimed)]
        ready = [one.path for recorded in single.engine.record_all(outcomes) for one in recorded.ready]
    before = rows_read(single)
    claimed = single.claim(run, "0/join")

    # Then each result costs a few rows at most, however many there are
    assert len(json.loads(claimed.input)["results"]) == WIDE
    assert (rows_read(single) - before) / WIDE < 5


def lookups(bench: Bench) -> int:
    """How often this bench's connection has looked into an index of runs or of costs."""
    bench.query("SELECT pg_stat_force_next_flush()")
    bench.query("SELECT pg_stat_clear_snapshot()")
    return int(
        bench.query("SELECT sum(idx_scan) FROM pg_stat_user_indexes WHERE relname IN ('runs', 'costs')")[0][0]
    )


def test_what_runs_have_cost_is_added_up_in_one_go(single: Bench) -> None:
    """While a budget is set nobody can tell what a call has cost: it has to be quick, however many there were."""
    # Given statements that were planned on an almost empty table, and cached
    budgets, costs = StandingBudgets(single.pool), Costs(single.pool)
    single.submit(workflow("w", named("a")))
    for _ in range(10):
        budgets.put("tenant", "default", Budget(tokens=100))
        budgets.remove("tenant", "default")
        costs.by("model")
    # And runs that were paid for
    single.query(
        "WITH made AS (INSERT INTO runs (id, definition_id, workflow, tenant, input, state)"
        "  SELECT gen_random_uuid(), definition_id, workflow, tenant, input, 'running'"
        "  FROM runs, generate_series(1, %s) RETURNING id)"
        "INSERT INTO costs (id, run_id, path, attempt, agent, model, tokens, output_tokens, usd, model_calls)"
        " SELECT gen_random_uuid(), id, '0', 1, 'a', 'm', 10, 5, 0.1, 1 FROM made",
        WIDE,
    )
    single.query("ANALYZE runs, costs")

    before = lookups(single)
    made = budgets.put("tenant", "default", Budget(tokens=100 * WIDE))
    (paid,) = costs.by("model")

    assert made.spent.tokens == paid.input_tokens + paid.output_tokens == 10 * WIDE
    assert lookups(single) - before < WIDE / 10
    # And other statements are planned as they were
    assert single.query("SHOW enable_hashjoin") == [("off",)]
