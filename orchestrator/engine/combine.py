"""Group commit among the threads of one process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

A = TypeVar("A")
B = TypeVar("B")


class Combiner(Generic[A, B]):
    """Runs many callers' items as one batch, without a thread of its own.

    A caller that finds nobody at work executes its item at once, so an idle process pays nothing. Callers that
    come meanwhile wait, and the first of them then executes all that gathered: the slower the disk, the larger
    the batches ("flat combining", Hendler et al., SPAA 2010).
    """

    def __init__(self, execute: Callable[[Sequence[A]], Sequence[B]], *, most: int = 256) -> None:
        self._execute = execute
        self._most = most
        self._lock = threading.Lock()
        self._waiting: list[_Slot[A, B]] = []
        self._busy = False

    def __call__(self, item: A) -> B:
        """The result for `item`; raises what `execute` raised for the batch that it was in."""
        slot = _Slot[A, B](item)
        with self._lock:
            self._waiting.append(slot)
            leads, self._busy = not self._busy, True
        if not leads:
            slot.turn.wait()
        if not slot.settled:
            self._lead()
        return slot.take()

    def _lead(self) -> None:
        with self._lock:
            batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
        try:
            results = self._execute([slot.item for slot in batch])
            for slot, result in zip(batch, results, strict=True):
                slot.result = result
        except BaseException as error:  # noqa: BLE001  every waiting caller has to see it
            for slot in batch:
                slot.error = error
        finally:
            with self._lock:
                successor = self._waiting[0] if self._waiting else None
                self._busy = successor is not None
            if successor is not None:
                successor.turn.set()
            for slot in batch:
                slot.settled = True
                slot.turn.set()


class _Slot(Generic[A, B]):
    __slots__ = ("error", "item", "result", "settled", "turn")

    def __init__(self, item: A) -> None:
        self.item = item
        self.result: B | None = None
        self.error: BaseException | None = None
        self.settled = False
        self.turn = threading.Event()

    def take(self) -> B:
        if self.error is not None:
            raise self.error
        return self.result  # type: ignore[return-value]
