"""What must be true of what workers share, whatever happened to them: each rule gives sentences about what is wrong.

They are judged by what the outside has seen. A worker asks and tells at times that nobody outside sees, so of those the
books give bounds: it has asked after its attempt began, and has told before its attempt ended. No rule counts on a
machine that is quick.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter

from orchestrator.breakers.circuits import LEASE as PROBE
from orchestrator.tool_calls.cache import LEASE
from schemas import Limit
from tests.agents.errands import BREAKER, LIMITS, PAGES, PARCELS, RISKY, TTL
from tests.chaos.checker import StepKey, Verdict, is_forgotten
from tests.chaos.paid.rules import SLACK, at_a_time, over
from tests.chaos.shared.facts import CLERK, PACK, SCOUT, TAKEN, Deed, Facts, Kept

CIRCUITS = {"tool fickle": "fickle", "agent ring": "ring", "model openai:first": "first"}
"""What each circuit is around, as the outside calls it."""

FORGETS = ("wipe the broker", "redis restarts")
"""Faults after which all circuits are closed."""

STOPS = ("freeze a worker", "cut off")
"""Faults after which a worker goes on with what it had begun."""

UNLIMITED = ("pack", "first", "second")
"""What agents without limits do: their claims do not wait for the disk."""

KILLS = ("kill a worker", "kill a pool", "kill all")

ROUNDING = 0.005
"""Seconds: the clock of circuits counts in milliseconds."""

LEAST = math.ceil(BREAKER.failures * BREAKER.minimum)
"""Failures without which no circuit opens."""

# --- runs ----------------------------------------------------------------------------------------------


def every_errand_is_done(facts: Facts) -> Iterator[str]:
    """Whatever waits for a circuit, a limit or a person goes on in the end."""
    if len(facts.runs) != facts.expected:
        yield f"there are {len(facts.runs)} runs, and {facts.expected} were accepted"
    for id, run in facts.runs.items():
        if run.state != "completed":
            yield f"run {id} is {run.state}: {run.error}"


def every_output_follows_from_what_was_done(facts: Facts) -> Iterator[str]:
    made = {name: {one.step for one in deeds if not one.failed} for name, deeds in facts.deeds.items()}
    for id, run in facts.runs.items():
        if run.state != "completed":
            continue
        output = run.output
        right = {"number": run.number, "parcel": 7 * run.number}
        if {name: output[name] for name in right} != right:
            yield f"run {id} gave {output}, not {right}"
        for who, path in ((output["by"], SCOUT), (output["model"], CLERK)):
            if (id, path) not in made.get(who, ()):
                yield f"run {id} was answered by {who}, which nobody had asked"


def each_deed_is_of_an_attempt(facts: Facts) -> Iterator[str]:
    for deed in _all(facts):
        forgotten = deed.what in UNLIMITED and is_forgotten(facts.strikes, deed.at)
        if deed.started == math.inf and not forgotten:
            yield f"{_told(deed)} was done by {deed.node}, which never had the step"


def what_is_kept_is_not_done_again(facts: Facts) -> Iterator[str]:
    """Whoever begins after it was kept finds it."""
    for kept, deeds in _of_entries(facts):
        for deed in deeds:
            if deed.started > kept.at:
                yield f"{_told(deed)} was done by an attempt that began after it was kept"


def _of_entries(facts: Facts) -> Iterator[tuple[Kept, Iterable[Deed]]]:
    """What is in journals with what was done for it. A model's only call is the first in its step."""
    by_call: defaultdict[tuple[StepKey, int], list[Deed]] = defaultdict(list)
    for deed in _all(facts):
        by_call[deed.step, deed.place].append(deed)
    for kept in facts.journal:
        yield kept, by_call[kept.step, 0 if kept.name == "model" else kept.place]


# --- circuits ------------------------------------------------------------------------------------------


def an_open_circuit_is_left_alone(facts: Facts) -> Iterator[str]:
    """For as long as it stays open nobody calls, and then one at a time in the whole cluster: a probe."""
    for circuit, what in CIRCUITS.items():
        watch = _Watch(facts, circuit)
        deeds = facts.deeds.get(what, [])
        turns: list[tuple[float, int, Deed | float]] = [(deed.at, 1, deed) for deed in deeds]
        turns += [(deed.left, 0, deed) for deed in deeds if deed.left is not None]
        turns += [(strike.at, 0, strike.until) for strike in facts.strikes if strike.kind in FORGETS]
        for _, begins, what_happens in sorted(turns, key=lambda turn: turn[:2]):
            if isinstance(what_happens, float):
                watch.forget(what_happens)
            elif begins:
                yield from watch.begin(what_happens)
            else:
                watch.end(what_happens)


