"""Counts the model calls of one attempt of a framework's agent, and lets them pass the gates of the cluster."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self, TypeVar

import genai_prices

from schemas.breakers import Breaker
from schemas.errors import AgentError, BatonError, Permanent
from schemas.limits import Limit
from schemas.usage import Budget, Price, Usage
from workers.adapters.failures import told
from workers.calls import MOST_OUTPUT, NONE, Call, Made, unpaid
from workers.context import Context
from workers.endings import PutOff, SetAside

T = TypeVar("T")


class Tokens(NamedTuple):
    """What a call of a model consumed; nothing at all if its provider does not count."""

    input: int
    output: int

    def or_estimate(self, said: int, heard: int) -> Tokens:
        """About four characters are a token."""
        return self if any(self) else Tokens(said // 4, heard // 4)


class Meter:
    """The model calls of one attempt; enter it around the framework's run.

    A call whose price nobody knows is not made, and a gate may refuse one: whatever the framework makes of that, the
    attempt fails with it. The framework may catch it and do something else, such as call another model.
    """

    def __init__(
        self,
        agent: str,
        ctx: Context,
        price: Price | None,
        *,
        limits: Sequence[Limit] = (),
        breaker: Breaker | None = None,
        budget: Budget | None = None,
    ) -> None:
        """`limits` and `breaker` are those of each model that it calls, `budget` that of the agent."""
        self.ctx = ctx
        self._limits = tuple(limits)
        self._breaker = breaker
        self._budget = budget
        self.counted = Usage()
        self._agent = agent
        self._price = price
        self._numbers = itertools.count()
        self._open: set[MeteredCall] = set()
        self._refused: BatonError | None = None
        self._failed: Exception | None = None
        """What the last call ended with: frameworks may tell of it as something else."""
        self._unpriced: Permanent | None = None
        self._over = False
        self._aside: asyncio.Future[SetAside] = asyncio.get_running_loop().create_future()
        """How the attempt ends when a gate puts it off."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over = True
        for passage in list(self._open):
            await passage.fail(error or AgentError("the framework has not told how this call ended"))
        if error is None and self._unpriced is not None:
            raise self._unpriced
        if not isinstance(error, Exception) or isinstance(error, BatonError):
            return
        instead = self._refused or told(error) or (self._failed and told(self._failed))
        if instead is not None:
            raise instead from None

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The framework's run. When a gate puts the attempt off it is cancelled: not every framework ends by itself."""
        running = asyncio.ensure_future(work)
        either: set[asyncio.Future[Any]] = {running, self._aside}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not running.done():
                running.cancel()
                await asyncio.wait({running})
        if self._aside.done():
            raise self._aside.result()
        return await running

    async def made(
        self, model: str, said: int, act: Callable[[], Awaitable[T]], read: Callable[[T], tuple[Tokens, int]]
    ) -> T:
        """Make one call of a model, such as `openai:gpt-5-mini`; `said` are the characters that it is shown.

        `read` tells its tokens from its answer, and the characters of that.
        """
        passage = await self.begin(model, said)
        try:
            result = await act()
        except BaseException as error:
            await passage.fail(error)
            raise
        await passage.end(*read(result))
        return result

    async def begin(self, model: str, said: int) -> MeteredCall:
        """Let a call pass that the framework makes itself; it tells the `MeteredCall` how the call ended.

        Raises what the gates raise, and `Permanent` for a model without a known price.
        """
        if self._over:
            raise AgentError("the attempt that wants to call a model is over")
        try:
            passage = MeteredCall(self, self._next(model, said), said)
            self._open.add(passage)
            await passage.begin()
        except BatonError as error:
            self._refused = error
            raise
        except SetAside as ending:
            if not self._aside.done():
                self._aside.set_result(ending)
            raise
        return passage

    def count_past(self, model: str, said: int, tokens: Tokens, heard: int, calls: int = 1) -> None:
        """Count what was called without passing the gates. The attempt fails if nobody knows what it costs."""
        self.ctx.warn(f"{model} was called where no gate could hold it", calls=calls)
        try:
            self.spend(self.usage(model, tokens.or_estimate(said, heard), calls))
        except Permanent as error:
            self._unpriced = error

    def usage(self, model: str, tokens: Tokens, calls: int = 1) -> Usage:
        """What this comes to. Raises `Permanent` if nobody knows its price."""
        try:
            usd = self._usd(model, tokens)
        except LookupError:
            raise Permanent(
                f"the price of {model} is not known: say it, price=Price(input=..., output=...)"
            ) from None
        return Usage(tokens=tokens.input + tokens.output, usd=usd, model_calls=calls)

    def spend(self, used: Usage, *, counted: bool = False) -> None:
        """Tell what was consumed; `counted` if a gate has told budgets of it."""
        self.counted += used
        self.ctx.account(used, counted=counted)

    def left(self, passage: MeteredCall, failed: Exception | None = None) -> None:
        self._open.discard(passage)
        self._failed = failed

    def call(
        self,
        kind: Literal["model", "tool"],
        name: str,
        place: int,
        key: str,
        said: int = 0,
        arguments: Any = None,
    ) -> Call:
        """A call as the gates are shown it. Raises `Permanent` for a model without a known price."""
        ctx = self.ctx
        return Call(
            kind,
            name,
            self._agent,
            ctx.workflow,
            ctx.tenant,
            ctx.run_id,
            ctx.path,
            ctx.attempt,
            place,
            key,
            arguments,
            worst=self.usage(name, Tokens(said // 4, MOST_OUTPUT)) if kind == "model" else NONE,
            least=self.usage(name, Tokens(said // 4, 0)) if kind == "model" else NONE,
            limits=self._limits if kind == "model" else (),
            breaker=self._breaker if kind == "model" else None,
            budget=self._budget,
        )

    def _next(self, model: str, said: int) -> Call:
        place = next(self._numbers)
        # Another attempt makes this call anew.
        return self.call(
            "model", model, place, f"{self.ctx.idempotency_key}:{self.ctx.attempt}:{place}", said
        )

    def _usd(self, model: str, tokens: Tokens) -> float:
        if self._price is not None:
            return self._price.of(*tokens)
        provider, _, name = model.rpartition(":")
        used = genai_prices.Usage(input_tokens=tokens.input, output_tokens=tokens.output)
        return float(genai_prices.calc_price(used, name, provider_id=provider or None).total_price)


class MeteredCall:
    """One call of a model on its way through the gates: they are entered in `begin`, and left in `end` or `fail`."""

    def __init__(self, meter: Meter, call: Call, said: int) -> None:
        self._meter = meter
        self._said = said
        self._call = call
        loop = asyncio.get_running_loop()
        self._entered: asyncio.Future[None] = loop.create_future()
        self._ended: asyncio.Future[Made] = loop.create_future()
        # Gates are entered and left by one task, as they may expect; a framework may use several.
        self._passing = loop.create_task(self._pass())

    async def _pass(self) -> Made:
        """Through the gates.

        After the first one, a call waits right here for a limit: another attempt would make, and pay for, all of them
        again.
        """
        while True:
            try:
                return await self._meter.ctx.through(self._call, self._under_way, waits=self._call.place == 0)
            except PutOff as put_off:
                if self._call.place == 0:
                    raise
                pause = put_off.due_in
            await asyncio.sleep(pause)

    async def _under_way(self) -> Made:
        self._call.unseen = self._call.least
        self._entered.set_result(None)
        return await self._ended

    async def begin(self) -> None:
        """Wait until the gates let it pass. Raises what they raise."""
        either: set[asyncio.Future[Any]] = {self._passing, self._entered}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await self._stop()
            raise
        if not self._entered.done():
            self._meter.left(self)
            await self._passing

    async def end(self, tokens: Tokens, heard: int) -> None:
        """It has ended well, with an answer of so many characters. Raises what a gate raises now."""
        self._meter.left(self)
        used = self._meter.usage(self._call.name, tokens.or_estimate(self._said, heard))
        if not self._ended.done():
            self._ended.set_result(Made(None, used, tokens.output))
        counted = False
        try:
            counted = (await self._passing).counted
        finally:
            self._meter.spend(used, counted=counted)

    async def fail(self, error: BaseException) -> None:
        """It has failed, and consumed what it was told if its provider may have taken that."""
        if isinstance(error, Exception) and self._entered.done() and not self._ended.done():
            self._meter.left(self, error)
            if unpaid(error):
                self._call.unseen = NONE
            self._ended.set_exception(told(error) or error)
            await asyncio.wait({self._passing})
            self._passing.exception()  # it is raised where the call was made
        else:
            await self._stop()
        if self._call.unseen != NONE:
            self._meter.spend(self._call.unseen, counted=self._call.counted)

    async def _stop(self) -> None:
        self._meter.left(self)
        self._passing.cancel()
        await asyncio.wait({self._passing})
