"""The checkers can fail: each rule notices a forged history, and engines that are broken on purpose are found out."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest

from orchestrator.definitions.compile import compile_workflow
from orchestrator.engine import Submission, intake
from orchestrator.identify import new_id
from schemas.errors import ResultTimeout
from tests.chaos import broken
from tests.chaos.arena import POOLS, Arena, Worker
from tests.chaos.campaign import probe
from tests.chaos.checker import RULES, Accepted, Attempt, Facts, Step, check, gather
from tests.chaos.ledger import Call
from tests.chaos.shapes import PROBE, Shape, late, mapped, retried, spread
from tests.support import eventually

# --- forged histories -------------------------------------------------------------------------------------

RUN, OTHER, WORKER = uuid4(), uuid4(), uuid4()
SPREAD = Shape(spread, lambda n: n)


def history() -> Facts:
    """A sound one: a stage, a fan-out of two and their join, each called for once."""
    leaves = {"0": ("", 0), "1/a": ("1", 0), "1/b": ("1", 1), "1/join": ("1", -1)}
    ends = {"0": 10.0, "1/a": 12.0, "1/b": 13.0, "1/join": 15.0}
    steps = {
        (RUN, path): Step(parent, ordinal, "agent", "done", 1, ends[path])
        for path, (parent, ordinal) in leaves.items()
    }
    steps[RUN, "1"] = Step("", 0, "fan_out", "done", 0, 15.0)
    return Facts(
        accepted=[Accepted(RUN, SPREAD, 7)],
        runs={RUN: ("completed", 7)},
        steps=steps,
        attempts={(RUN, path): [Attempt(1, "done", end - 1, end, WORKER)] for path, end in ends.items()},
        events=Counter({(RUN, "step.done", path): 1 for path in ends} | {(RUN, "run.completed", ""): 1}),
        calls=[Call(f"{RUN}:{path}", 1, 100, "same", end - 0.5) for path, end in ends.items()],
        effects=4,
    )


def not_ended(facts: Facts) -> None:
    facts.runs[RUN] = ("running", None)


def another_output(facts: Facts) -> None:
    facts.runs[RUN] = ("completed", 8)


def failed(facts: Facts) -> None:
    facts.runs[RUN] = ("failed", None)


def two_runs(facts: Facts) -> None:
    facts.runs[OTHER] = ("completed", 7)


def one_for_two(facts: Facts) -> None:
    facts.accepted = [*facts.accepted, *facts.accepted]


def another_child(facts: Facts) -> None:
    facts.runs[OTHER] = ("completed", 7)
    facts.parents[OTHER] = (RUN, "1/a")


def no_child(facts: Facts) -> None:
    facts.steps[RUN, "1"] = facts.steps[RUN, "1"]._replace(kind="child")


def left_open(facts: Facts) -> None:
    facts.steps[RUN, "1"] = facts.steps[RUN, "1"]._replace(state="open")


def two_outcomes(facts: Facts) -> None:
    facts.attempts[RUN, "0"].insert(0, Attempt(0, "done", 8, 9, WORKER))


def another_followed(facts: Facts) -> None:
    facts.attempts[RUN, "0"].append(Attempt(2, "lost", 11, 12, WORKER))


def told_twice(facts: Facts) -> None:
    facts.events[RUN, "step.done", "1/join"] = 2


def called(facts: Facts, path: str, attempt: int, at: float, given: str = "same") -> None:
    facts.calls = [*facts.calls, Call(f"{RUN}:{path}", attempt, 100, given, at)]


def again(facts: Facts) -> None:
    called(facts, "0", 2, 20.0)


def too_late(facts: Facts) -> None:
    facts.steps[RUN, "0"] = facts.steps[RUN, "0"]._replace(attempt=2)
    facts.attempts[RUN, "0"] = [Attempt(1, "lost", 8, 9, WORKER), Attempt(2, "done", 9, 10, WORKER)]
    facts.calls = [call._replace(attempt=2) if call.step[1] == "0" else call for call in facts.calls]
    called(facts, "0", 1, 10.5)


def same_attempt(facts: Facts) -> None:
    called(facts, "0", 1, 9.9)


def unknown_attempt(facts: Facts) -> None:
    called(facts, "0", 0, 9.0)


def nobody_called(facts: Facts) -> None:
    facts.calls = [call for call in facts.calls if call.step[1] != "1/join"]
    facts.effects = 3


def two_effects(facts: Facts) -> None:
    facts.effects = 5


def another_input(facts: Facts) -> None:
    facts.attempts[RUN, "0"] = [Attempt(1, "lost", 8, 9, WORKER), Attempt(2, "done", 9, 10, WORKER)]
    facts.steps[RUN, "0"] = facts.steps[RUN, "0"]._replace(attempt=2)
    called(facts, "0", 2, 9.9, "another")


def hasty_stage(facts: Facts) -> None:
    del facts.steps[RUN, "1"]
    facts.steps[RUN, "1"] = Step("", 0, "agent", "done", 1, 15.0)
    facts.attempts[RUN, "1"] = [Attempt(1, "done", 9, 15, WORKER)]
    called(facts, "1", 1, 9.9)
    facts.effects = 5


def hasty_join(facts: Facts) -> None:
    facts.calls = [call._replace(at=12.5) if call.step[1] == "1/join" else call for call in facts.calls]


FORGERIES: dict[Callable[[Facts], None], str] = {
    not_ended: "every_run_has_ended",
    another_output: "every_output_is_right",
    failed: "every_output_is_right",
    two_runs: "no_run_was_invented",
    one_for_two: "no_run_was_invented",
    another_child: "each_step_starts_one_run",
    no_child: "each_step_starts_one_run",
    left_open: "nothing_is_left_open",
    two_outcomes: "each_step_has_one_outcome",
    another_followed: "each_step_has_one_outcome",
    told_twice: "each_ending_is_told_once",
    again: "nothing_ran_after_its_outcome",
    too_late: "nothing_ran_after_its_outcome",
    same_attempt: "no_attempt_ran_twice",
    unknown_attempt: "each_attempt_is_accounted_for",
    nobody_called: "every_outcome_was_executed",
    two_effects: "each_effect_stands_once",
    another_input: "each_effect_stands_once",
    hasty_stage: "nothing_ran_before_its_cause",
    hasty_join: "nothing_ran_before_its_cause",
}


def test_a_sound_history_passes() -> None:
    verdict = check(history())
    assert verdict.broken == set()
    assert str(verdict) == "nothing lost, nothing twice"


@pytest.mark.parametrize("forge", FORGERIES, ids=lambda forge: forge.__name__)
def test_a_forged_history_is_noticed_by_its_rule(forge: Callable[[Facts], None]) -> None:
    facts = history()
    forge(facts)
    assert FORGERIES[forge] in check(facts).broken


def test_every_rule_has_been_seen_to_fail() -> None:
    assert {rule.__name__ for rule in RULES} == set(FORGERIES.values())


# --- broken engines ---------------------------------------------------------------------------------------


def broken_worker(arena: Arena, name: str) -> Worker:
    """A worker with one promise taken out."""
    return arena.worker(POOLS[0], BATON_APP=broken.APP, **{broken.NAME: name})


def submitted(arena: Arena, shape: Shape, value: Any) -> Accepted:
    return Accepted(arena.client.submit(shape.workflow, value).id, shape, value)


def ended(arena: Arena, run: UUID) -> None:
    """Wait until a run has ended, one way or the other."""
    eventually(lambda: arena.one("SELECT finished_at IS NOT NULL FROM runs WHERE id = %s", run), timeout=20)


def called_twice(arena: Arena) -> None:
    """Wait until a step has been executed twice."""
    eventually(
        lambda: max(Counter(call.key for call in arena.ledger.calls()).values(), default=0) > 1, timeout=20
    )


def runs_at(arena: Arena, run: UUID, path: str) -> None:
    """Wait until this step runs."""
    statement = "SELECT state = 'running' FROM steps WHERE run_id = %s AND path = %s"
    eventually(lambda: (arena.query(statement, run, path) or [(False,)])[0][0], timeout=20)


def test_without_a_fence_two_outcomes_are_noticed(arena: Arena) -> None:
    broken_worker(arena, "no_fence")
    one = submitted(arena, Shape(late, lambda n: n + 1), 1)
    runs_at(arena, one.id, "2")

    # When its worker is taken for dead, and both attempts end
    arena.query("UPDATE steps SET state = 'ready' WHERE run_id = %s AND path = '2' RETURNING path", one.id)
    arena.send_again(one.id, "2")
    statement = "SELECT count(*) FROM events WHERE kind = 'step.done' AND path = '2'"
    eventually(lambda: arena.one(statement) == 2, timeout=20)

    assert "each_ending_is_told_once" in check(gather(arena, [one])).broken


def test_without_claims_a_repeated_execution_is_noticed(arena: Arena) -> None:
    broken_worker(arena, "no_claim")
    one = submitted(arena, Shape(late, lambda n: n + 1), 1)
    runs_at(arena, one.id, "1")
    arena.send_again(one.id, "0")
    called_twice(arena)

    assert "nothing_ran_after_its_outcome" in check(gather(arena, [one])).broken


def test_a_claim_that_takes_from_the_living_is_noticed(arena: Arena) -> None:
    broken_worker(arena, "greedy_claim")
    one = submitted(arena, Shape(late, lambda n: n + 1), 1)
    runs_at(arena, one.id, "2")
    arena.send_again(one.id, "2")
    ended(arena, one.id)

    assert check(gather(arena, [one])).broken == {"each_attempt_is_accounted_for"}


def test_without_recovery_a_lost_run_is_noticed(arena: Arena) -> None:
    one = submitted(arena, PROBE, 1)
    arena.flush()
    broken_worker(arena, "no_recovery")
    with pytest.raises(ResultTimeout):
        arena.reader.result(one.id, 4)

    assert check(gather(arena, [one])).broken == {"every_run_has_ended"}


def test_a_message_that_goes_out_before_the_commit_is_noticed(arena: Arena) -> None:
    # Given a producer that sends first, and nobody who looks for what is left
    worker = broken_worker(arena, "no_recovery")
    client = arena.client
    plan = compile_workflow(PROBE.workflow)
    client._engine.plans.save(plan)
    submission = Submission(new_id(), "1")
    with client._pool.connection() as conn, conn.transaction():
        _, advance, _ = client._engine._create(conn, plan, [submission], at_once=True)
        client._dispatcher.send(advance.ready)
        eventually(lambda: "there is no such step" in worker.process.text())
    one = Accepted(submission.id, PROBE, 1)
    with pytest.raises(ResultTimeout):
        arena.reader.result(one.id, 2)

    assert check(gather(arena, [one])).broken == {"every_run_has_ended"}


def test_a_join_that_does_not_wait_is_noticed(arena: Arena) -> None:
    broken_worker(arena, "hasty_join")
    one = submitted(arena, Shape(mapped, lambda n: n * (n - 1)), 8)
    ended(arena, one.id)

    assert {"every_output_is_right", "nothing_is_left_open"} & check(gather(arena, [one])).broken


def test_an_effect_that_stands_twice_is_noticed(arena: Arena) -> None:
    broken_worker(arena, "unstable_key")
    one = submitted(arena, Shape(retried, lambda n: n + 1), 1)
    eventually(lambda: len(arena.ledger.calls()) > 1, timeout=20)

    assert "each_effect_stands_once" in check(gather(arena, [one])).broken


def test_a_submission_that_counts_twice_is_noticed(arena: Arena, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "take_keys", lambda *_: {})
    first, _ = (arena.client.submit(PROBE.workflow, 1, idempotency_key="once") for _ in range(2))

    assert "no_run_was_invented" in check(gather(arena, [Accepted(first.id, PROBE, 1)])).broken


def test_a_fleet_that_does_not_live_fails_the_probe(arena: Arena) -> None:
    arena.worker(POOLS[0]).signal(signal.SIGSTOP)
    with pytest.raises(ResultTimeout):
        probe(arena, 2)
