"""The event loop of a worker ends with what belongs to it: connections of models are closed, nothing runs on."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import warnings
from typing import Any

import pytest
from celery import Celery

from orchestrator.places import Places
from schemas import Price
from tests.integration.worker.test_asking import Desk
from tests.integration.worker.test_thinking import ask, provided, writer
from tests.integration.worker.test_thinking import desk as desk
from workers.loop import LoopThread, before_end
from workers.models import clients
from workers.process import WorkerProcess
from workers.scripted import answer


def test_the_connections_of_models_are_closed(desk: Desk) -> None:
    with provided([answer({"lines": []})]) as provider:
        ask(desk, writer(provider, price=Price(input=1, output=1)))

        async def held() -> list[Any]:
            made = clients._clients[asyncio.get_running_loop()]
            return [client.client for client in made.values()]  # type: ignore[attr-defined]

        (inner,) = desk.loop.submit(held()).result(10)
        assert not inner.is_closed()
        desk.loop.end()

    assert inner.is_closed()
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        del inner
        gc.collect()


def test_a_worker_that_retires_ends_its_loop() -> None:
    process = WorkerProcess(
        Celery(set_as_current=False), Places("postgresql://nowhere/x", "redis://nowhere/0")
    )
    closed = threading.Event()

    async def close() -> None:
        closed.set()

    async def begin() -> None:
        before_end(close)

    process.loop.submit(begin()).result(10)
    process.retire(0)

    assert closed.is_set()


def test_what_still_runs_is_stopped_and_the_loop_begins_anew_if_it_is_asked(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loop = LoopThread()
    loop.end()  # there is none yet
    begun = threading.Event()

    async def run_on() -> None:
        begun.set()
        await asyncio.Event().wait()

    async def broken() -> None:
        raise OSError("it was gone already")

    async def hold() -> asyncio.AbstractEventLoop:
        before_end(broken)
        return asyncio.get_running_loop()

    running = loop.submit(run_on())
    first = loop.submit(hold()).result(10)
    assert begun.wait(10)
    with caplog.at_level(logging.WARNING):
        loop.end()
        loop.end()

    assert running.cancelled()
    assert first.is_closed()
    assert caplog.messages == ["a connection did not end well: it was gone already"]

    async def number() -> int:
        return 7

    assert loop.submit(number()).result(10) == 7
    loop.end()
