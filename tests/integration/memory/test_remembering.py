"""What is remembered is found again, once, by whom it belongs to, and the run says what it read."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from orchestrator.identify import new_id
from orchestrator.memory import long_term
from orchestrator.shared_state import Author, StaleAttempt
from schemas.errors import Permanent
from schemas.memory import Recalled
from schemas.runs import RunState
from tests.integration.memory.conftest import PRICE, Mind, Minds, by_hand
from tests.support import eventually
from workers import Agent, AgentError, Context, Embedded, Guard, Retry, agent, memory
from workers.scripted import ScriptedProvider

SUBJECTS = ("tides", "whales", "harbours", "lanterns", "ropes", "sails", "charts", "gulls", "reefs", "storms")
PLACES = ("aldford", "bexford", "corford", "dunford", "elmford", "farford", "gorford", "holford", "ingford")


def fill(ctx: Context) -> None:
    """200 memories that resemble each other, and one that is looked for."""
    for number in range(199):
        subject, place = SUBJECTS[number % 10], PLACES[number % 9]
        ctx.memory.remember(f"Number {number}: the customer asked about {subject} near {place}.", key="ann")
    ctx.memory.remember(
        "She wants her parcels delivered to the neighbour at weekends.", key="ann", data={"n": 7}
    )


def found(mind: Mind, query: str, **options: Any) -> list[Recalled]:
    def act(ctx: Context) -> Any:
        return [one.model_dump(mode="json") for one in ctx.memory.recall(query, **options)]

    return [Recalled.model_validate(one) for one in mind.do(act)]


@pytest.mark.parametrize("kind", ["words", "meaning", "denied"])
def test_the_right_one_of_200_is_found(kind: str, request: pytest.FixtureRequest) -> None:
    mind: Mind = request.getfixturevalue(kind)
    mind.do(lambda ctx: ctx.once("all", lambda: fill(ctx)))

    best, *others = found(mind, "Where should the parcel be delivered at the weekend?", key="ann")

    assert best.text.startswith("She wants her parcels")
    assert best.data == {"n": 7}
    assert best.by == ("both" if kind == "meaning" else "text")
    assert all(one.score < best.score and one.fused < best.fused for one in others)
    assert best.score > 0.5
    assert (best.similarity is None) == (kind != "meaning")
    assert best.share == 1.0


def test_without_an_index_or_the_right_to_one_it_says_so_once(
    denied: Mind, caplog: pytest.LogCaptureFixture, provider: ScriptedProvider
) -> None:
    denied.do(lambda ctx: ctx.memory.remember("tides"))
    denied.do(lambda ctx: ctx.memory.remember("whales"))

    assert [r.message for r in caplog.records if "compares no vectors" in r.message] == [
        "this Postgres compares no vectors, so memory is searched by words: baton doctor"
    ]
    # And nobody pays for vectors that nobody compares.
    assert provider.embedded == []


def test_vectors_find_what_has_no_word_in_common(mind_of: Minds) -> None:
    def embed(texts: list[str]) -> list[list[float]]:
        pets = ("dog", "puppy", "hound")
        return [[1.0, 0.1] if any(pet in text for pet in pets) else [0.1, 1.0] for text in texts]

    mind = mind_of(memory(embed=embed))
    mind.do(lambda ctx: [ctx.memory.remember(text) for text in ("a puppy", "a harbour", "a hound")])

    near = found(mind, "dog", least_score=0.9)

    assert {one.text for one in near} == {"a puppy", "a hound"}
    assert {one.by for one in near} == {"vector"}
    assert [one.similarity for one in near] == [pytest.approx(1.0, abs=1e-6)] * 2
    assert [one.share for one in near] == [None, None]


def test_of_two_searches_the_ranks_are_joined(mind_of: Minds) -> None:
    def embed(texts: list[str]) -> list[list[float]]:
        known = {"tide table": [1.0, 0.0], "tide": [0.6, 0.8], "moon": [0.9, 0.1], "rope": [0.0, 1.0]}
        return [known[text] for text in texts]

    mind = mind_of(memory(embed=embed))
    mind.do(lambda ctx: [ctx.memory.remember(text) for text in ("tide", "moon", "rope")])

    first, second = found(mind, "tide table", least_score=0.3)

    # Second by vector and first by words beats first by vector alone.
    assert (first.text, first.by, first.share) == ("tide", "both", 0.5)
    assert first.fused == pytest.approx((1 / 62 + 1 / 61) / (2 / 61))
    assert (second.text, second.by) == ("moon", "vector")
    assert second.fused == pytest.approx(0.5)
    assert second.score == pytest.approx(0.9 / (0.82**0.5))


def test_words_left_out_and_phrases_are_understood_and_dashes_of_lists_are_not(words: Mind) -> None:
    texts = ("black cat", "black dog", "cat that is black", "a bird")
    words.do(lambda ctx: [ctx.memory.remember(text) for text in texts])

    assert {one.text for one in found(words, "black -dog")} == {"black cat", "cat that is black"}
    assert found(words, '"black cat"')[0].text == "black cat"
    assert {one.text for one in found(words, "pets:\n - cat\n - bird")} == {
        "black cat", "cat that is black", "a bird"
    }  # fmt: skip
    assert found(words, "???") == found(words, "the of") == found(words, r"zebra'\ & | !") == []


def test_a_tenant_never_reads_anothers_memories(meaning: Mind) -> None:
    secret = "The password of the safe is swordfish."
    meaning.do(lambda ctx: ctx.memory.remember(secret, key="ann"), tenant="acme")
    meaning.do(lambda ctx: ctx.memory.remember("The password of the safe is tuna.", key="ann"), tenant="evil")

    def attack(ctx: Context) -> list[str]:
        keys = ["ann", "", "acme", "%", "*", "' OR 1=1 --", "'ann'", "ann' | '=t"]
        queries = ["password safe swordfish", "' | '=k", "=t acme", "swordfish -tuna"]
        return [one.text for query in queries for one in ctx.memory.recall(query, key=keys, most=100)]

    stolen = meaning.do(attack, tenant="evil")

    assert set(stolen) == {"The password of the safe is tuna."}
    assert meaning.memory.memories("evil", None, 10)[0].tenant == "evil"
    assert meaning.memory.forget("evil", None, "ann") == 1
    assert [one.text for one in meaning.memory.memories("acme", None, 10)] == [secret]


def test_a_key_keeps_customers_apart_and_several_are_searched_together(words: Mind) -> None:
    words.do(lambda ctx: ctx.memory.remember("likes tides", key="ann"))
    words.do(lambda ctx: ctx.memory.remember("likes tides and ropes"), labels={"key": "bob"})
    words.do(lambda ctx: ctx.memory.remember("tides come twice a day", kind="fact"))

    def read(ctx: Context) -> list[list[str]]:
        asked = [ctx.memory.recall("tides"), ctx.memory.recall("tides", key=["bob", ""])]
        asked.append(ctx.memory.recall("tides", key=["bob", ""], kind="fact"))
        return [[one.text for one in some] for some in asked]

    own, both, facts = words.do(read, labels={"key": "bob"})

    assert own == ["likes tides and ropes"]
    assert set(both) == {"likes tides and ropes", "tides come twice a day"}
    assert facts == ["tides come twice a day"]


def test_what_has_expired_is_not_found(words: Mind) -> None:
    words.do(lambda ctx: ctx.memory.remember("tides now", expires=3600))
    words.do(lambda ctx: ctx.memory.remember("tides then", expires=0.001))

    eventually(lambda: [one.text for one in found(words, "tides")] == ["tides now"])


def counting(fails: int) -> tuple[Agent, list[int]]:
    """An agent that remembers and recalls, and fails so many times after that."""
    attempts: list[int] = []

    @agent(retry=Retry(max=3, base=0.01))
    async def mindful(ctx: Context, value: Any) -> list[str]:
        await ctx.memory.remember("tides")
        read = await ctx.memory.recall("tides")
        attempts.append(len(read))
        if len(attempts) <= fails:
            raise RuntimeError("not yet")
        await ctx.memory.remember("tides again")
        return [one.text for one in read]

    return mindful, attempts


def test_an_attempt_that_is_tried_again_remembers_once_and_reads_what_it_read(words: Mind) -> None:
    one, attempts = counting(fails=1)
    words.agents[one.name] = one
    run = words.begun(one)
    words.do(lambda ctx: ctx.memory.remember("tides, others wrote meanwhile"))
    eventually(lambda: bool(words.work() or words.views.end(run)))

    end = words.views.end(run)
    assert end is not None
    assert (end.state, end.output) == (RunState.COMPLETED, ["tides"])
    assert attempts == [1, 1]
    texts = sorted(one.text for one in words.memory.memories("default", None, 10))
    assert texts == ["tides", "tides again", "tides, others wrote meanwhile"]
    assert len(words.told(run, "step.recalled")) == 1


def test_a_crash_before_the_journal_is_written_remembers_once(
    words: Mind, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a worker that dies between the memory and the journal, twice
    written, journal = [], words.engine.write_journal

    def dying(*args: Any) -> bool:
        written.append(args)
        if len(written) < 3:
            raise RuntimeError("killed")
        return journal(*args)

    monkeypatch.setattr(words.engine, "write_journal", dying)

    @agent(retry=Retry(max=3, base=0.01))
    async def mindful(ctx: Context, value: Any) -> int:
        return int(await ctx.memory.remember("tides"))

    run = words.begun(mindful)
    eventually(lambda: bool(words.work() or words.views.end(run)))

    (kept,) = words.memory.memories("default", None, 10)
    end = words.views.end(run)
    assert end is not None
    assert end.output == kept.id
    assert len(words.told(run, "step.remembered")) == 1


def test_blocks_remember_once_and_take_no_place(words: Mind) -> None:
    tries: list[int] = []

    @agent(retry=Retry(max=3, base=0.01))
    async def mindful(ctx: Context, value: Any) -> Any:
        async def block() -> int:
            id = await ctx.memory.remember("in a block")
            await ctx.memory.recall("block")
            tries.append(id)
            if len(tries) == 1:
                raise RuntimeError("in the block")
            return int(id)

        first = await ctx.once("block", block)
        after = await ctx.memory.remember("after the block")
        tries.append(after)
        if len(tries) == 3:
            raise RuntimeError("after the block")
        return [first, after]

    run = words.begun(mindful)
    eventually(lambda: bool(words.work() or words.views.end(run)))

    end = words.views.end(run)
    assert end is not None
    assert end.error is None
    assert sorted(one.id for one in words.memory.memories("default", None, 10)) == sorted(end.output)
    assert tries == [end.output[0], end.output[0], end.output[1], end.output[1]]


def test_who_no_longer_holds_the_step_remembers_and_reads_nothing(words: Mind) -> None:
    from orchestrator import workflow
    from orchestrator.engine import Pointer
    from orchestrator.memory.long_term import Passage, Query
    from orchestrator.shared_state import Author, StaleAttempt
    from tests.integration.engine.bench import named

    run = words.submit(workflow("w", named("a")), 1)
    claimed = words.claim(run, "0")
    late = Author(run, claimed.path, claimed.attempt, "default")
    words.engine.release(Pointer(run, claimed.path))
    words.claim(run, claimed.path)

    with pytest.raises(StaleAttempt):
        words.memory.remember(late, 0, Passage("", "note", "late", "null", None, None))
    with pytest.raises(StaleAttempt):
        words.memory.recall(late, Query("default", ("",), None, "late", 5, 0.0))
    assert words.memory.memories("default", None, 10) == []


def test_the_events_say_what_was_read_and_hold_no_text(meaning: Mind) -> None:
    ids = meaning.do(lambda ctx: [ctx.memory.remember(text, key="ann") for text in ("tides", "ropes")])

    @agent
    async def reading(ctx: Context, value: Any) -> list[int]:
        return [one.id for one in await ctx.memory.recall("which tides?", key="ann", least_score=0.2)]

    run = meaning.begun(reading)

    (told,) = meaning.told(run, "step.recalled")
    assert told["query"] == "which tides?"
    assert told["keys"] == ["ann"]
    assert told["searched"] == "text and vectors"
    assert [(one["id"], one["by"]) for one in told["found"]] == [(ids[0], "both")]
    assert told["found"][0]["score"] == 1.0
    assert meaning.memory.texts(run, ids) == dict(zip(ids, ("tides", "ropes"), strict=True))
    assert meaning.memory.forget("default", [ids[0]], None) == 1
    assert meaning.memory.texts(run, ids) == {ids[1]: "ropes"}


def test_secrets_are_masked_before_they_are_remembered_or_sent(
    meaning: Mind, provider: ScriptedProvider
) -> None:
    token = "ghp_" + "a1B2c3D4e5F6" * 3

    @agent(guard=Guard())
    async def guarded(ctx: Context, value: Any) -> int:
        await ctx.memory.remember(f"his token is {token}", data={"token": token})
        return len(await ctx.memory.recall(f"what is {token}"))

    meaning.begun(guarded)

    (kept,) = meaning.memory.memories("default", None, 9)
    assert kept.text.startswith("his token is ")
    everything = meaning.query("SELECT data::text FROM events UNION ALL SELECT value::text FROM journal")
    assert token not in f"{kept} {provider.embedded} {everything}"
    assert len(provider.embedded) == 2


def test_many_memories_are_searched_by_an_index_that_others_do_not_crowd_out(
    url: str, mind_of: Minds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tenant with few memories among many of others, whatever is nearer."""
    mind = mind_of(memory(embed=by_hand))
    mind.do(lambda ctx: [ctx.memory.remember(text, key="ann") for text in ("rope and sail", "whale", "tide")])
    mind.query(
        "INSERT INTO memories (tenant, key, kind, text, data, words, model, vector, run_id, path, place)"
        " SELECT 'other', 'ann', kind, text, data, words, model, (SELECT array_agg(random() - 0.5)"
        " FROM generate_series(1, 64) WHERE g > 0), run_id, path, 10000 * place + g"
        " FROM memories, generate_series(1000, 1700) g"
    )
    exact = found(mind, "where is the rope?", key="ann")
    monkeypatch.setattr(long_term, "FEW", 0)
    near = found(mind, "where is the rope?", key="ann")

    assert [one.text for one in near] == [one.text for one in exact]
    assert near[0].text == "rope and sail"
    assert [one.similarity for one in near] == [pytest.approx(one.similarity) for one in exact]
    ((index,),) = mind.query("SELECT indexdef FROM pg_indexes WHERE indexname LIKE 'memories_near%%'")
    assert "halfvec(64)" in index
    assert mind.query(
        "SELECT idx_scan > 0 FROM pg_stat_user_indexes WHERE indexrelname LIKE 'memories_near%%'"
    )


