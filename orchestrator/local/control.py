"""How another command speaks to a running stack: one JSON line there and one back, over a Unix socket."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from orchestrator.local.places import make_private, short_dir
from schemas.errors import BatonError, Conflict, Unavailable

Message = Mapping[str, Any]
"""What JSON can say, as an object."""

_SOCKET = "control.sock"
_ADDRESS = "control.json"
_LONGEST = 1024 * 1024  # bytes of one message


class ControlSocket:
    """Answers requests with `handler` from a thread of its own, one after the other, until `close`.

    A `BatonError` of the handler is raised again in the process that asked.
    """

    def __init__(self, data_dir: Path | str, handler: Callable[[Message], Message]) -> None:
        self._folder = Path(data_dir).expanduser().resolve()
        self._handler = handler
        self._socket = _bind(self._folder)
        self._thread = threading.Thread(target=self._serve, name="baton-control", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Answer no more; may be called twice."""
        (self._folder / _ADDRESS).unlink(missing_ok=True)
        try:
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits in accept
        except OSError:
            return
        self._thread.join()
        address = Path(self._socket.getsockname())
        self._socket.close()
        address.unlink(missing_ok=True)
        address.parent.rmdir()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                try:
                    connection.settimeout(10.0)
                    _send(connection, self._answer(_receive(connection)))
                except (OSError, ValueError):
                    continue  # whoever asked went away, or did not speak our language

    def _answer(self, request: Message) -> Message:
        try:
            return {"answer": self._handler(request)}
        except BatonError as error:
            return {"error": str(error), "next_step": error.next_step}
        except Exception as error:  # noqa: BLE001 - a fault in one request must not make the stack deaf
            return {"error": f"{type(error).__name__}: {error}", "next_step": ""}


def serve(data_dir: Path | str, handler: Callable[[Message], Message]) -> ControlSocket:
    """Listen for requests to the stack in `data_dir`.

    Raises `Conflict` when another stack listens there.
    """
    return ControlSocket(data_dir, handler)


def request(data_dir: Path | str, message: Message, timeout: float = 30.0) -> dict[str, Any]:
    """Ask the stack that runs in `data_dir`, for example `{"scale": {"researcher": 4}}`.

    Raises `Unavailable` when no stack runs there or it does not answer in `timeout` seconds, and `Conflict`
    with the stack's own words when it refuses.
    """
    folder = Path(data_dir).expanduser().resolve()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        try:
            connection.connect(json.loads((folder / _ADDRESS).read_text())["socket"])
        except (OSError, ValueError, KeyError):
            raise Unavailable(f"No stack is running in {folder}.", next_step="baton up") from None
        try:
            _send(connection, message)
            reply = _receive(connection)
        except (OSError, ValueError) as error:
            raise Unavailable(
                "The stack does not answer.", next_step="look at the `baton up` terminal"
            ) from error
    if "error" in reply:
        raise Conflict(reply["error"], next_step=reply.get("next_step", ""))
    answer: dict[str, Any] = reply["answer"]
    return answer


def _bind(folder: Path) -> socket.socket:
    folder.mkdir(parents=True, exist_ok=True)
    near = short_dir(folder, "control")
    make_private(near, None)
    address = near / _SOCKET
    if _is_live(address):
        raise Conflict(f"A stack is already running in {folder}.", next_step="baton pools ls")
    address.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(address))
        listener.listen()
    except BaseException:
        listener.close()
        raise
    # The folder depends on the temporary folder of this process, so others are told where it is.
    (folder / _ADDRESS).write_text(json.dumps({"socket": str(address)}))
    return listener


def _is_live(address: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(address))
        except OSError:
            return False
        return True


def _send(connection: socket.socket, message: Message) -> None:
    connection.sendall(json.dumps(message).encode() + b"\n")


def _receive(connection: socket.socket) -> dict[str, Any]:
    with connection.makefile("rb") as stream:
        message = json.loads(stream.readline(_LONGEST))
    if not isinstance(message, dict):
        raise ValueError("a message is a JSON object")  # noqa: TRY004 - as for any text that is not JSON
    return message
