"""What an agent sees of the world besides its input."""

from __future__ import annotations

import asyncio
import inspect
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol
from uuid import UUID

from pydantic import TypeAdapter, ValidationError

from orchestrator.engine import Note
from schemas.errors import AgentError, Permanent
from schemas.events import EventKind
from schemas.state import Scope
from schemas.tools import RISKS, Risk
from schemas.usage import MOST, Usage
from workers.asking import NOTHING, Question, is_storable, names
from workers.calls import Call, Gate, Made, through
from workers.endings import PutOff
from workers.guards.masking import Mask
from workers.guards.policy import PLAIN
from workers.journal import Found
from workers.keeping import Keeping
from workers.memory.memories import NO_KEY, Means, Memories
from workers.state import Session, Sharing, State, sharing_of
from workers.telling import Speaker


class CallsTools(Protocol):
    """Whoever calls tools: `workers.tools.calling`."""

    def use(self, ctx: Any, tool: Any, arguments: Mapping[str, Any]) -> Any: ...
    def caller(self, ctx: Any, timeout: float, listener: Any) -> Any: ...


@dataclass
class Context:
    """The envelope of one attempt: identities, the run's original intent, and what is left of its time."""

    run_id: UUID
    path: str
    """The step, e.g. `0/review/2`."""
    attempt: int
    """1 for the first try."""
    workflow: str
    tenant: str
    labels: Mapping[str, str]
    intent: Any
    """The input of the run as its producer gave it, as JSON data."""
    deadline: float
    """`time.monotonic()` at which this attempt is stopped."""
    usage: Usage = field(default_factory=Usage)
    agent: str = ""
    """Whose attempt it is."""
    agents: Mapping[str, Any] = field(default_factory=dict)
    """Those of the app by name: one of them may summarise for this one."""
    shown_state: Mapping[str, Any] = field(default_factory=dict)
    """What a framework's agent is shown of the state that it has declared."""
    risk: Risk = "low"
    """The least that each of its calls of tools counts as; see `raise_risk`."""
    risk_reason: str = ""
    _counted: Usage = field(default_factory=Usage)
    """That part of it which budgets have counted already, call by call."""
    _hold: Callable[[], Awaitable[None]] | None = None
    """Sets aside what budgets are to hold for this attempt as a whole, where there are any."""
    _holds: bool = False
    """Whether that is done."""
    risk_lift: int = 0
    """Levels by which each of its calls counts as riskier than its tool says; see `lift_risk`."""
    _notes: list[Note] = field(default_factory=list)
    _sharing: Sharing | None = None
    _keeping: Keeping = field(default_factory=Keeping)
    _gates: tuple[Gate, ...] = ()
    """What its calls of models and tools pass."""
    _tooling: CallsTools | None = None
    _means: Means | None = None
    _memories: Memories | None = None
    _speaker: Speaker | None = None
    _watch: Mask = field(default_factory=lambda: Mask(PLAIN))
    """Masks what is stored of it."""

    @property
    def remaining(self) -> float:
        """Seconds left for this attempt."""
        return max(0.0, self.deadline - time.monotonic())

    @property
    def idempotency_key(self) -> str:
        """The same in every attempt of this step: hand it to services that a retry must not ask twice."""
        return f"{self.run_id}:{self.path}"

    def spend(self, *, tokens: int = 0, usd: float = 0.0, model_calls: int = 0) -> None:
        """Add to what this attempt consumed; it is rolled up to the run, also when the attempt fails.

        Raises `Permanent` for what is no consumption: something negative, or without end.
        """
        try:
            spent = self.usage + Usage(tokens=tokens, usd=usd, model_calls=model_calls)
        except ValidationError as error:
            fault = error.errors()[0]
            raise Permanent(f"spend(...): {fault['loc'][0]} {fault['msg']}") from None
        if max(spent.tokens, spent.usd, spent.model_calls) > MOST:
            raise Permanent(f"spend(...): an attempt cannot have consumed more than {MOST:,} of anything")
        self.usage = spent

    def account(self, usage: Usage, *, counted: bool) -> None:
        """Add what a call has consumed; `counted` says whether budgets know of it already."""
        self.spend(**usage.model_dump())
        if counted:
            self._counted += usage

    def progress(self, **data: Any) -> None:
        """Note something about the work as an event of the run, committed together with the outcome.

        Raises `Permanent` for what has no JSON form.
        """
        self._notes.append(Note(EventKind.PROGRESS, _as_json("progress", data)))

    def warn(self, message: str, **data: Any) -> None:
        """Note what somebody should look at, committed with the outcome; see `baton runs explain`."""
        self._notes.append(Note(EventKind.STEP_WARNING, _as_json("warn", {"message": message, **data})))

    def note(self, kind: EventKind, data: Mapping[str, Any]) -> None:
        """Note a fact of this kind, committed with the outcome; for what stands between agents and their runs."""
        self._notes.append(Note(kind, _as_json("note", data)))

    def decide(
        self, choice: Any, why: str = "", alternatives: Mapping[str, float] | Iterable[str] = ()
    ) -> None:
        """Note a decision and what it was taken instead of, committed with the outcome; see `baton runs explain`.

        Alternatives are names, or names with how sure one would be of them.
        """
        rivals = alternatives if isinstance(alternatives, Mapping) else dict.fromkeys(alternatives, None)
        told = {"choice": choice, "by": "step", "reason": why, "alternatives": dict(rivals)}
        told = _as_json("decide", {k: v for k, v in told.items() if v != {}})
        self._notes.append(Note(EventKind.STEP_DECIDED, told))

    def say(self, text: str, **about: Any) -> None:
        """Say something while the agent works: it stands in the run's events (`step.delta`) within a fifth of a second.

        Pieces that are `about` the same are joined, and masked as what the agent gives. An attempt can say 200,000
        characters. Raises `Permanent` for what has no JSON form.
        """
        if self._speaker is not None:
            self._speaker.say(self._watch.shown("speech", _as_json("say", about)), text)

    async def heard(self) -> None:
        """Wait until what was said stands in the run's events."""
        if self._speaker is not None:
            await asyncio.wrap_future(self._speaker.told())

    @property
    def key(self) -> str | None:
        """What the event that started the run is about, by the `key` of its subscription."""
        return self.labels.get("key")

    @property
    def state(self) -> State:
        """What the steps of this run share."""
        return State(sharing_of(self._sharing), Scope.RUN, str(self.run_id))

    @property
    def scratch(self) -> State:
        """What this step notes for its next attempt. What that writes counts anew."""
        return State(sharing_of(self._sharing), Scope.STEP, f"{self.run_id}:{self.path}")

    def shared(self, key: str | None = None) -> State:
        """What all runs of this tenant share that name this key; without one, the key of this run's event."""
        return State(sharing_of(self._sharing), Scope.KEY, self._key(key))

    def session(self, key: str | None = None) -> Session:
        """The conversation of this key; without one, of the key of this run's event."""
        return Session(sharing_of(self._sharing), self._key(key))

    @property
    def memory(self) -> Memories:
        """What runs of this tenant remember: passages of text, found again by meaning and by words; past runs."""
        if self._memories is None:
            if self._means is None:
                raise AgentError("this context has no memory: it was not made by a worker")
            self._memories = Memories(self, self._means)
        return self._memories

    def _key(self, key: str | None) -> str:
        found = key if key is not None else self.key
        if found is None:
            raise Permanent(NO_KEY)
        return found

    def once(self, key: str, block: Callable[[], Any], *, type: Any = Any) -> Any:
        """Execute a block once in the life of this step, and give what it returned, in this attempt and later ones.

        What it returns is kept as JSON and given back as `type`. In an async agent, await this; the block may be
        async there. A crash in the middle of the block lets the next attempt execute it again: hand services inside
        `f"{ctx.idempotency_key}:{key}"`. Calls must come in the same order in every attempt; else `JournalMismatch`.
        Raises `Permanent` for what is no function, and for what has no JSON form.
        """
        if not is_storable(key):
            raise Permanent(f"ctx.once({key!r}): a key has no NUL characters and no lone surrogates")
        if not callable(block):
            if inspect.iscoroutine(block):
                block.close()
            wanted = "give it the function, which it calls if need be: lambda: pay(order)"
            raise Permanent(f"ctx.once({key!r}, ...): {wanted}, and not what it returned")
        return self._keeping.journaled(f"once {key}", block, TypeAdapter(type).validate_python)

    def ask_human(
        self,
        question: str,
        *,
        type: Any = str,
        context: Any = None,
        audience: str | Iterable[str] = (),
        expires: float | None = None,
        default: Any = NOTHING,
        escalate_to: str | Iterable[str] = (),
        escalate_after: float | None = None,
        key: str = "human",
    ) -> Any:
        """Ask a person, and give the answer as `type`. In an async agent, await this.

        The attempt ends here and holds no worker; when the question is answered (`baton approvals answer`), the agent
        runs again from its start: what stands in `ctx.once` is not done again, and this call gives the answer. So no
        side effect before it may stand outside of `ctx.once`. After `expires` seconds it gives `default`, or raises
        `Unanswered`. `audience` are the people who may answer, joined by `escalate_to` after `escalate_after` seconds;
        `context` is shown beside the question.
        """
        asked = Question(
            question,
            type,
            names(audience),
            expires,
            default,
            names(escalate_to),
            escalate_after,
            context,
        )
        if not is_storable(key):
            raise Permanent(f"ctx.ask_human(key={key!r}): a key has no NUL characters and no lone surrogates")
        return self._keeping.journaled(f"ask {key}", asked, asked.answered)

    def use(self, tool: Any, /, **arguments: Any) -> Any:
        """Call a tool, once in the life of this step, as a model would: the result as JSON data.

        `tool` is what `workers.tool` made, a typed function, or the name of a tool of the app; its limits, cache and
        approvals hold here, too. In an async agent, await this. Raises `ToolError` for what the tool could not do: that
        is not kept, and a later attempt calls it again, under the same idempotency key. Calls must come in the same
        order in every attempt, as those of `once`.
        """
        return self.tooling.use(self, tool, arguments)

    def tool(self, tool: Any) -> Callable[..., Any]:
        """This tool as a function of its arguments: `ctx.tool(search)(query="tides")`; see `use`."""
        return partial(self.use, tool)

    def raise_risk(self, risk: Risk, reason: str) -> None:
        """From now on each call of a tool counts as at least so risky; `high` waits for a person, who is told why."""
        if RISKS.index(risk) > RISKS.index(self.risk):
            self.risk, self.risk_reason = risk, reason

    def lift_risk(self, levels: int, reason: str) -> None:
        """From now on each call of a tool counts as so many levels riskier: low as medium, medium as high."""
        self.risk_lift += levels
        self.risk_reason = reason

    @property
    def tooling(self) -> CallsTools:
        """Raises `AgentError` where there is none: an agent that is called as a plain function."""
        if self._tooling is None:
            raise AgentError("this context has no tools: it was not made by a worker")
        return self._tooling

    @property
    def is_async(self) -> bool:
        """Whether the agent awaits what it asks of its context."""
        return self._keeping.is_async

    def masked(self, value: Any) -> Any:
        """This, as it may be stored where agents read it again: see `workers.guards`."""
        return self._watch.shared(value)

    def place(self) -> int:
        """Set the next place of the journal aside, for what is done in an order of its own: see `kept`."""
        return self._keeping.place()

    async def kept(
        self,
        place: int,
        name: str,
        act: Callable[[], Awaitable[Any]] | Question,
        read: Callable[[Found], Any],
    ) -> Any:
        """As `once`, for an agent that has the place already and wants to know whose account it goes on."""
        return await self._keeping.kept(place, name, act, read)

    async def held(self) -> None:
        """Return when the most that this attempt consumes is set aside, which its function waits for.

        Raises `BudgetExceeded` where it cannot fit, and `PutOff` where it has to wait for others.
        """
        if self._hold is None:
            return
        try:
            await self._hold()
        except PutOff as put_off:
            self._keeping.put_off = put_off
            raise
        self._holds = True

    async def through(self, call: Call, act: Callable[[], Awaitable[Made]], *, waits: bool = True) -> Made:
        """Make this call of a model or a tool when the gates of the cluster let it pass.

        If it `waits` for a limit, so does its step; else whoever calls does something else when it is `PutOff`.
        """
        call.deadline, call.held = self.deadline, self._holds
        try:
            return await through(self._gates, call, act)
        except PutOff as put_off:
            if waits:
                self._keeping.put_off = self._keeping.put_off or put_off
            raise
        finally:
            self._notes += call.notes


def _as_json(verb: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """What is told, as JSON data; anything else in it as text. It is committed with outcomes of others."""
    try:
        text = json.dumps(data, default=str, allow_nan=False, ensure_ascii=False)
        text.encode()
        found: dict[str, Any] = json.loads(text)
    except Exception as error:  # noqa: BLE001  texts of strange values are made by their own code
        raise Permanent(f"{verb}(...) was told what has no JSON form: {error}") from None
    if "\\u0000" in text:
        raise Permanent(f"{verb}(...) was told a NUL character, which Postgres cannot store")
    return found
