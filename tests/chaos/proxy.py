"""A TCP port that leads to a server, and on which the network can be made to fail.

Workers reach Postgres and Redis through one of these. `drop` resets the connections, `stall` is a network that
loses everything without a word, `delay` one that is slow. It runs on a thread of the test's own process.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")
Address = str | tuple[str, int]
"""The path of a Unix socket, or a host and a port."""

_CHUNK = 1 << 16
_RESET = struct.pack("ii", 1, 0)  # do not linger: close with RST


class Proxy:
    """Leads from a free port of 127.0.0.1 to `target()`, asked anew for each connection."""

    def __init__(self, target: Callable[[], Address]) -> None:
        self._target = target
        self._pairs: set[_Pair] = set()
        self._seconds = 0.0
        self._flows = asyncio.Event()
        self._flows.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name=f"proxy-{self.port}", daemon=True)
        self._thread.start()

    def drop(self) -> int:
        """Reset all connections; how many there were."""
        return self._do(self._drop())

    def stall(self) -> None:
        """Pass nothing on, in either direction, until `flow`; connections stay, and new ones get no answer."""
        self._do(self._set_flowing(False))

    def flow(self) -> None:
        """Pass on again, what was held back first."""
        self._do(self._set_flowing(True))

    def delay(self, seconds: float) -> None:
        """Take this long for whatever passes, in each direction; for connections made from now on."""
        self._seconds = seconds

    def close(self) -> None:
        """End all connections and stop listening; may be called twice."""
        if self._loop.is_running():
            self._do(self._drop())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(5)
            self._loop.close()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._server = self._loop.run_until_complete(
            asyncio.start_server(self._connected, sock=self._listener)
        )
        self._loop.run_forever()
        self._server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _drop(self) -> int:
        pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            pair.abort()
        return len(pairs)

    async def _set_flowing(self, flowing: bool) -> None:
        if flowing:
            self._flows.set()
        else:
            self._flows.clear()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pair = _Pair(writer)
        self._pairs.add(pair)
        try:
            await self._flows.wait()
            target = self._target()
            if isinstance(target, str):
                back_reader, pair.back = await asyncio.open_unix_connection(target)
            else:
                back_reader, pair.back = await asyncio.open_connection(*target)
            seconds = self._seconds
            ways = [self._pump(reader, pair.back, seconds), self._pump(back_reader, writer, seconds)]
            await asyncio.wait(
                [asyncio.ensure_future(way) for way in ways], return_when=asyncio.FIRST_COMPLETED
            )
        except (OSError, asyncio.CancelledError):
            pass  # the server is away, or all ends: so does the connection
        finally:
            pair.close()
            self._pairs.discard(pair)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
        with suppress(OSError):
            while data := await reader.read(_CHUNK):
                if seconds:
                    await asyncio.sleep(seconds)
                await self._flows.wait()
                writer.write(data)
                await writer.drain()


class _Pair:
    """A client's connection and the one to the server behind it."""

    def __init__(self, front: asyncio.StreamWriter) -> None:
        self.front = front
        self.back: asyncio.StreamWriter | None = None

    def close(self) -> None:
        for writer in (self.front, self.back):
            if writer is not None:
                writer.close()

    def abort(self) -> None:
        """Reset, so that both sides get an error and not an orderly end."""
        for writer in (self.front, self.back):
            if writer is not None:
                end = writer.get_extra_info("socket")
                if end.family == socket.AF_INET:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                writer.transport.abort()