def test_vectors_cost_what_they_cost_once(meaning: Mind, provider: ScriptedProvider) -> None:
    one, _ = counting(fails=1)
    run = meaning.begun(one)
    eventually(lambda: bool(meaning.work() or meaning.views.end(run)))

    # Two memories and a query: what the journal has is not asked for again.
    assert provider.embedded == ["tides", "tides", "tides again"]
    (figures,) = meaning.views.figures([run])
    assert figures.usage.tokens == provider.input_tokens > 0
    assert figures.usage.usd == pytest.approx(PRICE.of(provider.input_tokens, 0))


def test_making_a_vector_passes_the_gates(mind_of: Minds, provider: ScriptedProvider) -> None:
    from contextlib import asynccontextmanager

    from tests.integration.memory.conftest import vectors_of

    seen: list[Any] = []

    class Watch:
        @asynccontextmanager
        async def around(self, call: Any) -> Any:
            yield
            seen.append(call)

    mind = mind_of(memory(embed=vectors_of(provider)), gates=[Watch()])
    mind.do(lambda ctx: ctx.memory.remember("tides and ropes"))

    (call,) = seen
    assert (call.kind, call.name, call.agent) == ("model", "openai:scripted-embeddings", "doing")
    assert call.usage.tokens == provider.input_tokens
    assert call.worst.tokens >= call.usage.tokens
    assert call.worst.usd >= call.usage.usd > 0


