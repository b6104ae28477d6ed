"""The live view, rendered to text."""

from __future__ import annotations

import io
import itertools
from uuid import UUID

import pytest
from rich.console import Console

from orchestrator.cli.sabotage import victims
from orchestrator.cli.tree import fitted, picture
from orchestrator.cli.watch import event_line, follow, frames
from schemas.events import Event, EventKind
from schemas.outcomes import ErrorInfo, Gap
from schemas.runs import RunMoment, RunState, RunView, StepKind, StepState, StepView, Totals
from schemas.usage import Usage
from tests.unit.cli.views import NOW, RUN, START, run, step


def text_of(view: RunView, **options: int) -> str:
    console = Console(width=120, file=io.StringIO())
    console.print(picture(view, now=NOW, **options))
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def test_a_pipeline_is_read_from_top_to_bottom_with_times_and_attempts() -> None:
    view = run(
        step("0", StepState.DONE, took=1.5),
        step("1", StepState.RUNNING, agent="check", attempt=2, losses=1, worker="check-1@host"),
        step("10", StepState.PENDING, agent="late", attempt=0),
        step("2", StepState.READY, agent="merge"),
    )

    lines = text_of(view).splitlines()

    assert lines == [
        f"research-report  running  90 s  {RUN}",
        "├── ✔ draft agent.draft done · 1.5 s",
        "├── ● check agent.check running · attempt 2 · lost 1× · 90 s · on check-1@host",
        "├── ○ merge agent.merge ready",
        "└── · late agent.late pending",
    ]


def test_a_step_tells_its_path_to_whoever_wants_to_name_it() -> None:
    view = run(
        step("0", StepState.OPEN, kind=StepKind.FAN_OUT),
        step("0/legal", StepState.DONE, agent="legal", took=1.0),
    )

    assert text_of(view, paths=True).splitlines() == [
        f"research-report  running  90 s  {RUN}",
        "└── ◐ #0 fan-out open · 1/1 done · 90 s  0",
        "    └── ✔ legal agent.legal done · 1.0 s  0/legal",
    ]


def test_what_was_consumed_stands_where_it_was_consumed() -> None:
    usage = Usage(tokens=12_000, usd=0.0123, model_calls=1)
    totals = Totals(attempts=3, usage=usage, began_at=START, seconds=4)
    part = step("0", StepState.DONE, kind=StepKind.LOOP, took=4, totals=totals)
    view = run(part.model_copy(update={"started_at": None}), step("1", StepState.READY), totals=totals)

    assert text_of(view).splitlines() == [
        f"research-report  running  90 s  1 model call, 12,000 tokens, 0.0123 USD  {RUN}",
        "├── ✔ #0 loop done · 4.0 s · 1 model call, 12,000 tokens, 0.0123 USD",
        "└── ○ draft agent.draft ready",
    ]


def test_nested_branches_stand_below_their_pattern_and_the_join_comes_last() -> None:
    view = run(
        step("0", StepState.OPEN, kind=StepKind.FAN_OUT),
        step("0/join", StepState.PENDING, agent="merge"),
        step("0/money", StepState.OPEN, kind=StepKind.PIPELINE),
        step("0/money/0", StepState.DONE, took=1),
        step("0/money/1", StepState.RUNNING, agent="check"),
        step("0/legal", StepState.DONE, agent="legal", took=3),
    )

    assert text_of(view).splitlines()[1:] == [
        "└── ◐ #0 fan-out open · 1/2 done, 1 open · 90 s",
        "    ├── ◐ money pipeline open · 90 s",
        "    │   ├── ✔ draft agent.draft done · 1.0 s",
        "    │   └── ● check agent.check running · 90 s",
        "    ├── ✔ legal agent.legal done · 3.0 s",
        "    └── · join agent.merge pending",
    ]


def test_of_ten_thousand_branches_the_telling_ones_are_shown_and_the_rest_counted() -> None:
    branches = [step(f"0/{n}", StepState.DONE, took=1) for n in range(9000)]
    branches += [step(f"0/{n}", StepState.READY) for n in range(9000, 9990)]
    branches += [step(f"0/{n}", StepState.RUNNING) for n in range(9990, 9999)]
    branches += [step("0/9999", StepState.FAILED, took=2, error="no such page")]
    view = run(step("0", StepState.OPEN, kind=StepKind.EACH), *branches, step("0/join", StepState.PENDING))

    lines = text_of(view).splitlines()

    assert len(lines) == 1 + 1 + 12 + 1 + 1 + 1  # headline, each, branches, the error, the rest, the join
    assert "each open · 9,000/10,000 done, 1 failed, 9 running, 990 ready" in lines[1]
    assert "✘ #9999 agent.draft failed · 2.0 s" in lines[-4]
    assert "ValueError: no such page" in lines[-3]
    assert "… 9,988 more: 9,000/9,988 done, 988 ready" in lines[-2]
    assert "join" in lines[-1]


