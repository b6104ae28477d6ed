"""A run as a tree: pure functions from `RunView` to Rich, readable with ten steps and with ten thousand."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.text import Text
from rich.tree import Tree

from orchestrator.cli.output import STATE_STYLES, as_json, took
from schemas.agents import queue_of
from schemas.outcomes import ErrorInfo
from schemas.runs import RunMoment, RunView, StepKind, StepState, StepView
from schemas.usage import Usage

BRANCHES = 12
"""Branches of one fan-out that are shown; of the others only the number per state."""

_ICONS = {
    StepState.PENDING: "·",
    StepState.READY: "○",
    StepState.RUNNING: "●",
    StepState.OPEN: "◐",
    StepState.WAITING: "⧖",
    StepState.DEAD: "☠",
    StepState.DONE: "✔",
    StepState.FAILED: "✘",
    StepState.SKIPPED: "↷",
    StepState.CANCELLED: "⊘",
}
_PATTERNS = {
    StepKind.FAN_OUT: "fan-out",
    StepKind.EACH: "each",
    StepKind.PIPELINE: "pipeline",
    StepKind.STAGE: "stage",
    StepKind.ROUTE: "route",
    StepKind.LOOP: "loop",
    StepKind.APPROVE: "approve",
    StepKind.CHILD: "child run",
    StepKind.SUPERVISE: "supervise",
    StepKind.ROUND: "round",
    StepKind.ASSIGNED: "assignment",
    StepKind.DEBATE: "debate",
    StepKind.WAIT_FOR: "wait for",
}
# What a person has to see first when not everything can be shown.
_INTEREST = [
    StepState.DEAD,
    StepState.FAILED,
    StepState.RUNNING,
    StepState.OPEN,
    StepState.WAITING,
    StepState.CANCELLED,
    StepState.SKIPPED,
    StepState.READY,
    StepState.DONE,
    StepState.PENDING,
]
_LONGEST_MESSAGE = 160
_LONGEST_OUTPUT = 60
_SHOWN_GAPS = 3
_SHOWN_FORKS = 2


def fitted(view: RunView, *, now: datetime, height: int) -> RenderableType:
    """The view with as many branches as `height` lines allow, at least one of each fan-out."""
    steps = _Steps(view)
    fits = (n for n in (BRANCHES, 8, 5, 3, 2) if _lines(steps, "", n) + len(view.notes) + 2 <= height)
    # A line that wraps would take the place of another one.
    return _Unwrapped(_render(view, steps, now, next(fits, 1)))


def picture(view: RunView, *, now: datetime, branches: int = BRANCHES, paths: bool = False) -> RenderableType:
    """The run with its steps and notes; with `paths` each step says the path that commands know it by."""
    return _render(view, _Steps(view, paths=paths), now, branches)


@dataclass(frozen=True)
class _Unwrapped:
    """Cuts long lines off instead of wrapping them."""

    what: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from console.render(self.what, options.update(no_wrap=True, overflow="ellipsis"))


class _Steps:
    """The steps of a run, by the step that encloses them, in the order a person reads them."""

    def __init__(self, view: RunView, *, paths: bool = False) -> None:
        self.paths = paths
        found: dict[str, list[StepView]] = defaultdict(list)
        for step in view.steps:
            if step.path:  # the run itself may be a step too
                found[step.parent].append(step)
        self._kinds = {step.path: step.kind for step in view.steps if step.path}
        self.outputs = view.outputs if isinstance(view, RunMoment) else {}
        self.below: Mapping[str, list[StepView]] = {
            path: sorted(steps, key=_reading_order) for path, steps in found.items()
        }

    def kind_of(self, path: str) -> StepKind | None:
        return self._kinds.get(path)

    def shown(self, parent: str, limit: int) -> tuple[list[StepView], list[StepView]]:
        """The steps to show below `parent`, and those to count."""
        steps = self.below.get(parent, [])
        branches = [step for step in steps if not _is_join(step)]
        # The stages of a pipeline are few, for somebody wrote them down; only branches can be many.
        if len(branches) <= limit or self._kinds.get(parent) not in (StepKind.FAN_OUT, StepKind.EACH):
            return steps, []
        ranked = sorted(branches, key=lambda step: _INTEREST.index(step.state))
        chosen = {step.path for step in ranked[:limit]}
        shown = [step for step in steps if step.path in chosen or _is_join(step)]
        return shown, [step for step in branches if step.path not in chosen]


def _reading_order(step: StepView) -> tuple[bool, int]:
    """Items by number, named branches as they come (as they were defined), the join last."""
    name = _segment(step)
    return _is_join(step), int(name) if name.isdigit() else -1


def _segment(step: StepView) -> str:
    return step.path.rpartition("/")[2]


def _is_join(step: StepView) -> bool:
    return _segment(step) == "join"


def _lines(steps: _Steps, parent: str, limit: int) -> int:
    """How many lines everything below `parent` takes."""
    shown, counted = steps.shown(parent, limit)
    errors = sum(step.error is not None for step in shown)
    return len(shown) + errors + bool(counted) + sum(_lines(steps, step.path, limit) for step in shown)


def _render(view: RunView, steps: _Steps, now: datetime, branches: int) -> RenderableType:
    root = Tree(_headline(view, now), guide_style="dim")
    _grow(root, steps, "", branches, now)
    notes = [Text(f"! {note}", style="yellow") for note in view.notes]
    error = [_error(view.error)] if view.error is not None else []
    return Group(root, *error, *_relatives(view), *notes)


def _grow(tree: Tree, steps: _Steps, parent: str, limit: int, now: datetime) -> None:
    shown, counted = steps.shown(parent, limit)
    joins = [step for step in shown if _is_join(step)]
    for step in shown:
        if not _is_join(step):
            _grow(_add(tree, step, steps, now), steps, step.path, limit, now)
    if counted:
        tree.add(Text(f"… {len(counted):,} more: {_counts(counted)}", style="dim"))
    for step in joins:
        _add(tree, step, steps, now)


def _add(tree: Tree, step: StepView, steps: _Steps, now: datetime) -> Tree:
    branch = tree.add(_label(step, steps, now))
    if step.error is not None:
        branch.add(_error(step.error))
    return branch


def _headline(view: RunView, now: datetime) -> Text:
    state = f"{view.state}, degraded" if view.degraded else str(view.state)
    time = f"  {_time(view.started_at, view.finished_at, now)}" if view.started_at else ""
    spent = _spent(view.totals.usage)
    return Text.assemble(
        (f"{view.workflow}  ", "bold"),
        (state, STATE_STYLES[view.state]),
        time,
        f"  {spent}" if spent else "",
        (f"  {view.id}", "dim"),
    )


def _relatives(view: RunView) -> list[Text]:
    """Where a run comes from, and what came from it."""
    lines = []
    if view.parent_run is not None:
        waits = "which waits for it" if view.awaited else "which does not wait for it"
        lines.append(f"started by run {view.parent_run} at step {view.parent_step}, {waits}")
    if view.forked_from is not None:
        lines.append(f"forked from {view.forked_from} at step {view.forked_at}")
    if view.forks:
        more = len(view.forks) - _SHOWN_FORKS
        named = ", ".join(str(fork) for fork in view.forks[:_SHOWN_FORKS])
        lines.append(f"forks: {named}" + (f" and {more:,} more" if more > 0 else ""))
    return [Text(line, style="dim") for line in lines]


def _label(step: StepView, steps: _Steps, now: datetime) -> Text:
    style = STATE_STYLES[step.state]
    what = queue_of(step.agent) if step.agent else _PATTERNS[step.kind]
    branches = [one for one in steps.below.get(step.path, ()) if not _is_join(one)]
    # A composite has begun when the first of its parts has.
    began = step.started_at or step.totals.began_at
    words = [
        str(step.state),
        "kept" if step.state is StepState.DONE and step.agent and not step.attempt else "",
        _counts(branches) if branches and step.kind is not StepKind.PIPELINE else "",
        f"attempt {step.attempt}" if step.attempt > 1 else "",
        f"lost {step.losses}×" if step.losses else "",
        _time(began, step.finished_at, now) if began else "",
        _spent(step.totals.usage),
        f"due in {took((step.due_at - now).total_seconds())}" if step.due_at and step.due_at > now else "",
        f"waits for the {step.limited}" if step.limited else "",
        f"on {step.worker}" if step.worker and step.state is StepState.RUNNING else "",
        _gaps(step),
        f"run {step.child}" if step.child is not None else "",
    ]
    state = " · ".join(word for word in words if word)
    output = (
        f"  {_cut(as_json(steps.outputs[step.path]), _LONGEST_OUTPUT)}" if step.path in steps.outputs else ""
    )
    name = (_name(step, steps), "bold")
    path = f"  {step.path}" if steps.paths else ""
    return Text.assemble(
        (f"{_ICONS[step.state]} ", style), name, (f" {what} ", "dim"), (state, style), output, (path, "dim")
    )


def _name(step: StepView, steps: _Steps) -> str:
    """The branch's name or the item's number; a stage's number says less than its agent does."""
    segment = _segment(step)
    if not segment.isdigit():
        return segment
    item = steps.kind_of(step.parent) is StepKind.EACH
    return f"#{segment}" if item or not step.agent else step.agent


