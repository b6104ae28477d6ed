"""What people see and do: listing, searching, forgetting, explaining, pruning, and what the doctor says."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

import psycopg
import pytest
from typer.testing import CliRunner, Result

from orchestrator.cli.app import app
from orchestrator.definitions.vocabulary import workflow
from orchestrator.doctor import memory as doctor
from orchestrator.prune import Pruner, Removed, Rule
from orchestrator.store.server_facts import VectorFacts
from schemas.memory import MemorySettings
from schemas.settings import settings
from tests.integration.memory.conftest import Mind, by_hand, plain
from tests.support import eventually
from workers import Context, agent, memory

Baton = Callable[..., Result]


@pytest.fixture
def baton(url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command line, on the database of this test."""
    monkeypatch.setenv("BATON_DATABASE_URL", url)
    monkeypatch.setenv("BATON_BROKER_URL", "redis://127.0.0.1:9/0")
    settings.cache_clear()

    def run(*words: str) -> Result:
        return CliRunner().invoke(app, list(words))

    yield run
    settings.cache_clear()


def remember(mind: Mind) -> list[int]:
    def act(ctx: Context) -> list[int]:
        first = ctx.memory.remember("tides come\n twice a day", key="ann", kind="fact", expires=3600)
        return [first, ctx.memory.remember("ropes [are] long", key="bob")]

    ids: list[int] = mind.do(act)
    return ids


def test_memories_are_listed_searched_and_forgotten(words: Mind, baton: Baton) -> None:
    one, two = remember(words)
    words.do(lambda ctx: ctx.memory.remember("tides elsewhere", key="ann"), tenant="other")

    listed = baton("memory", "ls").stdout
    assert "tides come twice a day" in listed
    assert "elsewhere" not in listed
    (found,) = json.loads(baton("memory", "ls", "--key", "bob", "--json").stdout)
    assert (found["id"], found["text"]) == (two, "ropes [are] long")
    assert "twice a day" in baton("memory", "search", "the tides").stdout
    (hit,) = json.loads(baton("memory", "search", "tide", "--json").stdout)
    assert (hit["id"], hit["by"], hit["score"]) == (one, "text", 1.0)
    assert json.loads(baton("memory", "search", "tides", "--key", "bob", "--json").stdout) == []
    assert json.loads(baton("memory", "search", "tides", "--language", "simple", "--json").stdout) == []
    assert baton("memory", "forget", str(one)).stdout == "Forgot 1 memory.\n"
    assert json.loads(baton("memory", "forget", "--all", "--json").stdout) == {"forgotten": 1}
    assert baton("memory", "ls").stdout == (
        "Nothing is remembered for tenant default; --tenant names another.\n"
    )
    nothing = "Nothing for tenant other about bob has any of these words; --tenant names another.\n"
    assert baton("memory", "search", "mars", "--tenant", "other", "--key", "bob").stdout == nothing
    assert "elsewhere" in baton("memory", "ls", "--tenant", "other").stdout


@pytest.mark.parametrize("words_", [[], ["1", "--all"], ["--key", "x", "--all"]])
def test_what_is_to_be_forgotten_has_to_be_said(baton: Baton, words_: list[str]) -> None:
    refused = baton("memory", "forget", *words_)

    assert refused.exit_code == 2
    assert "--key KEY, or --all" in refused.output


def test_explain_tells_what_a_run_has_read(words: Mind, baton: Baton) -> None:
    one, two = remember(words)

    @agent
    async def reading(ctx: Context, value: Any) -> int:
        found = await ctx.memory.recall("long tides", key=["ann", "bob"])
        await ctx.memory.episodes("ann")
        return len(found)

    run = words.begun(reading)
    words.memory.forget("default", [two], None)

    told = baton("runs", "explain", str(run)).stdout.splitlines()

    assert told == [
        "0 reading  read 2 memories for 'long tides', searched by text",
        f"    {two}  0.50 by text  (forgotten since)",
        f"    {one}  0.50 by text  tides come twice a day",
        "0 reading  read past runs of ann: none",
    ]
    as_json = json.loads(baton("runs", "explain", str(run), "--json").stdout)
    assert [one["kind"] for one in as_json] == ["step.recalled", "step.recalled"]


def pruned(url: str, rule: Rule) -> Removed:
    removed = Removed()
    pruner = Pruner(url, rule)
    counted = pruner.count()
    for batch in pruner.batches():
        removed += batch
    assert counted == removed
    return removed


def test_expired_memories_and_forgotten_keys_are_pruned(words: Mind) -> None:
    def act(ctx: Context) -> None:
        ctx.memory.remember("gone", expires=0.001)
        ctx.memory.remember("stays", expires=3600)
        ctx.memory.remember("stays, too")
        for key in ("old", "new"):
            ctx.shared(key).set("x", 1)
            ctx.session(key).append("hello")

    words.do(act)
    words.query("UPDATE states SET written_at = now() - interval '9 days' WHERE owner = 'old'")
    words.query("UPDATE sessions SET touched_at = now() - interval '9 days' WHERE key = 'old'")
    eventually(lambda: bool(words.query("SELECT 1 FROM memories WHERE expires_at < clock_timestamp()")))

    assert pruned(words.url, Rule(86_400, tenant="default")) == Removed()
    assert pruned(words.url, Rule(86_400)) == Removed(memories=1)
    assert pruned(words.url, Rule(86_400, state_older_than=8 * 86_400)) == Removed(states=1, sessions=1)

    assert {one.text for one in words.memory.memories("default", None, 9)} == {"stays", "stays, too"}
    assert words.query("SELECT owner FROM states") == [("new",)]
    assert words.query("SELECT session FROM session_messages") == [("new",)]
    assert words.do(lambda ctx: ctx.session("old").append("again")) == 1