def test_vectors_of_two_models_are_never_compared(mind_of: Minds) -> None:
    def longer(texts: list[str]) -> Embedded:
        return Embedded([[1.0, 0.0, 0.0] for _ in texts])

    first, second = mind_of(memory(embed=by_hand)), mind_of(memory(embed=longer))
    first.do(lambda ctx: ctx.memory.remember("tides"))
    second.do(lambda ctx: ctx.memory.remember("ropes"))

    assert {one.text: one.by for one in found(second, "tides")} == {"tides": "text", "ropes": "vector"}
    models = {one.text: one.model for one in second.memory.memories("default", None, 10)}
    assert models["tides"] == "tests.integration.memory.conftest.by_hand/64"
    assert str(models["ropes"]).endswith("longer/3")


@pytest.mark.parametrize(
    ("embed", "message"),
    [
        (lambda texts: [], "gave 0 vectors of 1 texts"),
        (lambda texts: [[0.0, 0.0]], "points nowhere"),
        (lambda texts: [[float("nan")]], "points nowhere"),
        (lambda texts: [["x"]], "gave no vectors"),
    ],
)
def test_what_is_no_vector_fails_the_attempt(mind_of: Minds, embed: Any, message: str) -> None:
    mind = mind_of(memory(embed=embed))

    @agent(retry=Retry(max=0))
    async def mindful(ctx: Context, value: Any) -> int:
        return int(await ctx.memory.remember("tides"))

    end = mind.views.end(mind.begun(mindful))

    assert end is not None
    assert end.error is not None
    assert message in end.error.message


