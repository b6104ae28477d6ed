"""What a run does, said as plainly as possible: a pure model that the real engine is compared with.

A `Model` holds a row for every step that exists. After each verb it walks the whole definition from the top and asks
of every node whether it has ended; what may go on because of that comes to be on the way. There is no transaction,
no lock, no message and no clock here, and nothing is remembered beside the rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from schemas.runs import RUN_ENDED, STEP_ENDED
from schemas.workflows import Each, FanOut, Joining, Leaf, Node, Pipeline, Workflow
from tests.integration.engine.bench import Boom
from tests.integration.engine.reference import (
    Branches,
    Late,
    Value,
    below,
    gathered,
    handed,
    natural,
    no_list,
)

Ending = Value | Branches | Boom | None
"""How a node ended; None if it has not."""

LOSS_LIMIT = 3
DEAR, PRICE = "d", 3
"""The agent that says that it consumes, and the tokens that each of its attempts tells at its end."""


@dataclass
class Row:
    """A step."""

    node: Node
    state: str
    attempt: int = 0
    retries: int = 0
    losses: int = 0
    waits: bool = False
    """For its retry, or for its delayed start."""
    given: Any = None
    """What its agent is handed."""
    output: Any = None
    why: str = ""
    """Why it failed or was skipped."""
    holder: int | None = None
    """The worker that runs it."""

    @property
    def ended(self) -> bool:
        return self.state in STEP_ENDED

    @property
    def counts(self) -> tuple[str, int, int, int]:
        return self.state, self.attempt, self.retries, self.losses


class Model:
    """One run."""

    def __init__(self, definition: Workflow, value: Any) -> None:
        self.definition = definition
        self.value = value
        self.state = "queued"
        self.by_hand = False
        """Whether a person paused it, so that nobody else resumes it."""
        self.error: str | None = None
        self.output: Any = None
        self.rows: dict[str, Row] = {}
        self.spent = 0
        """Tokens, since it began or was resumed."""
        self.exhausted = 0
        """How often it came to have nothing left of its budget."""
        self._settle()

    # --- money --------------------------------------------------------------------------------------------

    def refuses(self, path: str) -> str:
        """Why a step that was claimed just now is not to be begun; empty if it may."""
        row, most = self.rows[path], self.definition.budget.tokens
        if most is None or self.spent < most or not isinstance(row.node, Leaf) or row.node.agent != DEAR:
            return ""
        return f"is used up: {self.spent} of {most} tokens"

    def pay(self, path: str) -> None:
        """An attempt of this step has been heard, however it ended."""
        row, most = self.rows[path], self.definition.budget.tokens
        if most is None or not isinstance(row.node, Leaf) or row.node.agent != DEAR:
            return
        self.exhausted += self.spent < most <= self.spent + PRICE
        self.spent += PRICE

    # --- steps --------------------------------------------------------------------------------------------

    def claim(self, path: str, worker: int) -> Row | None:
        """The row, if this worker may run it."""
        row = self.rows.get(path)
        if self.state not in ("queued", "running") or row is None or row.state != "ready" or row.waits:
            return None
        self.state = "running"
        row.state, row.attempt, row.holder = "running", row.attempt + 1, worker
        return row

    def finish(
        self, path: str, attempt: int, *, output: Any = None, why: str | None = None, retry: bool = False
    ) -> bool:
        """End an attempt with an output, or with a reason; whether that is heard."""
        row = self.rows[path]
        if self.state in RUN_ENDED or row.state != "running" or row.attempt != attempt:
            return False
        row.holder = None
        if why is None:
            row.state, row.output = "done", output
        elif retry:
            row.state, row.retries, row.waits = "ready", row.retries + 1, True
        else:
            row.state, row.why = "failed", why
        self._settle()
        return True

    def go_on(self, path: str, worker: int) -> str | None:
        """The stage after this one, claimed by the worker that ended it, if there is one for an agent."""
        above, _, segment = path.rpartition("/")
        around = self.rows[above].node if above else self.definition.body
        following = below(above, str(int(segment) + 1)) if isinstance(around, Pipeline) else ""
        row = self.rows.get(following)
        if self.state != "running" or row is None or not isinstance(row.node, Leaf):
            return None
        return following if self.claim(following, worker) is not None else None

    def free(self, path: str, attempt: int, *, lost: bool) -> bool:
        """Take an attempt from its worker; a step that lost too many of them is set aside, and pauses the run."""
        row = self.rows[path]
        if row.state != "running" or row.attempt != attempt:
            return False
        row.state, row.holder, row.losses = "ready", None, row.losses + lost
        if lost and row.losses >= LOSS_LIMIT:
            row.state = "dead"
            if self.state in ("queued", "running"):
                self.state, self.by_hand = "paused", False
        return True

    def held_by(self, worker: int) -> list[tuple[str, int]]:
        """The attempts of a worker."""
        return [(path, row.attempt) for path, row in self.rows.items() if row.holder == worker]

    def decide(self, path: str, *, retry: bool) -> None:
        """Try a step that was set aside again, or go on without it. With the last of them goes on what they paused."""
        row = self.rows[path]
        if retry:
            row.state, row.losses = "ready", 0
        else:
            row.state, row.why = "failed", "it cost one worker after the other, and was dropped by hand"
        if not self.by_hand and not self.dead:
            self._go_on()
        self._settle()

    @property
    def dead(self) -> list[str]:
        """Steps that are set aside."""
        return [path for path, row in self.rows.items() if row.state == "dead"]

    # --- whole runs ---------------------------------------------------------------------------------------

    def cancel(self) -> bool:
        if self.state in ("completed", "cancelled"):
            return False
        self._end_all("cancelled", "")
        self.state, self.error = "cancelled", None
        return True

    def pause(self) -> bool:
        if self.state not in ("queued", "running"):
            return False
        self.state, self.by_hand = "paused", True
        return True

    def resume(self) -> bool:
        if self.state == "paused" and not self.dead:
            self._go_on()
        elif self.state == "failed":
            for path in [path for path in self.rows if not self._is_settled(path)]:
                row = self.rows[path]
                row.state, row.retries, row.losses, row.waits = "pending", 0, 0, False
            self.error, self.spent = None, 0
            self._go_on()
        else:
            return False
        self._settle()
        return True

    def pass_time(self) -> None:
        """Whatever waited for its time waits no longer."""
        for row in self.rows.values():
            row.waits = False

    def expire(self) -> None:
        """The run has taken too long."""
        self.state, self.error = (
            "failed",
            f"the run took longer than its timeout of {self.definition.timeout:g} s",
        )
        self._end_all("skipped", self.error)

    def expire_fan_out(self, path: str) -> None:
        """A fan-out has waited for its branches as long as it may."""
        node: Any = self.rows[path].node
        around = self.rows[path.rpartition("/")[0]].node if "/" in path else None
        what = {"round": "round", "debate": "debate"}.get(getattr(around, "pattern", ""), "fan-out")
        self._end_all("skipped", f"the {what} took longer than {node.within:g} s", path + "/")
        self._settle()

    def waiting_fan_outs(self) -> list[str]:
        """Fan-outs that have a deadline before them."""
        return [
            path
            for path, row in self.rows.items()
            if row.state == "open"
            and isinstance(row.node, Joining)
            and row.node.within is not None
            and f"{path}/join" not in self.rows
        ]

    def _go_on(self) -> None:
        started = any(row.attempt for row in self.rows.values())
        self.state = "running" if started else "queued"

    def _end_all(self, state: str, why: str, prefix: str = "") -> None:
        for path, row in self.rows.items():
            if path.startswith(prefix) and not row.ended:
                row.state, row.why, row.holder = state, why, None

    def _is_settled(self, path: str) -> bool:
        """Whether what became of a step has been used, so that a resumed run leaves it as it is."""
        while path:
            above, _, segment = path.rpartition("/")
            if self.rows[path].state == "done" or (f"{above}/join" in self.rows and segment != "join"):
                return True
            path = above
        return False

    # --- what follows -------------------------------------------------------------------------------------

    def _settle(self) -> None:
        if self.state in RUN_ENDED:
            return
        end = self._inside(self.definition.body, Value(self.value), "")
        if isinstance(end, Boom):
            self.state, self.error = "failed", str(end)
        elif end is not None:
            self.state, self.output = "completed", natural(end)

    def _walk(self, node: Node, given: Value | Branches, path: str) -> Ending:
        """How the node at `path` ended. If it may begin now, it does."""
        row = self.rows.setdefault(path, Row(node, "pending"))
        if row.state == "pending":
            row.state = "ready" if isinstance(node, Leaf) else "open"
        if row.ended and row.state != "done":
            return Late(row.why) if row.state == "skipped" else Boom(row.why)
        if isinstance(node, Leaf):
            row.given = handed(node.agent, given)
            return Value(row.output) if row.ended else None
        end = self._inside(node, given, path)
        if isinstance(end, Boom):
            row.state, row.why = "failed", str(end)
        elif end is not None:
            row.state = "done"
        return end

    def _inside(self, node: Node, given: Value | Branches, path: str) -> Ending:
        match node:
            case Pipeline(stages=stages):
                end: Ending = given
                for index, stage in enumerate(stages):
                    if end is None or isinstance(end, Boom):
                        break
                    end = self._walk(stage, end, below(path, str(index)))
                return end
            case FanOut(branches=branches):
                return self._branches(node, path, [(name, one, given) for name, one in branches.items()])
            case Each(body=body):
                items = given.outputs if isinstance(given, Branches) else given.value
                if not isinstance(items, list):
                    return no_list(items)
                return self._branches(node, path, [(str(n), body, Value(one)) for n, one in enumerate(items)])
        raise AssertionError(node)

    def _branches(
        self, node: Joining, path: str, parts: Sequence[tuple[str, Node, Value | Branches]]
    ) -> Ending:
        ends = list(self._ends(node, path, parts))
        if any(end is None for end in ends):
            return None
        plain = [end if isinstance(end, Boom) else Value(natural(end)) for end in ends if end is not None]
        try:
            results = gathered(node, [name for name, _, _ in parts], plain, path)
        except Boom as boom:
            return boom
        if node.join is None:
            return results
        return self._walk(Leaf(agent=node.join), results, f"{path}/join")

    def _ends(
        self, node: Joining, path: str, parts: Sequence[tuple[str, Node, Value | Branches]]
    ) -> Iterator[Ending]:
        """How each branch ended; no more than allowed are under way at a time, the first ones first."""
        under_way = 0
        for name, branch, given in parts:
            place = f"{path}/{name}"
            row = self.rows.get(place)
            if (row is None or not row.ended) and under_way == node.window:
                self.rows.setdefault(place, Row(branch, "pending"))
                yield None
                continue
            end = self._walk(branch, given, place)
            under_way += end is None
            yield end
