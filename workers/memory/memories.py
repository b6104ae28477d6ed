"""`ctx.memory`: what an agent remembers, recalls, and forgets.

The same calls serve both kinds of agents. Where an event loop runs they are awaited, `await ctx.memory.recall(...)`;
elsewhere they answer at once, `ctx.memory.recall(...)`.

Each call takes a place in the step's journal, so an attempt that goes on from it is given what the one before was
given, although others may have remembered more since. Inside a block of `ctx.once`, or of a tool of a model, it is the
block that is in the journal: there a call is made as often as the block is, and remembers once all the same.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn, Protocol, TypeVar
from uuid import UUID

import pydantic_core
from pydantic import TypeAdapter

from orchestrator.intake.submitter import LONGEST_NAME
from orchestrator.masking.masker import discreet
from orchestrator.memory.episodes import Episodes
from orchestrator.memory.long_term import LongMemory, Meaning, Passage, Query
from orchestrator.shared_state import Author
from schemas.errors import AgentError, Permanent
from schemas.memory import COMMON, MAX_TEXT, MOST, Episode, Recalled
from schemas.state import MAX_VALUE
from schemas.usage import Usage
from workers.asking import is_storable
from workers.calls import Call, Made
from workers.hands import Line
from workers.journal import Found
from workers.loop import LoopThread
from workers.memory.declared import Embedded, Embedder, MemorySetup
from workers.state import block_base

NO_KEY = "name a key: this run has none, neither by its event nor by a label, `baton run ... --label key=ann`"
T = TypeVar("T")

EMBEDDED = 8_000
"""Characters of a text that its vector is made of; all of it is found by its words."""

_RECALLED = TypeAdapter(list[Recalled])
_EPISODES = TypeAdapter(list[Episode])


@dataclass(frozen=True)
class Means:
    """What a process remembers with."""

    store: LongMemory
    episodes: Episodes
    setup: MemorySetup
    hands: Line
    loop: LoopThread
    """Where sync agents have it done."""


class Rememberer(Protocol):
    """The attempt in whose name it is: the context of an agent."""

    run_id: UUID
    path: str
    attempt: int
    workflow: str
    tenant: str
    agent: str

    @property
    def key(self) -> str | None: ...
    @property
    def idempotency_key(self) -> str: ...
    def account(self, usage: Usage, *, counted: bool) -> None: ...
    def place(self) -> int: ...
    def masked(self, value: Any) -> Any: ...
    async def kept(
        self, place: int, name: str, act: Callable[[], Awaitable[Any]], read: Callable[[Found], Any]
    ) -> Any: ...
    async def through(self, call: Call, act: Callable[[], Awaitable[Made]]) -> Made: ...


class Memories:
    """What one attempt remembers and recalls, of its tenant and never of another."""

    def __init__(self, attempt: Rememberer, means: Means) -> None:
        self._attempt = attempt
        self._means = means
        self._calls: Counter[int] = Counter()

    def remember(
        self,
        text: str,
        *,
        key: str | None = None,
        kind: str = "note",
        data: Any = None,
        expires: float | None = None,
    ) -> Any:
        """Remember a text for later runs, once however often the step is tried; its id.

        It is about `key`, without one about the key of this run's event, or about nobody in particular; `""` is
        nobody. `data` is kept beside it as JSON; after `expires` seconds it is not found any more. Credentials, and
        what else the agent's guard says, are masked in both.

        Raises `Permanent` for what cannot be kept, `AgentError` when no vector could be made of it.
        """
        if not isinstance(text, str):
            raise Permanent("remember(...): a memory is a text; what else belongs to it is its data=...")
        text, data = self._attempt.masked(text), self._attempt.masked(data)
        passage = Passage(self._one(key), kind, text, _as_json(data), expires, None)
        _check(passage)
        return self._answered("remember", partial(self._remember, passage), lambda kept: int(kept["id"]))

    def forget(self, *ids: int, key: str | None = None) -> Any:
        """Remove memories of this tenant for good: those of these ids, or all that is about `key`; how many there were.

        It is done once however often the step is tried. Events of runs name what was forgotten, and what had been
        recalled before, by ids and scores; what it said stays where runs have written it down: in journals and outputs.
        Raises `Permanent` unless there are either ids or a key.
        """
        if bool(ids) == (key is not None):
            raise Permanent("forget(...): name memories by their ids, or all of a key with key=...")
        if not all(isinstance(one, int) and abs(one) < 2**63 for one in ids) or not is_storable(key or ""):
            raise Permanent("forget(...): ids are those that remember(...) gave, and a key is a text")
        _refuse_secrets("forget", key or "")
        return self._answered("forget", partial(self._forget, ids, key), lambda kept: int(kept["forgotten"]))

    def recall(
        self,
        query: str,
        *,
        key: str | Iterable[str] | None = None,
        most: int = 5,
        least_score: float = 0.0,
        kind: str | None = None,
    ) -> Any:
        """What was remembered and fits a text, the best first: a list of `schemas.memory.Recalled`.

        Of this key, or of any of these; without one of the key of this run's event, or of nobody in particular. What
        fits less than `least_score`, from 0 to 1, is left out. Of what it gives, ids and scores stand in the events of
        the run: `baton runs explain`.
        """
        if not isinstance(query, str):
            raise Permanent(f"recall(...): it is asked with a text, not with {query!r}")
        keys = tuple(key) if key is not None and not isinstance(key, str) else (self._one(key),)
        if not 1 <= most <= MOST or not 0 <= least_score <= 1:
            raise Permanent(
                f"recall(...): most is a number from 1 to {MOST}, and least_score one from 0 to 1"
            )
        if not all(map(is_storable, (query, kind or "", *keys))):
            raise Permanent("recall(...): Postgres has no NUL characters and no lone surrogates")
        _refuse_secrets("recall", *keys)
        masked: str = self._attempt.masked(query[:MAX_TEXT])
        asked = Query(self._attempt.tenant, keys, kind, masked, most, least_score)
        return self._answered(
            "recall", partial(self._recall, asked), lambda kept: _RECALLED.validate_python(kept["found"])
        )

    def episodes(self, key: str | None = None, most: int = 5) -> Any:
        """The past runs of a key (label `key`), the newest first, this one left out: `schemas.memory.Episode`s.

        Without a key those of this run's. Raises `Permanent` if it has none.
        """
        of = key if key is not None else self._attempt.key
        if of is None:
            raise Permanent(NO_KEY)
        if not 1 <= most <= MOST or not is_storable(of):
            raise Permanent(f"episodes(...): most is a number from 1 to {MOST}")
        _refuse_secrets("episodes", of)
        return self._answered(
            "episodes",
            partial(self._episodes, of, most),
            lambda kept: _EPISODES.validate_python(kept["runs"]),
        )

    # --- what is done, and kept in the journal --------------------------------------------------------------

    async def _remember(self, passage: Passage, place: int) -> dict[str, Any]:
        meaning, cost = await self._meaning(passage.text, place)
        passage = passage._replace(meaning=meaning)
        id = await self._means.hands.call(self._means.store.remember, self._author, place, passage)
        return {"id": id, **cost}

    async def _forget(self, ids: Sequence[int], key: str | None, place: int) -> dict[str, Any]:
        gone = await self._means.hands.call(self._means.store.forget_once, self._author, place, ids, key)
        return {"forgotten": gone, **_cost(Made(None))}

    async def _recall(self, query: Query, place: int) -> dict[str, Any]:
        meaning, cost = await self._meaning(query.text, place)
        found = await self._means.hands.call(
            self._means.store.recall, self._author, query._replace(meaning=meaning)
        )
        return {"found": _RECALLED.dump_python(found, mode="json"), **cost}

    async def _episodes(self, key: str, most: int, place: int) -> dict[str, Any]:
        means, author = self._means, self._author
        runs = await means.hands.call(means.episodes.of, author.tenant, key, most, author.run_id)
        await means.hands.call(means.store.tell_episodes, author, key, [one.run_id for one in runs])
        return {"runs": _EPISODES.dump_python(runs, mode="json"), **_cost(Made(None))}

    async def _meaning(self, text: str, place: int) -> tuple[Meaning | None, dict[str, Any]]:
        """The vector of a text, where there is somebody to make it and a server to compare it."""
        embed = self._means.setup.embed
        if (
            embed is None
            or not text.strip()
            or not await self._means.hands.call(self._means.store.vectors.there)
        ):
            return None, _cost(Made(None))
        texts = [text[:EMBEDDED]]

        async def act() -> Made:
            embedded = await _embedded(embed, texts)
            return Made(list(embedded.vectors[0]), embedded.usage)

        made = await self._attempt.through(self._call(embed, texts, place), act)
        return Meaning(f"{embed.name}/{len(made.value)}", made.value), _cost(made)

    # --- how it is answered ---------------------------------------------------------------------------------

    def _answered(
        self, name: str, act: Callable[[int], Awaitable[dict[str, Any]]], read: Callable[[Any], Any]
    ) -> Any:
        """The answer, or where an event loop must not be held up, what to await for it."""
        work = self._kept(name, act, read)
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self._means.loop.submit(work).result()
        return work

    def _kept(
        self, name: str, act: Callable[[int], Awaitable[dict[str, Any]]], read: Callable[[Any], Any]
    ) -> Coroutine[Any, Any, Any]:
        """Take the place at once, in the order in which the agent asks."""

        def told(found: Found) -> Any:
            if found.owed:
                counted = found.value.get("counted", False)
                self._attempt.account(Usage.model_validate(found.value["usage"]), counted=counted)
            return read(found.value)

        base = block_base()
        if base:
            self._calls[base] += 1
            return self._unkept(partial(act, base + self._calls[base]), told)
        place = self._attempt.place()
        return self._attempt.kept(place, name, partial(act, place), told)

    async def _unkept(
        self, act: Callable[[], Awaitable[dict[str, Any]]], read: Callable[[Found], Any]
    ) -> Any:
        return read(Found(await act(), owed=True))

    @property
    def _author(self) -> Author:
        one = self._attempt
        return Author(one.run_id, one.path, one.attempt, one.tenant)

    def _one(self, key: str | None) -> str:
        return key if key is not None else self._attempt.key or COMMON

    def _call(self, embed: Embedder, texts: list[str], place: int) -> Call:
        one = self._attempt
        return Call(
            "model",
            embed.name,
            one.agent,
            one.workflow,
            one.tenant,
            one.run_id,
            one.path,
            one.attempt,
            place,
            f"{one.idempotency_key}:{place}",
            worst=embed.worst(texts),
        )


async def _embedded(embed: Embedder, texts: list[str]) -> Embedded:
    """Raises `AgentError` for what are no vectors."""
    if inspect.iscoroutinefunction(embed.function):
        given = await embed.function(texts)
    else:
        given = await asyncio.to_thread(embed.function, texts)
    made = given if isinstance(given, Embedded) else Embedded(given)
    try:
        vectors = [[float(number) for number in vector] for vector in made.vectors]
    except (TypeError, ValueError) as error:
        raise AgentError(f"{embed.name} gave no vectors: {error}") from None
    if len(vectors) != len(texts) or not all(map(_points, vectors)):
        raise AgentError(
            f"{embed.name} gave {len(vectors)} vectors of {len(texts)} texts, or one that points nowhere"
        )
    return Embedded(vectors, made.usage)


def _points(vector: Sequence[float]) -> bool:
    length = math.hypot(*vector)
    return 1e-12 < length < 1e12


def _as_json(data: Any) -> str:
    try:
        text = pydantic_core.to_json(data, inf_nan_mode="constants").decode()
        json.loads(text, parse_constant=_no_number)
    except (pydantic_core.PydanticSerializationError, ValueError) as error:
        raise Permanent(f"remember(...) was given data that has no JSON form: {error}") from None
    if "\\u0000" in text or len(text) > MAX_VALUE:
        raise Permanent(f"remember(...): data has a NUL character, or more than {MAX_VALUE:,} characters")
    return text


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


def _refuse_secrets(verb: str, *names: str) -> None:
    """Raises `Permanent`: what memories go by is shown."""
    if any(discreet(name) != name for name in names):
        raise Permanent(
            f"{verb}(...): what a memory goes by is shown, and holds a credential: take a digest of it"
        )


def _check(passage: Passage) -> None:
    """Raises `Permanent`."""
    if not passage.text.strip() or len(passage.text) > MAX_TEXT:
        raise Permanent(f"remember(...): a memory has some text, and at most {MAX_TEXT:,} characters of it")
    if not all(map(is_storable, (passage.text, passage.key, passage.kind))):
        raise Permanent("remember(...): Postgres has no NUL characters and no lone surrogates")
    _refuse_secrets("remember", passage.key, passage.kind)
    if max(len(passage.key.encode()), len(passage.kind.encode())) > LONGEST_NAME:
        raise Permanent(f"remember(...): key and kind have at most {LONGEST_NAME} bytes")
    if passage.expires is not None and not 0 < passage.expires < 1e10:
        raise Permanent(f"remember(...): expires={passage.expires} is not a number of seconds above 0")


def _cost(made: Made) -> dict[str, Any]:
    """What a call consumed, as the journal keeps it beside what came of it."""
    return {"usage": made.usage.model_dump(), "counted": made.counted}
