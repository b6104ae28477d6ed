"""What must be true of paid work, whatever happened to it: each rule gives sentences about what is wrong."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

from schemas import Limit
from tests.agents.buying import LIMITS, LONGEST, PRICE
from tests.chaos.checker import StepKey, Verdict, is_forgotten
from tests.chaos.paid.facts import MODEL, Deed, Entry, Facts
from tests.chaos.paid.shop import tokens, usd
from workers.gates.limits import STALE

DUST = 1e-6
SLACK = STALE + 0.5
"""Seconds from the leave for a call to its beginning, at most, in a process that nobody has stopped."""

WORST = PRICE.of(2_000, LONGEST)
"""Dollars that are set aside for a call, at most."""

# --- runs ----------------------------------------------------------------------------------------------


def every_run_has_ended(facts: Facts) -> Iterator[str]:
    if len(facts.runs) != facts.expected:
        yield f"there are {len(facts.runs)} runs, and {facts.expected} were accepted"
    for id, run in facts.runs.items():
        if run.state not in ("completed", "failed"):
            yield f"run {id} is {run.state}"


def every_output_follows_from_its_input(facts: Facts) -> Iterator[str]:
    for id, run in facts.runs.items():
        if run.state != "completed":
            continue
        last = facts.answers.get(((id, MODEL), 2))
        right = {"number": run.number, "found": 4 * run.number, "asked": last and last.asked}
        paid = run.output.get("paid")
        if run.output != right | {"paid": paid} or paid not in ("paid", "unclear"):
            yield f"run {id} gave {run.output}, not {right}"


def nobody_is_refused_without_reason(facts: Facts) -> Iterator[str]:
    for id, run in facts.runs.items():
        if run.state != "failed":
            continue
        budget = facts.budgets.get(run.tenant)
        if budget is None or "budget of tenant" not in run.error:
            yield f"run {id} of {run.tenant} failed: {run.error}"
        elif facts.windows.get(run.tenant, 0.0) < budget - WORST:
            yield f"run {id} was refused, and {run.tenant} has spent {facts.windows.get(run.tenant)} of {budget}"


def a_payment_is_unclear_only_if_it_was_cut_off(facts: Facts) -> Iterator[str]:
    for id, run in facts.runs.items():
        ends = {one.state for one in facts.attempts[id, MODEL]}
        if run.state == "completed" and run.output["paid"] == "unclear" and not ends & set(facts.failures):
            yield f"run {id} does not know whether it has paid, and nothing had happened to it"


# --- once ----------------------------------------------------------------------------------------------


def each_deed_is_of_an_attempt(facts: Facts) -> Iterator[str]:
    for deed in (*facts.answered, *facts.visited):
        if deed.attempt is None and not is_forgotten(facts.strikes, deed.at):
            yield f"{_told(deed)} was done by {deed.node}, which never had the step"


def no_answer_is_asked_for_again(facts: Facts) -> Iterator[str]:
    yield from _done_again(facts, facts.answered, facts.answers)


def no_finished_tool_call_is_made_again(facts: Facts) -> Iterator[str]:
    yield from _done_again(facts, facts.visited, facts.done)


def _done_again(
    facts: Facts, deeds: Iterable[Deed], kept: Mapping[tuple[StepKey, int], Entry]
) -> Iterator[str]:
    """What is kept was done by the attempt that kept it; others had begun it before, and were cut off."""
    by_call: defaultdict[tuple[StepKey, int], list[Deed]] = defaultdict(list)
    for deed in deeds:
        by_call[deed.step, deed.place].append(deed)
    for (step, place), tries in by_call.items():
        entry = kept.get((step, place))
        for one in tries:
            if entry is not None and (one.attempt or 0) >= entry.attempt and one.at > entry.at:
                late = one.at - entry.at
                yield f"{_told(one)} was done by attempt {one.attempt} {late:.3f} s after {entry.attempt} had kept it"
        for attempt, count in Counter(one.attempt for one in tries).items():
            if count > 1:
                yield f"{_told(tries[0])} was done {count} times by attempt {attempt}"
            end = facts.end_of(step, attempt)
            keeps = entry is not None and attempt == entry.attempt
            if end is not None and not keeps and end.state not in facts.failures:
                yield f"{_told(tries[0])} was done by attempt {attempt}, which is {end.state} and has not kept it"


def each_answer_was_given_by_the_provider(facts: Facts) -> Iterator[str]:
    given = {(one.step, one.place, one.asked): one for one in facts.answered}
    for (step, turn), entry in facts.answers.items():
        deed = given.get((step, turn, entry.asked))
        if deed is None:
            yield f"answer {turn} of run {step[0]} was never given"
        elif deed.attempt != entry.attempt:
            yield f"answer {turn} of run {step[0]} came to attempt {deed.attempt}, and {entry.attempt} kept it"


def what_must_not_be_repeated_is_not(facts: Facts) -> Iterator[str]:
    for key, count in Counter(one.key for one in facts.visits if one.tool == "pay").items():
        if count > 1:
            yield f"payment {key} was made {count} times"


# --- limits --------------------------------------------------------------------------------------------


def no_concurrency_is_exceeded(facts: Facts) -> Iterator[str]:
    for what, limit, whose, deeds in _limited(facts):
        if limit.concurrency is None:
            continue
        most = at_a_time(deeds)
        if most > limit.concurrency:
            yield f"{most} calls of {what}{whose} at a time, not {limit.concurrency}"


def no_rate_is_exceeded(facts: Facts) -> Iterator[str]:
    stopped = [strike for strike in facts.strikes if strike.kind == "freeze a worker"]
    for what, limit, whose, deeds in _limited(facts):
        if limit.rate is None:
            continue
        # A process that is stopped after it got leave begins when it goes on.
        times = [
            one.at
            for one in deeds
            if not any(one.node in s.workers and s.at <= one.at <= s.until + SLACK for s in stopped)
        ]
        more = over(times, 1 / limit.interval, limit.burst)
        if more > 0:
            yield f"{math.ceil(more)} calls of {what}{whose} too many within some time for {limit.rate}"


def _limited(facts: Facts) -> Iterator[tuple[str, Limit, str, list[Deed]]]:
    """Each limit with what was done under it."""
    deeds = [*facts.answered, *facts.visited]
    tenants = sorted({one.tenant for one in deeds})
    for what, limits in LIMITS.items():
        mine = [one for one in deeds if one.what == what]
        for limit in limits:
            if limit.per == "agent":
                yield what, limit, "", mine
                continue
            for tenant in tenants:
                yield what, limit, f" for {tenant}", [one for one in mine if one.tenant == tenant]


class Span(Protocol):
    """From when to when something was done."""

    @property
    def at(self) -> float: ...
    @property
    def until(self) -> float: ...


def at_a_time(deeds: Iterable[Span]) -> int:
    """How many there were at the same time, at most."""
    turns = sorted([turn for one in deeds if one.until > one.at for turn in ((one.at, 1), (one.until, -1))])
    now = most = 0
    for _, turn in turns:
        now += turn
        most = max(most, now)
    return most


def over(times: Iterable[float], per_second: float, burst: int, slack: float = SLACK) -> float:
    """By how many calls some stretch of time has too many."""
    least, most = math.inf, -math.inf
    for number, at in enumerate(sorted(times)):
        least = min(least, number - at * per_second)
        most = max(most, number + 1 - at * per_second - least - burst - slack * per_second)
    return most


def every_place_is_given_back(facts: Facts) -> Iterator[str]:
    for what, held in (("place", facts.permits), ("reservation", facts.reservations)):
        for one in held:
            end = facts.end_of(one.step, one.attempt)
            if end is None or end.state not in facts.failures:
                yield f"attempt {one.attempt} of {one.step} is {end and end.state}, and has kept a {what}"


# --- money ---------------------------------------------------------------------------------------------


def no_budget_is_exceeded(facts: Facts) -> Iterator[str]:
    for tenant, budget in facts.budgets.items():
        late = sum(
            cost.usd
            for cost in facts.costs
            if cost.lost != "unheard" and _is_late(facts, cost.step, cost.attempt, cost.at, tenant)
        )
        spent = facts.windows.get(tenant, 0.0)
        if spent > budget + late + DUST:
            yield f"{tenant} has spent {spent:.4f} of {budget}, of which {late:.4f} came after its attempts were lost"


def _is_late(facts: Facts, step: StepKey, attempt: int, at: float, tenant: str) -> bool:
    """Whether the attempt had been taken back before its call was paid: what was set aside for it, too."""
    end = facts.end_of(step, attempt)
    return facts.runs[step[0]].tenant == tenant and end is not None and end.finished < at


def each_answer_is_paid_once(facts: Facts) -> Iterator[str]:
    seen = [cost for cost in facts.costs if cost.is_seen]
    booked = Counter((cost.step, cost.attempt, cost.tokens) for cost in seen)
    kept = Counter(
        (entry.step, entry.attempt, sum(tokens(turn))) for (_, turn), entry in facts.answers.items()
    )
    for key, count in (kept - booked).items():
        yield f"{count} answers of {key} are kept, and nobody has counted them"
    paid = Counter((cost.step, cost.tokens) for cost in seen)
    given = Counter((one.step, sum(tokens(one.place))) for one in facts.answered)
    for told, count in (paid - given).items():
        yield f"{count} costs of {told} too many: nobody was asked"
    for cost in seen:
        if not any(math.isclose(cost.usd, usd(turn)) for turn in range(3)):
            yield f"a call of {cost.step} cost {cost.usd}"


def each_request_is_in_the_books(facts: Facts) -> Iterator[str]:
    """Those of the dead, too: all runs here have a budget, and what the provider was asked in vain is not free."""
    booked = Counter(cost.step for cost in facts.costs)
    given = Counter(one.step for one in facts.answered)
    for step, count in (given - booked).items():
        yield f"{count} requests of {step} are in no book"


def what_nobody_saw_was_cut_off(facts: Facts) -> Iterator[str]:
    # A worker may have died between its leave for a call and the call.
    booked = Counter(cost.step for cost in facts.costs if cost.lost != "unheard")
    given = Counter(one.step for one in facts.answered)
    for cost in facts.costs:
        end = facts.end_of(cost.step, cost.attempt)
        if not cost.is_seen and (end is None or end.state not in facts.failures):
            yield f"attempt {cost.attempt} of {cost.step} is {end and end.state}, and has not seen the end of a call"
    for key, count in (booked - given).items():
        yield f"{count} costs of {key} too many"


def each_budget_counts_what_was_paid(facts: Facts) -> Iterator[str]:
    for tenant, counted in facts.windows.items():
        paid = sum(cost.usd for cost in facts.costs if facts.runs[cost.step[0]].tenant == tenant)
        if not math.isclose(counted, paid, abs_tol=DUST):
            yield f"{counted:.4f} count in the budget of {tenant}, and {paid:.4f} were paid"


def each_run_tells_what_it_kept(facts: Facts) -> Iterator[str]:
    """And what attempts paid for that failed over it. Of one that was taken back the next one tells what is kept."""
    paid: defaultdict[StepKey, list[float]] = defaultdict(list)
    kept = {(entry.step, entry.attempt) for entry in facts.answers.values()}
    for step, turn in facts.answers:
        paid[step].append(usd(turn))
    for cost in facts.costs:
        end = facts.end_of(cost.step, cost.attempt)
        if end is not None and end.state == "failed" and (cost.step, cost.attempt) not in kept:
            paid[cost.step].append(cost.usd)
    for id, run in facts.runs.items():
        calls, spent = facts.told.get(id, (0, 0.0))
        mine = paid[id, MODEL]
        if run.state in ("completed", "failed") and (
            calls != len(mine) or not math.isclose(spent, sum(mine), abs_tol=DUST)
        ):
            yield f"run {id} tells of {calls} calls for {spent:.4f}, not {len(mine)} for {sum(mine):.4f}"


def _told(deed: Deed) -> str:
    return f"{deed.what} {deed.place} of step {deed.step[1]} of run {deed.step[0]}"


RULES: tuple[Callable[[Facts], Iterator[str]], ...] = (
    every_run_has_ended,
    every_output_follows_from_its_input,
    nobody_is_refused_without_reason,
    a_payment_is_unclear_only_if_it_was_cut_off,
    each_deed_is_of_an_attempt,
    no_answer_is_asked_for_again,
    no_finished_tool_call_is_made_again,
    each_answer_was_given_by_the_provider,
    what_must_not_be_repeated_is_not,
    no_concurrency_is_exceeded,
    no_rate_is_exceeded,
    every_place_is_given_back,
    no_budget_is_exceeded,
    each_answer_is_paid_once,
    each_request_is_in_the_books,
    what_nobody_saw_was_cut_off,
    each_budget_counts_what_was_paid,
    each_run_tells_what_it_kept,
)


def check(facts: Facts) -> Verdict:
    """Ask every rule."""
    return Verdict({rule.__name__: list(rule(facts)) for rule in RULES})