@pytest.mark.parametrize(
    "act",
    [
        lambda m: m.remember("  "),
        lambda m: m.remember("x" * 100_001),
        lambda m: m.remember("a\0b"),
        lambda m: m.remember("x", key="k" * 1001),
        lambda m: m.remember("x", data=float("nan")),
        lambda m: m.remember("x", data=object()),
        lambda m: m.remember("x", data=["\0"]),
        lambda m: m.remember({"text": "x"}),
        lambda m: m.recall(7),
        lambda m: m.remember("x", expires=0),
        lambda m: m.recall("x", most=0),
        lambda m: m.recall("x", least_score=1.5),
        lambda m: m.recall("\0"),
        lambda m: m.episodes("x", most=0),
        lambda m: m.forget(),
        lambda m: m.forget(1, key="ann"),
        lambda m: m.forget("ann"),
        lambda m: m.forget(2**63),
        lambda m: m.forget(key="a\0"),
    ],
)
def test_what_cannot_be_kept_or_asked_is_refused_for_good(words: Mind, act: Any) -> None:
    def attempt(ctx: Context) -> str:
        with pytest.raises(Permanent) as refused:
            act(ctx.memory)
        return str(refused.value)

    assert words.do(attempt)


def test_many_at_a_time_each_take_their_place(meaning: Mind) -> None:
    @agent
    async def busy(ctx: Context, value: Any) -> int:
        ids = await asyncio.gather(*(ctx.memory.remember(f"tide {n}") for n in range(30)))
        return len(set(ids))

    run = meaning.begun(busy)

    end = meaning.views.end(run)
    assert end is not None
    assert end.output == 30
    assert len(meaning.told(run, "step.remembered")) == 30