def test_pruning_state_is_about_no_run(baton: Baton) -> None:
    def refusal(*options: str) -> str:
        refused = baton("db", "prune", "--older-than", "30d", "--state-older-than", *options)
        assert refused.exit_code == 2
        return refused.output

    assert "needs a unit" in refusal("30")
    assert "about no runs" in refusal("30d", "--tenant", "x")


# --- past runs ------------------------------------------------------------------------------------------------


def test_past_runs_of_a_key_are_told_newest_first(words: Mind) -> None:
    @agent
    async def worker(ctx: Context, value: Any) -> Any:
        ctx.spend(tokens=7)
        if value == "fail":
            raise ValueError("no such tide")
        return {"done": value}

    def begin(value: Any, **fields: Any) -> UUID:
        return words.begun(worker, value, **fields)

    ann = {"key": "ann"}
    first, failed = begin("one", labels=ann), begin("fail", labels=ann)
    eventually(lambda: bool(words.work() or words.views.end(failed)), timeout=20)
    begin("other key", labels={"key": "bob"})
    begin("other tenant", labels=ann, tenant="other")
    begin("no key")
    waiting = words.submit(workflow("w", worker.part), "runs still", labels=ann)
    words.messages.clear()  # nobody comes to it

    def read(ctx: Context) -> Any:
        some = ctx.memory.episodes("ann")
        assert [one.run_id for one in ctx.memory.episodes("ann", 1)] == [failed]
        return [one.model_dump(mode="json") for one in some] + [str(ctx.run_id)]

    second, one, own = words.do(read, labels=ann)

    assert (one["run_id"], one["state"], one["input"]) == (str(first), "completed", "one")
    assert (one["output"], one["error"]) == ({"done": "one"}, None)
    assert one["cost"] == {"tokens": 7, "usd": 0.0, "model_calls": 0}
    assert (second["run_id"], second["state"], second["output"]) == (str(failed), "failed", None)
    assert "no such tide" in second["error"]
    assert second["cost"]["tokens"] == 21
    assert str(waiting) != own


def test_an_agent_without_a_key_names_one(words: Mind) -> None:
    from schemas.errors import Permanent

    def read(ctx: Context) -> str:
        with pytest.raises(Permanent, match=r"name a key: this run has none, .* --label key="):
            ctx.memory.episodes()
        return "refused"

    assert words.do(read) == "refused"


def test_past_runs_are_found_by_an_index_beside_many_others(words: Mind) -> None:
    words.query(
        "INSERT INTO runs (id, definition_id, workflow, tenant, labels, input, state, finished_at, output_ref)"
        " SELECT gen_random_uuid(), 'd', 'w', 'default', jsonb_build_object('key', 'k' || mod(n, 500)), '1',"
        " 'completed', now(), 'run' FROM generate_series(1, 5000) n"
    )
    words.query("ANALYZE runs")
    from orchestrator.store.memory_queries import SELECT_EPISODES

    keys = {"tenant": "default", "key": "k7", "most": 5, "run_id": UUID(int=0)}
    with psycopg.connect(words.url) as conn:
        cursor = psycopg.ClientCursor(conn)
        plan = str(cursor.execute("EXPLAIN (FORMAT JSON) " + SELECT_EPISODES, keys).fetchall())

    assert "runs_of_keys" in plan
    assert "Seq Scan" not in plan
    assert "'Sort'" not in plan


# --- the doctor -----------------------------------------------------------------------------------------------


def test_the_doctor_says_whether_memory_is_searched_by_meaning(url: str) -> None:
    setup = memory(embed=by_hand)

    def said(where: str, given: MemorySettings | None = setup, **options: Any) -> list[str]:
        return [one.sentence for one in doctor.check(given, where, wanted=True, **options)]

    assert said(url, None) == said(url, memory()) == []
    assert said(url) == ["pgvector is on the server and is installed when it is first needed."]
    assert "is not installed" in said(plain(url))[0]
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("CREATE EXTENSION vector")
    assert said(plain(url))[0].startswith("Memory is searched by words and, with pgvector 0.8.")


@pytest.mark.parametrize(
    ("facts", "wanted", "sentence"),
    [
        (VectorFacts(None, False, True), True, "This Postgres has no pgvector"),
        (VectorFacts("0.7.4", True, True), True, "pgvector 0.7.4 is too old"),
        (VectorFacts("0.10.0", True, True), True, "Memory is searched by words and, with pgvector 0.10.0"),
        (VectorFacts("0.8.5", True, True), False, "BATON_VECTORS is off"),
    ],
)
def test_the_doctor_names_what_is_missing(facts: VectorFacts, wanted: bool, sentence: str) -> None:
    (found,) = doctor.vectors(facts, "f", wanted=wanted)

    assert found.sentence.startswith(sentence)