class _Watch:
    """Knows from when on a circuit must have been open, by failures of which its worker has surely told."""

    def __init__(self, facts: Facts, circuit: str) -> None:
        self._facts = facts
        self._circuit = circuit
        self._good: list[Deed] = []
        self._bad: list[Deed] = []
        self._since = -math.inf
        """Attempts that began earlier may have passed before it was closed the last time."""
        self._open = math.inf
        """From then on, until something succeeds."""
        self._last: Deed | None = None

    def forget(self, until: float) -> None:
        """Whatever was known, it is closed."""
        self._since = max(self._since, until)
        self._bad, self._open, self._last = [], math.inf, None

    def end(self, deed: Deed) -> None:
        if not deed.failed:
            self._good.append(deed)
            self.forget(deed.finished)
            return
        if deed.started <= self._since or not deed.is_sure or self._may_pass(deed, deed.finished):
            return
        # Slices of its window go out of the count one by one.
        oldest = deed.finished - BREAKER.window * 11 / 12
        self._bad = [*(one for one in self._bad if one.left is not None and one.left > oldest), deed]
        first = min(one.started for one in self._bad)
        good = sum(one.finished >= first - BREAKER.window for one in self._good)
        bad = len(self._bad)
        if bad >= BREAKER.minimum and bad >= BREAKER.failures * (bad + good):
            self._open = min(self._open, max(one.finished for one in self._bad))

    def begin(self, deed: Deed) -> Iterator[str]:
        if deed.started <= self._open or self._may_pass(deed, deed.at):
            return
        last, self._last = self._last, deed
        if last is not None and (until := self._busy_until(last, deed)) > deed.at:
            yield (
                f"{_told(deed)} was done {deed.at - last.at:.3f} s after {_told(last)}, and {self._circuit}"
                f" was open for {until - deed.at:.3f} s more"
            )

    def _may_pass(self, deed: Deed, until: float) -> bool:
        """Whether its worker may have passed without an answer, or with an old one."""
        return self._facts.is_blind(deed.node, deed.started, until) or self._facts.struck(
            deed.node, deed.started, until, *STOPS
        )

    def _busy_until(self, last: Deed, now: Deed) -> float:
        """Until when nobody else may try, after this probe."""
        lease = last.started + PROBE
        if last.left is None:
            # It was stopped, and its worker may have said so; a dead one says nothing.
            return lease if self._facts.struck(last.node, last.at, now.at, *KILLS) else -math.inf
        if last.left > now.at:
            return lease
        # Told or not: if its worker told nobody, the lease of the probe has not ended before.
        return min(lease, last.left + BREAKER.open - ROUNDING)


def a_circuit_opens_for_its_reason(facts: Facts) -> Iterator[str]:
    """Each failure counts for one opening, and an opening has as many as were declared."""
    for circuit, what in CIRCUITS.items():
        failed = sorted(one.left for one in facts.deeds.get(what, ()) if one.failed and one.left is not None)
        counted = 0
        for opening in facts.openings:
            if opening.circuit != circuit:
                continue
            counted += opening.failed
            there = sum(at <= opening.at for at in failed)
            if counted > there:
                yield f"{circuit} has opened by {counted} failures, and there were {there}"
            if opening.ended < BREAKER.minimum or opening.failed < BREAKER.failures * opening.ended:
                yield f"{circuit} has opened by {opening.failed} failures of {opening.ended}"
        for one in facts.turned_away:
            if one.circuit == circuit and sum(at <= one.at for at in failed) < LEAST:
                yield f"{circuit} has turned {one.step} away, and nothing had failed"


# --- cached results ------------------------------------------------------------------------------------


def equal_calls_are_made_one_at_a_time(facts: Facts) -> Iterator[str]:
    for one, other in _pairs(facts):
        if other.at < one.until and _no_lease_has_ended(one, other):
            yield f"{_told(other)} began {one.until - other.at:.3f} s before the end of {_told(one)}"


