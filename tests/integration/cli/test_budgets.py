"""`baton budgets` and `baton costs` as they are typed, on a real database."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from orchestrator.client import Client
from orchestrator.definitions.vocabulary import workflow
from orchestrator.prune import Pruner, Rule
from schemas.errors import RunFailed
from schemas.events import EventKind
from schemas.outcomes import Done
from schemas.usage import Bounds, Budget, Usage
from tests.integration.cli.test_moving_runs import Baton, told
from tests.integration.cli.test_moving_runs import baton as baton
from tests.integration.cli.test_moving_runs import client as client
from tests.integration.engine.bench import Bench, done, named

LINE = workflow("line", named("a") >> named("b"))


def paid(bench: Bench, usd: float, **fields: object) -> None:
    """A run whose first step consumed so much."""
    run = bench.submit(LINE, 1, **fields)
    bench.messages.clear()
    finished = done(bench.claim(run, "0"), 1)
    bench._record(bench.engine, replace(finished, outcome=Done(usage=Usage(usd=usd, tokens=100))))
    bench.drain()


def test_a_budget_is_set_listed_and_removed(baton: Baton, bench: Bench) -> None:
    assert "There are no budgets" in baton("budgets", "ls").stdout
    set_to = baton("budgets", "set", "tenant", "acme", "--usd", "20", "--tokens", "1000").stdout
    assert set_to == "tenant acme may consume 1,000 tokens, 20 USD per day; 0 % are used.\n"

    paid(bench, 5.0, tenant="acme")
    paid(bench, 5.0)

    line = baton("budgets", "ls").stdout.splitlines()[1]
    for word in ("tenant acme", "day", "25 %", "100 tokens, 5 USD", "00:00 UTC", "operator"):
        assert word in line
    (one,) = told(baton("budgets", "ls", "--json"))
    assert (one["spent"]["usd"], one["used"], one["budget"]["tokens"]) == (5.0, 0.25, 1000)
    assert baton("budgets", "rm", "tenant", "acme").stdout == "The budget of tenant acme per day is gone.\n"
    assert told(baton("budgets", "ls", "--json")) == []


def test_what_is_no_budget_is_said_in_one_sentence(baton: Baton) -> None:
    for words, reason in [
        (("set", "tenant", "acme"), "A budget: say how much: --usd, --tokens, --calls or --seconds"),
        (("set", "tenant", "acme"), "baton budgets set tenant acme --usd 20"),
        (("set", "tenant"), "baton budgets set tenant NAME --usd 20"),
        (("set", "tenant", "--usd", "1"), "a tenant or an agent has one, `all` has none"),
        (("set", "all", "acme", "--usd", "1"), "a tenant or an agent has one, `all` has none"),
        (("set", "all", "--usd", "-1"), "usd: Input should be greater than 0"),
        (("rm", "agent", "writer", "--per", "hour"), "there is no budget of agent writer per hour"),
    ]:
        result = baton("budgets", *words, code=1)
        assert reason in " ".join(result.stderr.split())


def test_a_budget_that_is_set_in_its_window_has_spent_what_that_has_cost(baton: Baton, bench: Bench) -> None:
    for _ in range(2):
        paid(bench, 5.0, tenant="acme")
    paid(bench, 5.0)
    # Of what was paid for in another window nothing counts, and of a pruned run what its day has cost
    bench.query("UPDATE costs SET at = at - interval '40 days' WHERE ctid = (SELECT min(ctid) FROM costs)")
    bench.query(
        "INSERT INTO cost_days SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date - n, 'w', 'a', 'm', 'acme', '', 7,"
        " 0, n + 1, 0 FROM unnest(ARRAY[0, 40]) AS n"
    )

    assert (
        "may consume 10 USD per day; 60 % are used"
        in baton("budgets", "set", "tenant", "acme", "--usd", "10").stdout
    )
    assert (
        "may consume 20 USD per day; 55 % are used"
        in baton("budgets", "set", "agent", "a", "--usd", "20").stdout
    )
    assert "50 % are used" in baton("budgets", "set", "all", "--usd", "22", "--per", "month").stdout

    # And counts on from there, once, also when it is set again or was away for a while
    paid(bench, 1.0, tenant="acme")
    assert "70 % are used" in baton("budgets", "set", "tenant", "acme", "--usd", "10").stdout
    baton("budgets", "rm", "tenant", "acme")
    paid(bench, 1.0, tenant="acme")
    assert "80 % are used" in baton("budgets", "set", "tenant", "acme", "--usd", "10").stdout


def test_a_budget_of_an_agent_that_nobody_knows_is_set_with_a_warning(baton: Baton, bench: Bench) -> None:
    bench.submit(workflow("line", named("writer")), 1)

    told = baton("budgets", "set", "agent", "writter", "--usd", "1")

    assert "warning: There is no agent 'writter'; did you mean 'writer'?" in " ".join(told.stderr.split())
    assert "agent writter may consume 1 USD per day" in told.stdout
    assert baton("budgets", "set", "agent", "writer", "--usd", "1").stderr == ""


def test_costs_are_told_as_they_were_paid_and_survive_their_runs(
    baton: Baton, bench: Bench, client: Client
) -> None:
    assert baton("costs").stdout == "Nothing was paid for.\n"
    paid(bench, 0.5, tenant="acme", labels={"user": "ann"})
    paid(bench, 0.25)

    lines = baton("costs", "--by", "tenant").stdout.splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["acme", "0.500000", "100", "0", "0"],
        ["default", "0.250000", "100", "0", "0"],
        ["all", "0.750000", "200", "0", "0"],
    ]
    assert told(baton("costs", "--by", "user", "--since", "1d", "--json"))[0]["key"] == "ann"
    assert baton("costs", "--since", "soon", code=1).exit_code == 1

    # When the runs are pruned
    before = client.costs("user")
    bench.query("UPDATE runs SET created_at = created_at - interval '40 days',"
                " finished_at = finished_at - interval '40 days'")  # fmt: skip
    for _ in Pruner(bench.url, Rule(86_400 * 30)).batches():
        pass

    # Then what they cost is told as before
    assert bench.query("SELECT count(*) FROM costs") == [(0,)]
    assert client.costs("user") == before
    assert [one.usd for one in client.costs("workflow", since=3_600)] == [0.75]


def test_a_run_tells_when_little_is_left(baton: Baton, bench: Bench, client: Client) -> None:
    run = bench.submit(workflow("line", named("a") >> named("b"), budget=Budget(tokens=100)), 1)
    finished = done(bench.claim(run, "0"), 1)
    bench._record(bench.engine, replace(finished, outcome=Done(usage=Usage(tokens=90))))

    assert f"90 % of the budget of run {run} are used up" in baton("runs", "explain", str(run)).stdout
    (warning,) = [event for event in client.events(run) if event.kind is EventKind.RUN_BUDGET_WARNING]
    assert warning.data["used"] == 0.9

    # And again when it has its budget before it again
    bench.query("UPDATE runs SET state = 'failed', error = '{}', finished_at = now() WHERE id = %s", run)
    bench.messages = bench.engine.resume(run)
    assert bench.query("SELECT * FROM budget_warnings") == []


def test_a_run_that_a_budget_has_ended_shows_what_it_came_to(
    baton: Baton, bench: Bench, client: Client
) -> None:
    dear = named("dear", bounds=Bounds(tokens=10))
    run = bench.submit(workflow("line", named("a") >> dear, budget=Budget(tokens=100)), 1)
    finished = done(bench.claim(run, "0"), {"draft": "paid for"})
    bench._record(bench.engine, replace(finished, outcome=Done(usage=Usage(tokens=100))))
    bench.drain()

    # A person sees it beside the reason and the next command, a program has it as data
    shown = baton("runs", "show", str(run))
    assert "so far:  0 a" in shown.stderr
    assert json.loads(shown.stdout[shown.stdout.index("{") :]) == {"draft": "paid for"}
    assert f"baton runs resume {run}" in shown.stderr
    assert f"baton runs show {run}" in baton("runs", "watch", str(run), code=1).stderr
    assert f"the budget of run {run} is used up" in baton("runs", "explain", str(run)).stdout
    found = {"run_id": str(run), "path": "0", "agent": "a", "output": {"draft": "paid for"}}
    assert told(baton("runs", "show", str(run), "--json"))["partial"] == [found]
    with pytest.raises(RunFailed, match="100 of 100 tokens") as failure:
        client.result(run)
    assert [one.model_dump(mode="json") for one in failure.value.partial] == [found]
