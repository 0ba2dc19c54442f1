"""The agent's socket: what `jaga-agent status` and `quota` ask, on this machine only.

One request is one JSON line, `{"get": "status"}` or `{"get": "status", "watch": 1.0}`
(seconds between answers), or an order, `{"get": "quota-reset", "arguments": {…}}`; an
answer is one JSON line, `{"error": …}` if it was no. The socket's mode (0660) is the
whole access control. It knows no order itself: what may be asked is given to it.
"""

from __future__ import annotations

import asyncio
import fcntl
import inspect
import logging
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec

from jaga_agent.errors import JagaError, NotRunningError, StatusError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_log = logging.getLogger(__name__)

SOCKET_PATH: Final = Path("/run/jaga/agent.sock")
SOCKET_MODE: Final = 0o660
MAX_CLIENTS: Final = 16
REQUEST_LIMIT_BYTES: Final = 4096
# A client that sends nothing or reads nothing must not hold one of the places.
IDLE_S: Final = 10.0

Answer = dict[str, Any]


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a client may ask."""

    get: str
    watch: Annotated[float, msgspec.Meta(ge=0.1, le=3600)] | None = None
    """Answer again and again, this many seconds apart, until the client hangs up."""
    arguments: dict[str, str | int] | None = None
    """Of an order; a question has none."""


_REQUESTS = msgspec.json.Decoder(Request)
_ANSWERS = msgspec.json.Decoder(Answer)


class StatusServer:
    """Serves the answers of callbacks, by the name asked for.

    Also the guard against a second agent: while one lives it holds a lock on
    `<socket>.lock`, which the kernel releases however it dies. (The lock file itself
    stays: removing it is what makes such locks racy.)
    """

    def __init__(
        self,
        path: Path,
        answers: Mapping[str, Callable[[], Mapping[str, Any]]],
        orders: Mapping[str, Callable[..., Mapping[str, Any]]] | None = None,
    ) -> None:
        """Serve at `path`. An order is called with its arguments by name."""
        self._path = path
        self._answers = answers
        self._orders = orders or {}
        self._lock: int | None = None
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen; raises StatusError if another agent lives or the path is unusable."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._take_lock()
            listener = _listen(self._path)
        except OSError as error:
            self._release_lock()
            msg = f"cannot serve the status socket {self._path}: {error.strerror or error}"
            raise StatusError(msg) from error
        self._server = await asyncio.start_unix_server(
            self._accept, sock=listener, limit=REQUEST_LIMIT_BYTES
        )

    async def close(self) -> None:
        """Hang up on everybody and remove the socket."""
        if self._server is None:
            return
        self._server.close()
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None
        self._path.unlink(missing_ok=True)
        self._release_lock()

    def _take_lock(self) -> None:
        path = self._path.with_name(self._path.name + ".lock")
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            pid = os.read(lock, 32).decode("ascii", "replace").strip()
            os.close(lock)
            msg = (
                f"another jaga-agent is running (pid {pid or 'unknown'}, {self._path});"
                " stop it first: systemctl stop jaga-agent"
            )
            raise StatusError(msg) from error
        os.ftruncate(lock, 0)
        os.write(lock, f"{os.getpid()}\n".encode())
        self._lock = lock

    def _release_lock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def _accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 (asyncio runs this callback in a task)
        self._clients.add(task)
        try:
            if len(self._clients) > MAX_CLIENTS:
                await _write(writer, {"error": "too many clients"})
            else:
                await self._serve(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            # The client hung up or fell asleep: its affair.
            _log.debug("a status client went away")
        except asyncio.CancelledError:
            # Only `close` cancels. The task ends here and asyncio.streams would log a
            # cancelled client as an error.
            return
        finally:
            self._clients.discard(task)
            writer.close()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while True:
            try:
                line = await asyncio.wait_for(reader.readline(), IDLE_S)
            except ValueError:
                await _write(writer, {"error": "the request is too long"})
                return
            if not line:
                return
            try:
                request = _REQUESTS.decode(line)
            except msgspec.DecodeError as error:
                await _write(writer, {"error": f"not a request: {error}"})
                continue
            if (order := self._orders.get(request.get)) is not None:
                await _write(writer, _obeyed(order, request.arguments or {}))
                continue
            answer = self._answers.get(request.get)
            if answer is None:
                known = ", ".join(sorted({*self._answers, *self._orders}))
                await _write(
                    writer, {"error": f"unknown {request.get!r}; known: {known}"}
                )
                continue
            await _write(writer, answer())
            while request.watch is not None and not reader.at_eof():
                await asyncio.sleep(request.watch)
                await _write(writer, answer())


def _obeyed(
    order: Callable[..., Mapping[str, Any]], arguments: Mapping[str, str | int]
) -> Mapping[str, Any]:
    try:
        inspect.signature(order).bind(**arguments)
    except TypeError as error:
        return {"error": f"not this order's arguments: {error}"}
    try:
        return order(**arguments)
    except JagaError as error:
        return {"error": str(error)}


async def _write(writer: asyncio.StreamWriter, answer: Mapping[str, Any]) -> None:
    writer.write(msgspec.json.encode(answer) + b"\n")
    await asyncio.wait_for(writer.drain(), IDLE_S)


def _listen(path: Path) -> socket.socket:
    """Return a socket listening at `path` with its final mode from the first moment.

    Whoever holds the lock owns the path: what lies there is of a dead agent.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(os.fspath(fresh))
        fresh.chmod(SOCKET_MODE)
        listener.listen(MAX_CLIENTS)
        fresh.rename(path)
    except BaseException:
        listener.close()
        fresh.unlink(missing_ok=True)
        raise
    return listener