def a_fresh_result_is_not_fetched_again(facts: Facts) -> Iterator[str]:
    kept = {one.value["result"]: one.step for one in facts.journal if one.name == "tool atlas"}
    for one, other in _pairs(facts):
        if one.left is None or not one.is_sure or kept.get(one.name) is None:
            continue
        left = one.left + TTL - other.at
        if 0 < left < TTL and (other.started > one.finished or _no_lease_has_ended(one, other)):
            yield f"{_told(other)} fetched page {one.about} of {one.tenant}, which was good for {left:.3f} s more"


def nobody_is_given_what_is_old_or_anothers(facts: Facts) -> Iterator[str]:
    fetched = {one.name: one for one in facts.deeds.get("atlas", ())}
    for entry in facts.journal:
        if entry.name != "tool atlas":
            continue
        run, page = facts.runs[entry.step[0]], fetched.get(entry.value["result"])
        if page is None or (page.tenant, page.about) != (run.tenant, str(run.number % PAGES)):
            yield f"run {entry.step[0]} of {run.tenant} was given {page}, not page {run.number % PAGES}"
            continue
        began = min(one.started for one in facts.attempts[entry.step] if one.attempt == entry.attempt)
        if page.is_sure and began > page.finished + TTL:
            yield f"run {entry.step[0]} was given a page that was {began - page.finished:.3f} s old"


def _pairs(facts: Facts) -> Iterator[tuple[Deed, Deed]]:
    """Fetches of the same page with those that began later, while the page was good or later still."""
    by_page = attrgetter("tenant", "about")
    for _, same in groupby(sorted(facts.deeds.get("atlas", ()), key=by_page), key=by_page):
        fetches = sorted(same, key=attrgetter("at"))
        for number, one in enumerate(fetches):
            for other in fetches[number + 1 :]:
                if other.at > max(one.until, one.at) + TTL:
                    break
                yield one, other


def _no_lease_has_ended(one: Deed, other: Deed) -> bool:
    """Whether both took their leases so late that the first one still held.

    A worker that is dead, stopped, cut off or starved renews none, and its lease may go to the next one.
    """
    return max(one.at, other.at) - min(one.started, other.started) < LEASE


# --- limits --------------------------------------------------------------------------------------------


def no_concurrency_is_exceeded(facts: Facts) -> Iterator[str]:
    for what, limit, whose, deeds in _limited(facts):
        if limit.concurrency is not None and (most := at_a_time(deeds)) > limit.concurrency:
            yield f"{most} calls of {what}{whose} at a time, not {limit.concurrency}"


def no_rate_is_exceeded(facts: Facts) -> Iterator[str]:
    for what, limit, whose, deeds in _limited(facts):
        if limit.rate is None:
            continue
        if what == "scout":  # what was done of attempts, by the claims that let them begin
            more = over({one.started for one in deeds}, 1 / limit.interval, limit.burst, ROUNDING)
        else:  # a process that is stopped after it got leave begins when it goes on
            times = [one.at for one in deeds if not facts.struck(one.node, one.at - SLACK, one.at, *STOPS)]
            more = over(times, 1 / limit.interval, limit.burst)
        if more > 0:
            yield f"{math.ceil(more)} calls of {what}{whose} too many within some time for {limit.rate}"


def _limited(facts: Facts) -> Iterator[tuple[str, Limit, str, list[Deed]]]:
    """Each limit with what was done under it."""
    kinds: dict[str, Callable[[Deed], tuple[str, ...]]] = {
        "agent": lambda one: (),
        "tenant": lambda one: (one.tenant,),
        "key": lambda one: (one.tenant, one.about),
    }
    for what, limits in LIMITS.items():
        for limit in limits:
            which = kinds[limit.per]
            for whose, deeds in groupby(sorted(facts.deeds.get(what, ()), key=which), key=which):
                yield what, limit, f" for {' '.join(whose)}" if whose else "", list(deeds)


# --- chains, batches, memory, people -------------------------------------------------------------------