def test_a_failed_and_degraded_run_says_what_is_missing_and_why() -> None:
    gaps = (Gap(branch="ip", state="late", reason="too slow"), Gap(branch="tax", state="failed", reason="no"))
    view = run(
        step("0", StepState.DONE, kind=StepKind.FAN_OUT, took=60, gaps=gaps),
        step("0/tax", StepState.FAILED, agent="tax", took=5, error="first line\nsecond line"),
        step("0/ip", StepState.SKIPPED, agent="ip"),
        step("1", StepState.FAILED, agent="writer", took=1, error="x" * 500),
        state=RunState.FAILED,
        degraded=True,
        error=ErrorInfo(type="ValueError", message="writer failed"),
    )

    shown = text_of(view)

    assert "research-report  failed, degraded  90 s" in shown
    assert "gaps: branch ip late, branch tax failed" in shown
    assert "ValueError: first line\n" in shown
    assert "second line" not in shown
    assert "x" * 100 + "…" not in shown
    assert shown.rstrip().endswith("ValueError: writer failed")


def test_many_gaps_are_counted() -> None:
    gaps = tuple(Gap(branch=str(n), state="failed", reason="") for n in range(1000))
    assert "gaps: branch 0 failed, branch 1 failed, branch 2 failed and 997 more" in text_of(
        run(step("0", StepState.DONE, kind=StepKind.EACH, took=1, gaps=gaps))
    )


def test_notes_tell_why_nothing_moves() -> None:
    note = "no worker serves agent.draft: start `baton worker draft`"
    assert f"! {note}" in text_of(run(step("0", StepState.READY), notes=[note]))


def test_a_step_that_waits_for_a_limit_says_so() -> None:
    waiting = step("0", StepState.READY).model_copy(update={"limited": "rate 60/m of draft"})
    assert "ready · waits for the rate 60/m of draft" in text_of(run(waiting))


def test_a_paused_run_shows_the_step_that_was_set_aside_and_what_to_do() -> None:
    note = "step 0/7 was set aside; look at it: baton dead show 17"
    branches = [step(f"0/{n}", StepState.READY) for n in range(20)]
    branches[7] = step("0/7", StepState.DEAD, attempt=3, losses=3)
    view = run(step("0", StepState.OPEN, kind=StepKind.EACH), *branches, state=RunState.PAUSED, notes=[note])

    shown = text_of(view)

    assert "research-report  paused" in shown
    assert "each open · 0/20 done, 1 dead, 19 ready" in shown
    assert "☠ #7 agent.draft dead · attempt 3 · lost 3×" in shown
    assert f"! {note}" in shown


def test_every_state_has_a_sign_and_a_colour() -> None:
    for state in StepState:
        assert state in text_of(run(step("0", state, kind=StepKind.AGENT)))
    for state in RunState:
        assert state in text_of(run(state=state))


@pytest.mark.parametrize("height", [8, 12, 24, 60])
def test_the_live_view_fits_the_terminal(height: int) -> None:
    steps: list[StepView] = [step("0", StepState.OPEN, kind=StepKind.EACH)]
    steps += [step(f"0/{n}", StepState.RUNNING, worker="draft-1@" + "host" * 40) for n in range(1000)]
    console = Console(width=60, file=io.StringIO())

    console.print(fitted(run(*steps), now=NOW, height=height))

    assert len(console.file.getvalue().splitlines()) <= height  # type: ignore[attr-defined]


class Recorded:
    """A run that was recorded look by look: what a client would have answered each time."""

    def __init__(self, *looks: tuple[RunView, list[Event]]) -> None:
        self.looks = list(looks)
        self.reads = 0

    def events(self, run_id: UUID, after: int = 0) -> list[Event]:
        return [event for event in self.looks[0][1] if event.number > after]

    def run(self, run_id: UUID) -> RunView:
        self.reads += 1
        return self.looks[0][0]

    def pause(self, seconds: float) -> None:
        self.looks.pop(0)