def ask(path: Path, what: str = "status", *, timeout_s: float = 5.0) -> Answer:
    """Return a running agent's answer; raises StatusError with what to do."""
    return next(_answers(path, Request(get=what), timeout_s))


def order(
    path: Path, what: str, *, timeout_s: float = 5.0, **arguments: str | int
) -> Answer:
    """Return a running agent's answer to an order; raises StatusError."""
    return next(_answers(path, Request(get=what, arguments=arguments), timeout_s))


def watch(
    path: Path, what: str = "status", *, interval_s: float = 1.0, timeout_s: float = 5.0
) -> Iterator[Answer]:
    """Yield a running agent's answers for ever; raises StatusError as it ends."""
    return _answers(path, Request(get=what, watch=interval_s), interval_s + timeout_s)


def _answers(path: Path, request: Request, timeout_s: float) -> Iterator[Answer]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(timeout_s)
        try:
            client.connect(os.fspath(path))
            client.sendall(msgspec.json.encode(request) + b"\n")
            with client.makefile("rb") as lines:
                for line in lines:
                    yield _checked(line, path)
        except OSError as error:
            raise _explained(error, path, timeout_s) from error
    msg = f"jaga-agent hung up: it stops, or serves other clients ({path})"
    raise StatusError(msg)


def _checked(line: bytes, path: Path) -> Answer:
    try:
        answer = _ANSWERS.decode(line)
    except msgspec.DecodeError as error:
        msg = f"what answers at {path} is not this version of jaga-agent: {error}"
        raise StatusError(msg) from error
    if "error" in answer:
        msg = f"jaga-agent refused: {answer['error']}"
        raise StatusError(msg)
    return answer


def _explained(error: OSError, path: Path, timeout_s: float) -> StatusError:
    if isinstance(error, (FileNotFoundError, ConnectionRefusedError)):
        return NotRunningError(
            f"jaga-agent is not running (nothing listens at {path});"
            " start it: sudo systemctl start jaga-agent"
        )
    if isinstance(error, PermissionError):
        return StatusError(f"no permission for {path}; use sudo")
    if isinstance(error, (TimeoutError, BlockingIOError)):
        return StatusError(
            f"jaga-agent does not answer within {timeout_s:g} s;"
            " see: journalctl -u jaga-agent"
        )
    return StatusError(f"cannot ask jaga-agent at {path}: {error.strerror or error}")