def the_next_one_answers_only_for_one_that_cannot(facts: Facts) -> Iterator[str]:
    """The next tool of a chain is called, and the next model asked, when the one before has failed or must not be."""
    turned_away = {(one.step, one.place) for one in facts.turned_away}
    failed = {(one.step, one.place) for one in facts.deeds.get("fickle", ()) if one.failed}
    for deed in facts.deeds.get("steady", ()):
        if (deed.step, deed.place) not in failed | turned_away:
            yield f"{_told(deed)} was done, and nobody had tried the one before"
    refused = [(one.at, one.step) for one in facts.deeds.get("first", ()) if one.failed]
    for deed in facts.deeds.get("second", ()):
        before = [step for at, step in refused if at <= deed.at]
        if deed.step not in before and len(before) < LEAST:
            yield f"{_told(deed)} was asked, and the first had refused nobody"


def each_item_of_a_batch_has_its_own_outcome(facts: Facts) -> Iterator[str]:
    calls: defaultdict[str, list[tuple[StepKey, str]]] = defaultdict(list)
    for deed in facts.deeds.get("pack", ()):
        call, attempt, number = deed.about.split()
        if deed.started < math.inf:
            calls[call].append((deed.step, attempt))
        expected = "failed" if (attempt, int(number) % 5) == ("1", 0) else "done"
        end = next((one for one in facts.attempts[deed.step] if str(one.attempt) == attempt), None)
        if end is None or end.state not in (expected, *TAKEN):
            yield f"attempt {attempt} of item {number} is {end and end.state}, not {expected}"
    for call, items in calls.items():
        if len(items) > PARCELS.size:
            yield f"call {call} had {len(items)} items, not {PARCELS.size}"
    for (step, attempt), count in Counter(item for items in calls.values() for item in items).items():
        if count > 1:
            yield f"attempt {attempt} of {step} was in {count} calls"
    for id, run in facts.runs.items():
        ended = [one.state for one in facts.attempts.get((id, PACK), ())]
        if run.state == "completed" and ended.count("done") != 1:
            yield f"the item of run {id} has {ended.count('done')} outcomes"


def each_errand_is_remembered_once(facts: Facts) -> Iterator[str]:
    remembered = Counter(facts.memories)
    for id, run in facts.runs.items():
        count = remembered.pop((id, f"errand {run.number}"), 0)
        if count > 1 or (run.state == "completed" and not count):
            yield f"run {id} is remembered {count} times"
    for what, count in remembered.items():
        yield f"{what} is remembered {count} times"


def what_people_must_allow_waits_for_them(facts: Facts) -> Iterator[str]:
    signed = facts.deeds.get("sign", [])
    for deed in signed:
        said = [one for one in facts.decisions if one.step == deed.step and one.at <= deed.at]
        if len(said) != 1 or not said[0].allowed:
            yield f"{_told(deed)} was done, and of that people had said {said}"
    for (step, _), count in Counter((one.step, one.place) for one in signed).items():
        if count > 1:
            yield f"{step} was signed {count} times"
    there = {one.step for one in signed}
    for id, run in facts.runs.items():
        if run.state != "completed":
            continue
        told, asked = run.output["signed"], run.number % RISKY == 0
        if (told is None) == asked or (told and (id, SCOUT) not in there):
            yield f"run {id} of errand {run.number} says of its signature {told}"


def _all(facts: Facts) -> Sequence[Deed]:
    return [deed for deeds in facts.deeds.values() for deed in deeds]


def _told(deed: Deed) -> str:
    return f"{deed.what} {deed.place} of step {deed.step[1]} of run {deed.step[0]}"


RULES: tuple[Callable[[Facts], Iterator[str]], ...] = (
    every_errand_is_done,
    every_output_follows_from_what_was_done,
    each_deed_is_of_an_attempt,
    what_is_kept_is_not_done_again,
    an_open_circuit_is_left_alone,
    a_circuit_opens_for_its_reason,
    equal_calls_are_made_one_at_a_time,
    a_fresh_result_is_not_fetched_again,
    nobody_is_given_what_is_old_or_anothers,
    no_concurrency_is_exceeded,
    no_rate_is_exceeded,
    the_next_one_answers_only_for_one_that_cannot,
    each_item_of_a_batch_has_its_own_outcome,
    each_errand_is_remembered_once,
    what_people_must_allow_waits_for_them,
)


def check(facts: Facts) -> Verdict:
    """Ask every rule."""
    return Verdict({rule.__name__: list(rule(facts)) for rule in RULES})
