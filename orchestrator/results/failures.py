"""Failures that Celery leaves on the way, so that whoever waits behind them would wait for ever.

Celery passes a failure on to the rest of the chain and to a chord's body. It stops at the members of a group
in that chain, and at the chord around a chord that failed. Because of the latter, `chord.link_error` links an
errback to the chords in its header as well. Here the outer chord does fail, so what heard of the inner
failure must not be called a second time: such errbacks travel along as `told`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from celery import maybe_signature, states
from celery.app.task import Context
from celery.exceptions import ChordError
from celery.utils.functional import maybe_list

from orchestrator.results.chords import ChordKeeper


class FailureCarrier(ChordKeeper):
    """Carries a failure on to every result that depends on it."""

    def fail_body(self, callback: Any, exc: ChordError) -> None:
        """Fail the body as Celery does, and then the chord whose header that body is."""
        last = list(_last_tasks(callback))
        told = list(getattr(exc, "told", ()))
        called = [errback for part in (callback, *last) for errback in _errbacks(part)]
        for part in (callback, *last):
            _leave_out(part, told)
        super().fail_body(callback, exc)
        for task in last:
            self._fail_as_header(task, exc, [*told, *called])

    def _fail_chain(
        self,
        chain: Any,
        exc: BaseException,
        traceback: Any = None,
        store_result: bool = True,
        state: str = states.FAILURE,
    ) -> None:
        """Fail what follows in the chain as Celery does, and then the members of a group in it.

        Celery fails only the group's own id, on which nobody waits (celery#6437).
        """
        super()._fail_chain(chain, exc, traceback, store_result, state)
        for link in chain if isinstance(chain, list | tuple) else ():
            if link.get("subtask_type") != "group":
                continue
            for task in _last_tasks(maybe_signature(link, app=self.app)):
                if store_result and task.options.get("task_id"):
                    self.store_result(task.options["task_id"], exc, state, traceback=traceback)
                self._fail_as_header(task, exc)

    def _fail_as_header(self, task: Any, exc: BaseException, told: Sequence[Any] = ()) -> None:
        """Count a task that will never run as a failed header of its chord, if it has one."""
        options = task.options
        if options.get("chord") and options.get("group_id") and options.get("task_id"):
            request = Context(options, id=options["task_id"], group=options["group_id"])
            self.on_chord_part_return(request, states.FAILURE, exc, told=told)


def _last_tasks(signature: Any) -> Iterator[Any]:
    """Yield the tasks whose end is the end of this canvas."""
    match signature.get("subtask_type"):
        case "group":
            for task in signature.tasks:
                yield from _last_tasks(task)
        case "chord":
            yield from _last_tasks(signature.body)
        case "chain":
            yield from _last_tasks(signature.tasks[-1])
        case _:
            yield signature


def _errbacks(signature: Any) -> list[Any]:
    return [dict(errback) for errback in maybe_list(signature.options.get("link_error")) or ()]


def _leave_out(signature: Any, told: Sequence[Any]) -> None:
    """Take errbacks that were called already out of `signature`."""
    if told and signature.options.get("link_error"):
        known = [_call(errback) for errback in told]
        signature.options["link_error"] = [e for e in _errbacks(signature) if _call(e) not in known]


def _call(errback: Any) -> tuple[Any, list[Any], dict[str, Any]]:
    """What an errback does; copies of one errback differ in their options only."""
    return errback["task"], list(errback.get("args") or ()), dict(errback.get("kwargs") or {})
