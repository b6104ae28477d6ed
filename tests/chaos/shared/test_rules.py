"""The rules can fail: each notices a forged history, and code that is broken on purpose is found out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
from redis import Redis

from orchestrator.breakers import circuits, script
from orchestrator.engine.gates import GateRow
from orchestrator.store import memory_queries, tool_queries
from tests.agents import errands
from tests.agents.errands import BREAKER
from tests.chaos.broken import _changed
from tests.chaos.checker import Attempt, Strike, Verdict
from tests.chaos.ledger import Visit
from tests.chaos.shared import rules
from tests.chaos.shared.bureau import NODE, Bureau, opened
from tests.chaos.shared.facts import PACK, Decision, Facts, Opening, TurnedAway
from tests.chaos.shared.rules import RULES, check
from tests.support import Databases
from workers import fallback
from workers.batching import Batches
from workers.gates.limits import LimitGate
from workers.journal import Journal
from workers.tools import flights
from workers.tools.calling import Caller

Patch = pytest.MonkeyPatch
MANY = tuple(range(1, 9))
STORMS = 5


@pytest.fixture
def bureau(databases: Databases, broker: str, monkeypatch: Patch) -> Iterator[Bureau]:
    yield from opened(databases, broker, monkeypatch)


def found(verdict: Verdict, *rules: str) -> None:
    """These rules have noticed it."""
    assert set(rules) <= verdict.broken, str(verdict)


# --- broken code ----------------------------------------------------------------------------------------------------


CIRCUITS = {
    "let through": ("if left > 0 then return", "if false then return", 12, "an_open_circuit_is_left_alone"),
    "many probes": (
        "if left <= 0 and probe ~= '' then left = lasts - now end",
        "",
        12,
        "an_open_circuit_is_left_alone",
    ),
    "too early": ("good + bad >= minimum and", "", 1, "a_circuit_opens_for_its_reason"),
}


@pytest.mark.parametrize(("part", "other", "storm", "rule"), CIRCUITS.values(), ids=CIRCUITS)
def test_a_circuit_that_is_none_is_noticed(
    databases: Databases,
    broker: str,
    monkeypatch: Patch,
    part: str,
    other: str,
    storm: int,
    rule: str,
) -> None:
    broken = _changed(script.SCRIPT, {part: other})
    monkeypatch.setattr(circuits, "SCRIPT", broken)
    monkeypatch.setattr(circuits, "SHA", hashlib.sha1(broken.encode()).hexdigest())  # noqa: S324

    # Whether many come to it at once is for the machine to say, so a few storms may be needed.
    for _ in range(STORMS):
        with contextmanager(opened)(databases, broker, monkeypatch) as bureau:
            verdict = check(bureau.run(MANY[:storm], storm=storm))
        if rule in verdict.broken:
            return
    found(verdict, rule)


def test_calls_that_do_not_wait_for_an_equal_one_are_noticed(bureau: Bureau, monkeypatch: Patch) -> None:
    held = "lease_until > clock_timestamp() AND holder <> %(holder)s"
    select = _changed(tool_queries.SELECT_CACHED, {held: "false"})
    take = _changed(tool_queries.TAKE_CACHED, {"WHERE c.lease_until <=": "WHERE true OR c.lease_until <="})
    monkeypatch.setattr(tool_queries, "SELECT_CACHED", select)
    monkeypatch.setattr(tool_queries, "TAKE_CACHED", take)
    monkeypatch.setattr(rules, "LEASE", 60.0)  # nobody is killed here, only slow

    found(check(bureau.run((3, 9, 15, 21))), "equal_calls_are_made_one_at_a_time")


def test_results_that_answer_nobody_are_noticed(bureau: Bureau, monkeypatch: Patch) -> None:
    select = _changed(tool_queries.SELECT_CACHED, {"expires_at > clock_timestamp()": "false"})
    take = _changed(tool_queries.TAKE_CACHED, {"(c.value IS NULL OR": "(true OR"})
    monkeypatch.setattr(tool_queries, "SELECT_CACHED", select)
    monkeypatch.setattr(tool_queries, "TAKE_CACHED", take)
    monkeypatch.setattr(rules, "LEASE", 60.0)  # nobody is killed here, only slow

    found(check(bureau.run((3, 9, 15))), "a_fresh_result_is_not_fetched_again")


def test_results_that_tenants_share_are_noticed(bureau: Bureau, monkeypatch: Patch) -> None:
    key_of = flights.key_of
    monkeypatch.setattr(
        "workers.tools.calling.key_of", lambda tool, given, tenant: key_of(tool, given, "anybody")
    )

    found(check(bureau.run((3, 6))), "nobody_is_given_what_is_old_or_anothers")


def test_limits_that_nobody_keeps_are_noticed(bureau: Bureau, monkeypatch: Patch) -> None:
    async def passes(self: LimitGate, call: object) -> None:
        return None

    monkeypatch.setattr(LimitGate, "_pass", passes)
    monkeypatch.setattr(GateRow, "opens", lambda self, waited: True)

    found(check(bureau.run(range(1, 41, 2))), "no_concurrency_is_exceeded", "no_rate_is_exceeded")


def test_a_chain_in_another_order_is_noticed(bureau: Bureau, monkeypatch: Patch) -> None:
    monkeypatch.setattr(errands, "search", fallback("search", [errands.steady, errands.fickle]))

    found(check(bureau.run([1])), "the_next_one_answers_only_for_one_that_cannot")


def test_outcomes_of_others_are_noticed(bureau: Bureau, monkeypatch: Patch) -> None:
    each = Batches._each
    monkeypatch.setattr(Batches, "_each", lambda self, results, count: each(self, results, count)[::-1])

    found(
        check(bureau.run([4, 5])),
        "each_item_of_a_batch_has_its_own_outcome",
        "every_output_follows_from_what_was_done",
    )


def test_a_journal_that_is_not_read_is_noticed(bureau: Bureau, monkeypatch: Patch) -> None:
    monkeypatch.setattr(Journal, "recall", lambda self, position, name: None)

    found(check(bureau.run([1], cut=["post"])), "what_is_kept_is_not_done_again")


def test_memories_that_are_made_twice_are_noticed(bureau: Bureau, monkeypatch: Patch) -> None:
    monkeypatch.setattr(Journal, "recall", lambda self, position, name: None)
    anywhere = {"run_id, path, %(place)s,\n": "run_id, path, (1e9 * random())::bigint,\n"}
    monkeypatch.setattr(memory_queries, "REMEMBER", _changed(memory_queries.REMEMBER, anywhere))

    found(check(bureau.run([1], cut=["post"])), "each_errand_is_remembered_once")


def test_what_nobody_was_asked_about_is_noticed(bureau: Bureau, monkeypatch: Patch) -> None:
    async def let(self: Caller, *call: object) -> None:
        return None

    monkeypatch.setattr(Caller, "_let", let)

    found(check(bureau.run([9])), "what_people_must_allow_waits_for_them")


# --- forged histories -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def history(databases: Databases, redis_url: str) -> Iterator[Facts]:
    """A sound one, of real work."""
    with pytest.MonkeyPatch.context() as patch:
        Redis.from_url(redis_url).flushall()
        for bureau in opened(databases, redis_url, patch):
            yield bureau.run((*MANY, 9, 18), cut=["post"], storm=6)


def _changed_run(facts: Facts, **fields: Any) -> None:
    id = next(iter(facts.runs))
    facts.runs[id] = facts.runs[id]._replace(**fields)


def _with_visit(facts: Facts, tool: str, **fields: Any) -> None:
    """One more visit, like the last of this tool."""
    last = next(one for one in reversed(facts.visits) if one.tool == tool and not one.failed)
    facts.visits = [*facts.visits, last._replace(name="forged", **fields)]


def not_ended(facts: Facts) -> None:
    _changed_run(facts, state="running")


def not_there(facts: Facts) -> None:
    facts.expected += 1


def another_output(facts: Facts) -> None:
    output = next(iter(facts.runs.values())).output
    _changed_run(facts, output=output | {"parcel": 1})


def answered_by_another(facts: Facts) -> None:
    output = next(iter(facts.runs.values())).output
    _changed_run(facts, output=output | {"model": "third"})


def by_nobody(facts: Facts) -> None:
    _with_visit(facts, "post", at=0.0)


def done_again(facts: Facts) -> None:
    visit = next(one for one in facts.visits if one.tool == "post")
    kept = next(one for one in facts.journal if (one.step, one.place) == (visit.step, visit.place))
    later = max(visit.left or 0.0, kept.at) + 60
    facts.attempts[visit.step] += [Attempt(99, "done", later, later + 1, facts.workers[visit.node])]
    facts.visits = [*facts.visits, visit._replace(at=later + 0.1, left=later + 0.2)]


def _knocks(facts: Facts, *ends: tuple[float, float, str]) -> None:
    """Doors that do not open, each by an attempt of its own: when it began, when it ended, how its attempt did."""
    last = next(one for one in reversed(facts.visits) if one.tool == "ring")
    base = last.at + 100.0
    worker = facts.workers[last.node]
    facts.attempts[last.step] += [
        Attempt(20 + n, state, base + at - 0.001, base + left + 0.001, worker)
        for n, (at, left, state) in enumerate(ends)
    ]
    facts.visits = [
        *facts.visits,
        *(last._replace(at=base + at, left=base + left, failed=True) for at, left, _ in ends),
    ]


ENOUGH = tuple((n / 10, n / 10 + 0.05, "failed") for n in range(BREAKER.minimum))
"""Failures after which the circuit is open."""
PROBED = ENOUGH[-1][1] + BREAKER.open + 0.1


def not_left_alone(facts: Facts) -> None:
    """Somebody calls as soon as a probe has failed."""
    _knocks(facts, *ENOUGH, (PROBED, PROBED + 0.05, "failed"), (PROBED + 0.1, PROBED + 0.2, "failed"))


def two_probes(facts: Facts) -> None:
    """Somebody calls while a probe is under way."""
    _knocks(facts, *ENOUGH, (PROBED, PROBED + 0.5, "failed"), (PROBED + 0.1, PROBED + 0.2, "failed"))


def opened_too_often(facts: Facts) -> None:
    facts.openings = [*facts.openings, Opening("agent ring", 50, 60, facts.openings[-1].at)]


def opened_too_early(facts: Facts) -> None:
    facts.openings = [one._replace(failed=1, ended=2) for one in facts.openings]


def turned_away(facts: Facts) -> None:
    facts.turned_away = [TurnedAway("model openai:first", next(iter(facts.attempts)), None, 0.0)]


def _fetched(facts: Facts) -> Visit:
    """The first fetch, by an attempt that has just begun: it holds its lease."""
    visit = next(one for one in facts.visits if one.tool == "atlas")
    facts.attempts[visit.step] = [
        one._replace(started=max(one.started, visit.at - 0.1)) for one in facts.attempts[visit.step]
    ]
    return visit


def fetched_beside(facts: Facts) -> None:
    visit = _fetched(facts)
    facts.visits = [*facts.visits, visit._replace(name="forged", at=visit.at + 0.01)]


def fetched_again(facts: Facts) -> None:
    visit = _fetched(facts)
    later = (visit.left or 0.0) + 0.01
    facts.visits = [*facts.visits, visit._replace(name="forged", at=later, left=later + 0.1)]


def old(facts: Facts) -> None:
    given = next(one for one in facts.journal if one.name == "tool atlas")
    facts.attempts[given.step] = [
        one._replace(started=one.started + 1_000, finished=one.finished + 1_000)
        for one in facts.attempts[given.step]
    ]


def anothers(facts: Facts) -> None:
    facts.visits = [one._replace(tenant="nobody") if one.tool == "atlas" else one for one in facts.visits]


def too_many_at_a_time(facts: Facts) -> None:
    _with_visit(facts, "post")


def too_many_in_a_while(facts: Facts) -> None:
    visit = next(one for one in facts.visits if one.tool == "post")
    facts.visits = [*facts.visits, *[visit._replace(left=visit.at)] * 60]


def the_next_without_the_first(facts: Facts) -> None:
    facts.visits = [one for one in facts.visits if one.tool != "fickle"]
    facts.turned_away = []


def the_second_without_the_first(facts: Facts) -> None:
    asked = next(one for one in facts.requests if one.model == "first")
    facts.requests = [asked._replace(model="second")]


def _items(facts: Facts, change: Callable[[str, str, str], str]) -> None:
    facts.visits = [
        one._replace(about=change(*one.about.split())) if one.tool == "pack" else one for one in facts.visits
    ]


def of_one_call(facts: Facts) -> None:
    _items(facts, lambda call, attempt, number: f"one {attempt} {number}")


def in_two_calls(facts: Facts) -> None:
    _with_visit(facts, "pack")


def failed_with_others(facts: Facts) -> None:
    _items(facts, lambda call, attempt, number: f"{call} {attempt} 5")


def two_outcomes(facts: Facts) -> None:
    step = next(iter(facts.runs)), PACK
    facts.attempts[step] = [*facts.attempts[step], facts.attempts[step][-1]]


def remembered_again(facts: Facts) -> None:
    facts.memories = [*facts.memories, facts.memories[0]]


def forgotten(facts: Facts) -> None:
    facts.memories = facts.memories[1:]


def not_allowed(facts: Facts) -> None:
    facts.decisions = [one._replace(allowed=False) for one in facts.decisions]


def allowed_too_late(facts: Facts) -> None:
    facts.decisions = [Decision(one.step, one.allowed, one.at + 1_000) for one in facts.decisions]


def signed_again(facts: Facts) -> None:
    _with_visit(facts, "sign")


FORGERIES: dict[Callable[[Facts], None], str] = {
    not_ended: "every_errand_is_done",
    not_there: "every_errand_is_done",
    another_output: "every_output_follows_from_what_was_done",
    answered_by_another: "every_output_follows_from_what_was_done",
    by_nobody: "each_deed_is_of_an_attempt",
    done_again: "what_is_kept_is_not_done_again",
    not_left_alone: "an_open_circuit_is_left_alone",
    two_probes: "an_open_circuit_is_left_alone",
    opened_too_often: "a_circuit_opens_for_its_reason",
    opened_too_early: "a_circuit_opens_for_its_reason",
    turned_away: "a_circuit_opens_for_its_reason",
    fetched_beside: "equal_calls_are_made_one_at_a_time",
    fetched_again: "a_fresh_result_is_not_fetched_again",
    old: "nobody_is_given_what_is_old_or_anothers",
    anothers: "nobody_is_given_what_is_old_or_anothers",
    too_many_at_a_time: "no_concurrency_is_exceeded",
    too_many_in_a_while: "no_rate_is_exceeded",
    the_next_without_the_first: "the_next_one_answers_only_for_one_that_cannot",
    the_second_without_the_first: "the_next_one_answers_only_for_one_that_cannot",
    of_one_call: "each_item_of_a_batch_has_its_own_outcome",
    in_two_calls: "each_item_of_a_batch_has_its_own_outcome",
    failed_with_others: "each_item_of_a_batch_has_its_own_outcome",
    two_outcomes: "each_item_of_a_batch_has_its_own_outcome",
    remembered_again: "each_errand_is_remembered_once",
    forgotten: "each_errand_is_remembered_once",
    not_allowed: "what_people_must_allow_waits_for_them",
    allowed_too_late: "what_people_must_allow_waits_for_them",
    signed_again: "what_people_must_allow_waits_for_them",
}


def test_a_sound_history_passes(history: Facts) -> None:
    assert not check(history).broken, str(check(history))
    # And there is something to be judged in it
    assert {"agent ring", "model openai:first"} <= {one.circuit for one in history.openings}
    assert {"steady", "second", "sign"} <= set(history.deeds)
    assert len(history.deeds["atlas"]) < len(history.runs)


@pytest.mark.parametrize("forge", FORGERIES, ids=lambda forge: forge.__name__)
def test_a_forged_history_is_noticed_by_its_rule(history: Facts, forge: Callable[[Facts], None]) -> None:
    forged = deepcopy(replace(history))
    forge(forged)

    assert FORGERIES[forge] in check(forged).broken


def test_every_rule_has_been_seen_to_fail() -> None:
    assert {rule.__name__ for rule in RULES} == set(FORGERIES.values())


# --- what faults excuse ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("forge", [not_left_alone, two_probes], ids=lambda forge: forge.__name__)
def test_a_circuit_may_be_forgotten_and_whoever_is_blind_or_stopped_may_pass(
    history: Facts, forge: Callable[[Facts], None]
) -> None:
    ever = float("inf")
    now = max(one.at for one in history.visits if one.tool == "ring") + 100 + PROBED - 0.01
    excuses: list[dict[str, Any]] = [
        {"strikes": [Strike("wipe the broker", now, now)]},
        {"strikes": [Strike("freeze a worker", 0.0, ever, (NODE,))]},
        {"blind": [(None, 0.0, ever)]},
    ]

    for excuse in ({}, *excuses):
        forged = deepcopy(replace(history))
        forge(forged)

        assert check(replace(forged, **excuse)).broken == (set() if excuse else {FORGERIES[forge]})


def test_a_probe_of_a_dead_worker_makes_room_after_a_while(history: Facts) -> None:
    def broken(seconds: float) -> set[str]:
        """With a probe that its worker did not survive, and the next one so much later."""
        forged = deepcopy(replace(history))
        _knocks(forged, *ENOUGH, (PROBED, PROBED + 0.05, "lost"), (PROBED + seconds, PROBED + 9, "failed"))
        died = forged.visits[-2]
        forged.visits = [one._replace(left=None) if one is died else one for one in forged.visits]
        forged.strikes = [Strike("kill a worker", died.at + 0.02, died.at + 0.03, (NODE,))]
        return check(forged).broken

    assert broken(1.0) == {"an_open_circuit_is_left_alone"}
    assert broken(5.1) == set()


def test_a_lease_that_may_have_ended_excuses_a_second_call(history: Facts) -> None:
    forged = deepcopy(replace(history))
    fetched_beside(forged)
    step = next(one.step for one in forged.visits if one.tool == "atlas")
    forged.attempts[step] = [one._replace(started=one.started - 10) for one in forged.attempts[step]]

    assert "equal_calls_are_made_one_at_a_time" not in check(forged).broken


@pytest.mark.parametrize(("tool", "is_excused"), [("pack", True), ("scout", False)])
def test_a_claim_that_a_crash_forgot_is_excused_unless_its_agent_has_limits(
    history: Facts, tool: str, is_excused: bool
) -> None:
    forged = deepcopy(replace(history))
    _with_visit(forged, tool, at=100.0, left=100.1)
    forged.strikes = [Strike("postgres crashes", 100.2, 100.5)]

    assert ("each_deed_is_of_an_attempt" not in check(forged).broken) is is_excused