def event(number: int, kind: EventKind, path: str = "", **data: object) -> Event:
    return Event(run_id=RUN, number=number, kind=kind, path=path, at=START, data=data)


def test_following_ends_with_the_run_and_misses_no_event() -> None:
    first, second = event(1, EventKind.RUN_STARTED), event(2, EventKind.RUN_COMPLETED)
    going, ended = run(), run(state=RunState.COMPLETED)
    client = Recorded((going, [first]), (going, [first]), (ended, [first, second]))

    seen = list(frames(client, RUN, client.pause, clock=itertools.count().__next__))

    assert [frame.events for frame in seen] == [[first], [], [second]]
    assert seen[-1].view is ended


def test_a_wide_run_is_not_read_while_nothing_happens() -> None:
    going, ended = run(), run(state=RunState.COMPLETED)
    end = event(1, EventKind.RUN_COMPLETED)
    client = Recorded(*[(going, [])] * 5, (ended, [end]))

    list(frames(client, RUN, client.pause, clock=lambda: 1.0))

    assert client.reads == 2


def test_without_a_terminal_there_is_one_line_per_event_and_each_note_once() -> None:
    failing = event(1, EventKind.STEP_RETRYING, "0/7", error="too slow", retry_in=1.5)
    stuck = run(notes=["no worker serves agent.draft"])
    end = event(2, EventKind.RUN_FAILED)
    client = Recorded((stuck, [failing]), (run(state=RunState.FAILED), [failing, end]))
    console = Console(file=io.StringIO(), width=80)

    view = follow(client, RUN, console, client.pause)

    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert view.state is RunState.FAILED
    assert len(lines) == 3
    assert 'step.retrying  0/7  {"error": "too slow", "retry_in": 1.5}' in lines[0]
    assert lines[1] == "! no worker serves agent.draft"
    assert "run.failed" in lines[2]


def test_on_a_terminal_the_last_picture_stays() -> None:
    ended = run(step("0", StepState.DONE, took=1), state=RunState.COMPLETED)
    console = Console(file=io.StringIO(), width=100, height=30, force_terminal=True, color_system=None)

    follow(Recorded((ended, [])), RUN, console)

    assert "✔ draft agent.draft done · 1.0 s" in console.file.getvalue()  # type: ignore[attr-defined]


def test_an_event_with_much_data_stays_one_line() -> None:
    line = event_line(event(1, EventKind.PROGRESS, "0", text="long " * 200)).plain

    assert "\n" not in line
    assert len(line) < 200


def test_the_demo_kills_only_busy_workers_of_a_run_that_has_something_to_lose() -> None:
    done = [step(f"0/{n}", StepState.DONE, took=1) for n in range(10)]
    busy = step("0/10", StepState.RUNNING, worker="draft-1@host")
    waiting = step("0/11", StepState.READY)

    assert victims(run(*done[:9], busy)) == []
    assert victims(run(*done, busy, waiting)) == [busy]


def test_a_fork_says_where_it_comes_from_and_what_it_was_given() -> None:
    forks = tuple(UUID(int=number) for number in range(5))
    view = run(
        step("0", StepState.DONE, attempt=0, took=1.5),
        step("1", StepState.DONE, agent="check", took=1.0),
        state=RunState.COMPLETED,
    ).model_copy(update={"forked_from": RUN, "forked_at": "1", "forks": forks})

    assert text_of(view).splitlines()[1:] == [
        "├── ✔ draft agent.draft done · kept · 1.5 s",
        "└── ✔ check agent.check done · 1.0 s",
        f"forked from {RUN} at step 1",
        f"forks: {forks[0]}, {forks[1]} and 3 more",
    ]


def test_a_moment_shows_what_had_been_produced_by_then() -> None:
    view = run(step("0", StepState.DONE, took=1.5), step("1", StepState.RUNNING, agent="check"))
    event = Event(run_id=RUN, number=4, kind=EventKind.STEP_STARTED, path="1", at=NOW)
    moment = RunMoment(**dict(view), event=event, events=9, outputs={"0": {"text": "a" * 300}})

    assert text_of(moment).splitlines()[1:] == [
        '├── ✔ draft agent.draft done · 1.5 s  {"text": "' + "a" * 50 + "…",
        "└── ● check agent.check running · 90 s",
    ]