def texts(mind: Mind) -> list[str]:
    return [str(text) for (text,) in mind.query("SELECT text FROM memories ORDER BY id")]


def test_what_is_forgotten_is_not_recalled_and_the_run_says_how_much_it_was(words: Mind) -> None:
    ids = words.do(
        lambda ctx: [ctx.memory.remember(f"tide {n}", key="ann" if n < 3 else "bob") for n in range(5)]
    )

    @agent(name="forgetful")
    async def forgetful(ctx: Context, value: Any) -> Any:
        found = await ctx.memory.recall("tide", key="ann")
        return [len(found), await ctx.memory.forget(ids[3], 10**9), await ctx.memory.forget(key="ann")]

    run = words.begun(forgetful)
    end = words.views.end(run)

    assert end is not None
    assert end.output == [3, 1, 3]
    assert texts(words) == ["tide 4"]
    told = words.told(run, "step.forgotten")
    assert [(one["key"], one["ids"], one["message"]) for one in told] == [
        (None, [ids[3]], "1 memory was forgotten"),
        ("ann", ids[:3], "3 memories were forgotten"),
    ]
    assert "tide" not in str(told)
    (recalled,) = words.told(run, "step.recalled")
    assert [one["id"] for one in recalled["found"]] == ids[2::-1]


def test_an_attempt_that_is_tried_again_forgets_nothing_twice(words: Mind) -> None:
    words.do(lambda ctx: ctx.memory.remember("tide 1", key="ann"))
    given: list[list[int]] = []

    @agent(name="forgetful", retry=Retry(max=1, base=0.01))
    async def forgetful(ctx: Context, value: Any) -> Any:
        first = await ctx.memory.forget(key="ann")

        async def block() -> int:
            gone: int = await ctx.memory.forget(key="bob")
            if len(given) == 0:
                given.append([first, gone])
                await ctx.memory.remember("tide 2", key="ann")
                await ctx.memory.remember("tide 3", key="bob")
                raise AgentError("not now")
            return gone

        given.append([first, await ctx.once("block", block)])
        return given

    run = words.begun(forgetful)
    end = words.views.end(run)

    assert end is not None
    assert end.output == [[1, 0], [1, 0]]
    assert texts(words) == ["tide 2", "tide 3"]
    assert len(words.told(run, "step.forgotten")) == 2


def test_an_attempt_that_is_over_and_another_tenant_forget_nothing(words: Mind) -> None:
    words.do(lambda ctx: ctx.memory.remember("tide 1", key="ann"), tenant="acme")

    assert words.do(lambda ctx: ctx.memory.forget(key="ann"), tenant="other") == 0
    assert words.do(lambda ctx: ctx.memory.forget(*range(1, 50)), tenant="other") == 0
    stale = Author(new_id(), "0", 1, "acme")
    with pytest.raises(StaleAttempt):
        words.memory.forget_once(stale, 0, [], "ann")
    assert texts(words) == ["tide 1"]