def names(view: RunView) -> dict[str, str]:
    """By path, what a person calls the step: its agent, or what kind of pattern it is."""
    return {step.path: step.agent or _PATTERNS.get(step.kind, step.kind) for step in view.steps if step.path}


def _time(start: datetime, end: datetime | None, now: datetime) -> str:
    return took(max(0.0, ((end or now) - start).total_seconds()))


def _spent(usage: Usage) -> str:
    """What was consumed, as far as agents told it."""
    calls = (
        f"{usage.model_calls:,} model call{'s' if usage.model_calls > 1 else ''}" if usage.model_calls else ""
    )
    tokens = f"{usage.tokens:,} tokens" if usage.tokens else ""
    money = f"{usage.usd:.4g} USD" if usage.usd else ""
    return ", ".join(word for word in (calls, tokens, money) if word)


def _counts(steps: Sequence[StepView]) -> str:
    number = Counter(step.state for step in steps)
    states = [StepState.DONE, *(state for state in _INTEREST if state is not StepState.DONE)]
    done = f"{number[StepState.DONE]:,}/{len(steps):,} done"
    return ", ".join([done, *(f"{number[s]:,} {s}" for s in states[1:] if number[s])])


def _gaps(step: StepView) -> str:
    if not step.gaps:
        return ""
    named = ", ".join(f"branch {gap.branch} {gap.state}" for gap in step.gaps[:_SHOWN_GAPS])
    more = len(step.gaps) - _SHOWN_GAPS
    return f"gaps: {named}" + (f" and {more:,} more" if more > 0 else "")


def _error(error: ErrorInfo) -> Text:
    line = error.message.strip().partition("\n")[0]
    return Text(f"{error.type}: {_cut(line, _LONGEST_MESSAGE)}", style="red")


def _cut(line: str, most: int) -> str:
    return line if len(line) <= most else f"{line[:most]}…"
