"""What agents share: merges lose nothing, each call counts once, and only who holds the step writes."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any
from uuid import UUID

import pytest

from orchestrator.definitions.vocabulary import fan_out, workflow
from orchestrator.engine import Claimed, Pointer
from orchestrator.merging import MergeError
from orchestrator.prune import Pruner, Rule
from orchestrator.shared_state import Author, Cell, SharedState, StaleAttempt, StateError
from orchestrator.store.connect import Pool
from schemas.errors import AgentError, Conflict, Permanent
from schemas.state import MAX_VALUE, Merge, Scope, Versioned
from tests.integration.engine.bench import Bench, Boom, named
from workers.context import Context
from workers.hands import Hands
from workers.journal import Journal
from workers.keeping import Keeping
from workers.state import Sharing

A, B, C = (named(name) for name in "abc")
PAIR = workflow("pair", A >> B >> C)
HANDS = Hands()
BESIDE = workflow("beside", fan_out(A, B))


def context(bench: Bench, claimed: Claimed, store: SharedState | None = None) -> Context:
    """What the agent of a claimed step is given."""
    author = Author(claimed.run.id, claimed.path, claimed.attempt, claimed.tenant)
    return Context(
        claimed.run.id,
        claimed.path,
        claimed.attempt,
        claimed.workflow,
        claimed.tenant,
        claimed.labels,
        intent=None,
        deadline=0.0,
        _sharing=Sharing(store or SharedState(bench.pool), author, HANDS.sharing),
    )


def first(bench: Bench, flow: Any = PAIR, path: str = "0", **fields: Any) -> Context:
    """The context of the first step of a new run."""
    return context(bench, bench.claim(bench.submit(flow, 1, **fields), path))


def again(bench: Bench, ctx: Context) -> Context:
    """That of the next attempt of a step, whose worker was lost."""
    bench.engine.release(Pointer(ctx.run_id, ctx.path))
    return context(bench, bench.claim(ctx.run_id, ctx.path))


def test_values_are_set_and_read_with_their_versions(bench: Bench) -> None:
    ctx = first(bench)

    assert ctx.state.get("x") is None
    assert ctx.state.get("x", 7) == 7
    assert ctx.state.read("x") == Versioned(value=None, version=0)
    assert ctx.state.set("x", {"a": [1]}) == 1
    assert ctx.state.set("x", None, version=1) == 2
    assert ctx.state.get("x", 7) is None
    assert ctx.state.set("y", 1, version=0) == 1
    assert ctx.state.all() == {"x": None, "y": 1}


def test_who_has_not_seen_the_latest_version_does_not_overwrite_it(bench: Bench) -> None:
    run = bench.submit(BESIDE, 1)
    one, two = (context(bench, bench.claim(run, f"0/{name}")) for name in "ab")
    seen = one.state.read("x")
    two.state.set("x", "two")

    with pytest.raises(Conflict, match="'x' has version 1, not 0"):
        one.state.set("x", "one", version=seen.version)

    assert one.state.get("x") == "two"
    assert one.state.set("x", "both", version=1) == 2


def test_steps_of_a_run_share_and_other_runs_do_not(bench: Bench) -> None:
    run = bench.submit(PAIR, 1)
    claimed = bench.claim(run, "0")
    ctx = context(bench, claimed)
    ctx.state.set("x", 1)
    ctx.scratch.set("x", 2)
    bench.finish(claimed)
    after = context(bench, bench.claim(run, "1"))
    other = first(bench)

    assert (after.state.get("x"), after.scratch.get("x")) == (1, None)
    assert (other.state.get("x"), other.scratch.get("x")) == (None, None)


def test_runs_of_a_tenant_share_by_key(bench: Bench) -> None:
    one = first(bench, labels={"key": "acme"})
    two, stranger = first(bench), first(bench, tenant="other")
    one.shared().set("open", 3)
    one.session().append("hello")

    assert two.shared("acme").merge("open", 1, "add") == 4
    assert two.session("acme").append("again") == 2
    assert one.shared().get("open") == 4
    assert [m.message for m in one.session().history()] == ["hello", "again"]
    assert stranger.shared("acme").get("open") is None
    assert stranger.session("acme").history() == []
    with pytest.raises(Permanent, match=r"name a key: this run has none, .* --label key="):
        two.shared()


def test_a_step_that_is_tried_again_writes_nothing_twice(bench: Bench) -> None:
    def writes(ctx: Context) -> list[Any]:
        return [
            ctx.state.merge("n", 1, "add"),
            ctx.state.merge("n", 1, "add"),
            ctx.state.merge("all", "x", "append"),
            ctx.shared("k").merge("n", 5, "add"),
            ctx.state.set("s", "v"),
            ctx.session("k").append("hello"),
        ]

    ctx = first(bench)
    before = writes(ctx)
    ctx = again(bench, ctx)
    with pytest.raises(Conflict):
        ctx.state.set("new", 1, version=9)

    assert writes(ctx) == before == [1, 2, ["x"], 5, 1, 1]
    assert ctx.state.merge("n", 1, "add") == 3
    assert ctx.session("k").append("new") == 2
    assert ctx.state.all() == {"all": ["x"], "n": 3, "s": "v"}


def test_a_refused_write_is_the_same_call_when_it_is_made_again(bench: Bench) -> None:
    ctx = first(bench)
    other = context(bench, bench.claim(bench.submit(BESIDE, 1), "0/a"))

    def increment(ctx: Context, meanwhile: bool) -> None:
        seen = ctx.shared("k").read("n")
        if meanwhile:
            other.shared("k").merge("n", 10, "add")
        try:
            ctx.shared("k").set("n", (seen.value or 0) + 1, version=seen.version)
        except Conflict:
            increment(ctx, False)

    increment(ctx, True)
    increment(again(bench, ctx), False)

    assert other.shared("k").get("n") == 11


def test_notes_of_a_step_are_for_its_next_attempt(bench: Bench) -> None:
    ctx = first(bench)
    ctx.scratch.set("page", 1)
    ctx.scratch.set("page", 2)
    ctx = again(bench, ctx)

    assert ctx.scratch.get("page") == 2
    assert ctx.scratch.set("page", 3) == 3
    assert again(bench, ctx).scratch.get("page") == 3


def test_a_superseded_attempt_writes_nothing(bench: Bench) -> None:
    stale = first(bench)
    ctx = again(bench, stale)

    for write in (
        lambda: stale.state.set("x", 1),
        lambda: stale.scratch.set("x", 1),
        lambda: stale.shared("k").merge("x", 1, "add"),
        lambda: stale.session("k").append(1),
    ):
        with pytest.raises(StaleAttempt):
            write()
    assert (ctx.state.all(), ctx.scratch.all(), ctx.shared("k").all()) == ({}, {}, {})
    assert ctx.session("k").history() == []
    bench.engine.cancel(ctx.run_id)
    with pytest.raises(StaleAttempt):
        ctx.state.set("x", 1)


def test_an_attempt_that_writes_in_another_order_is_refused(bench: Bench) -> None:
    ctx = first(bench)
    ctx.state.merge("x", 1, "add")

    with pytest.raises(StateError, match="was add in an earlier attempt and is append now"):
        again(bench, ctx).state.merge("x", 1, "append")


@pytest.mark.parametrize(
    ("name", "value", "how", "fault"),
    [
        ("list", 1, "add", "needs a number"),
        ("x", object(), "append", "no JSON form"),
        ("x", "\0", "replace", "cannot store"),
        ("x", float("nan"), "replace", "cannot store"),
        ("x", "y" * MAX_VALUE, "append", "bytes"),
        ("x" * 1_001, 1, "add", "longer than"),
    ],
)
def test_what_cannot_be_written_is_said_and_leaves_nothing(
    bench: Bench, name: str, value: Any, how: str, fault: str
) -> None:
    ctx = first(bench)
    ctx.state.set("list", [])

    with pytest.raises((StateError, MergeError), match=fault):
        ctx.state.merge(name, value, how)

    assert ctx.state.all() == {"list": []}
    assert bench.query("SELECT count(*) FROM state_writes") == [(1,)]
    ctx.state.set("x", 1)


def test_a_value_does_not_grow_without_bound(bench: Bench) -> None:
    ctx = first(bench)
    ctx.state.merge("x", "y" * (MAX_VALUE - 100), "append")

    with pytest.raises(StateError, match="bytes"):
        ctx.state.merge("x", "z" * 200, "append")


def test_a_plain_context_has_nothing_to_share() -> None:
    ctx = Context(UUID(int=1), "0", 1, "w", "t", {}, None, 0.0)

    with pytest.raises(AgentError, match="not made by a worker"):
        _ = ctx.state


def test_writers_beside_each_other_lose_nothing(bench: Bench) -> None:
    run = bench.submit(workflow("wide", fan_out(**{f"w{n}": A for n in range(8)})), 1)
    pools = [Pool(bench.url, size=1) for _ in range(8)]
    contexts = [
        context(bench, bench.claim(run, f"0/w{n}"), SharedState(pool)) for n, pool in enumerate(pools)
    ]

    def write(ctx: Context) -> None:
        for number in range(25):
            ctx.state.merge("sum", 1, "add")
            ctx.state.merge("list", f"{ctx.path}/{number}", "append")
            ctx.state.merge("set", [number], Merge.UNION)
            ctx.session("s").append(ctx.path)
            while True:
                seen = ctx.state.read("cas")
                try:
                    ctx.state.set("cas", (seen.value or 0) + 1, version=seen.version)
                    break
                except Conflict:
                    continue

    with ExitStack() as closing, ThreadPoolExecutor(8) as threads:
        for pool in pools:
            closing.callback(pool.close)
        list(threads.map(write, contexts))
        found = contexts[0].state.all()
        history = contexts[0].session("s").history(last=1_000)

    assert (found["sum"], found["cas"], len(set(found["list"])), len(found["list"])) == (200, 200, 200, 200)
    assert sorted(found["set"]) == list(range(25))
    assert [m.number for m in history] == list(range(1, 201))


def test_where_a_loop_runs_the_calls_are_awaited_and_numbered_as_asked(bench: Bench) -> None:
    async def writes(ctx: Context) -> list[Any]:
        return await asyncio.gather(*(ctx.state.merge("n", 2**n, "add") for n in range(6)))

    ctx = first(bench)
    asyncio.run(writes(ctx))
    ctx = again(bench, ctx)
    asyncio.run(writes(ctx))

    assert ctx.state.get("n") == 2**6 - 1
    assert asyncio.run(_got(ctx)) == 2**6 - 1


async def _got(ctx: Context) -> Any:
    return await ctx.state.get("n")


def test_a_forked_run_remembers_what_the_steps_had_written_that_it_keeps(bench: Bench) -> None:
    store = SharedState(bench.pool)

    def remember(agent: str, value: Any, claimed: Claimed) -> Any:
        ctx = context(bench, claimed, store)
        ctx.state.merge("seen", agent, "append")
        ctx.state.merge("n", 1, "add")
        ctx.state.set("last", agent)
        return value

    run = bench.submit(PAIR, 1)
    bench.drain(remember)
    origin = run
    for fork in (UUID(int=1), UUID(int=2)):
        bench.messages += bench.engine.fork(origin, "2", fork)
        found = {name: v.value for name, v in store.all("default", Scope.RUN, str(fork)).items()}
        assert found == {"last": "b", "n": 2, "seen": ["a", "b"]}
        bench.drain(remember)
        assert store.get("default", Cell(Scope.RUN, str(fork), "seen")).value == ["a", "b", "c"]
        origin = fork


def test_the_state_of_a_run_goes_with_it(bench: Bench) -> None:
    ctx = first(bench)
    ctx.state.set("x", 1)
    ctx.scratch.set("x", 1)
    ctx.shared("k").set("x", 1)
    bench.engine.cancel(ctx.run_id)

    list(Pruner(bench.url, Rule(0.0)).batches())

    assert bench.query("SELECT scope FROM states") == [("key",)]
    assert bench.query("SELECT count(*) FROM state_writes") == [(0,)]


def test_a_resumed_run_writes_nothing_twice(bench: Bench) -> None:
    store = SharedState(bench.pool)

    def once_failing(agent: str, value: Any, claimed: Claimed) -> Any:
        context(bench, claimed, store).state.merge("n", 1, "add")
        if agent == "b" and claimed.attempt == 1:
            raise Boom("no")
        return value

    run = bench.submit(PAIR, 1)
    bench.drain(once_failing)
    bench.messages += bench.engine.resume(run)
    bench.drain(once_failing)

    assert bench.end(run).state == "completed"
    assert store.get("default", Cell(Scope.RUN, str(run), "n")).value == 3


@pytest.mark.parametrize("awaited", [False, True])
def test_what_is_written_in_a_block_that_is_not_done_again_has_numbers_of_its_own(
    bench: Bench, awaited: bool
) -> None:
    async def counted(ctx: Context) -> None:
        await ctx.state.merge("n", 1, "add")
        await ctx.once("block", lambda: ctx.state.merge("n", 10, "add"))
        await ctx.state.merge("n", 100, "add")

    def counting(ctx: Context) -> None:
        ctx.state.merge("n", 1, "add")
        ctx.once("block", lambda: ctx.state.merge("n", 10, "add"))
        ctx.state.merge("n", 100, "add")

    run = bench.submit(PAIR, 1)
    for _ in range(3):
        claimed = bench.claim(run, "0")
        ctx = context(bench, claimed)
        ctx._keeping = Keeping(Journal(bench.engine, claimed, HANDS.journals), is_async=awaited)
        if awaited:
            asyncio.run(counted(ctx))
        else:
            counting(ctx)
        assert ctx.state.get("n") == 111
        bench.engine.release(Pointer(run, "0"), lost=False)
