"""Worker processes from a process that has imported torch already: a fork costs milliseconds, the import seconds.

    python -m harness.execution.nursery SOCKET

The nursery is one process for each process that starts workers. It has one thread, has seen no plugin's code and no GPU,
and ends with the one that started it. An order is four descriptors (a worker's standard streams and a socket of its own,
its *line*) and a file with the worker's arguments, environment and folder. On its line the nursery tells a worker's birth,
with a descriptor of the process, and its end, with the exit status, so that no number of a process is ever guessed.

Where the system has no such descriptors (all but Linux) each worker is started by itself and imports torch itself.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from typing import IO, Any, Protocol

from harness.execution import worker

FORKS = sys.platform == "linux" and hasattr(os, "pidfd_open")
MODULE = "harness.execution.nursery"
_SAFE = ("HARNESS_", "PYTEST_", "CUDA_VISIBLE_DEVICES")
"""Environment variables, by their beginning, that no library reads while it is imported: a fork may have others."""
_ORDER = b"o"
_BORN = b"b"
_OTHERS = (signal.SIGINT, signal.SIGTERM, *([signal.SIGUSR1, signal.SIGUSR2] if FORKS else []))
"""Signals that are for the process that started the nursery and for the workers, also where all of a group get them."""


class Process(Protocol):
    """What a pool needs of a worker's process: a part of ``subprocess.Popen``."""

    @property
    def pid(self) -> int | None: ...

    @property
    def stdin(self) -> IO[bytes] | None: ...

    @property
    def returncode(self) -> int | None: ...

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def send_signal(self, number: int) -> None: ...

    def kill(self) -> None: ...


def start(arguments: Sequence[str], environment: Mapping[str, str], said: int, stderr: IO[bytes]) -> Process:
    """A new worker, whose standard output is the descriptor ``said``; it may take a while until it is there."""
    if FORKS:
        return _nursery(environment).order(arguments, environment, said, stderr)
    command = [sys.executable, "-m", "harness.execution.worker", *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=said, stderr=stderr, env=dict(environment))


# --- the side of the pool --------------------------------------------------------------------------------------------------


class Forked:
    """A worker of the nursery, as :class:`Process`. A signal for one that is not born yet reaches it at its birth."""

    def __init__(self, stdin: IO[bytes], stderr: IO[bytes], line: socket.socket, nursery_stderr: IO[bytes]) -> None:
        self.stdin = stdin
        self.returncode: int | None = None
        self._stderr = stderr
        self._line = line
        self._nursery_stderr = nursery_stderr
        self._pid: int | None = None
        self._handle: int | None = None
        self._due: list[int] = []

    @property
    def pid(self) -> int | None:
        """Its number, once it is born."""
        self.poll()
        return self._pid

    def poll(self) -> int | None:
        """The exit status, negative for a signal; ``None`` before the end."""
        while self.returncode is None and _readable(self._line, 0.0):
            self._hear()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end. Raises ``subprocess.TimeoutExpired``."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.returncode is None:
            if not _readable(self._line, None if deadline is None else max(0.0, deadline - time.monotonic())):
                raise subprocess.TimeoutExpired(MODULE, timeout or 0.0)
            self._hear()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal; a worker that is gone is no error."""
        if self.poll() is not None:
            return
        if self._handle is None:
            self._due.append(number)
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def _hear(self) -> None:
        try:
            told, handles, _, _ = socket.recv_fds(self._line, 64, 1)
        except OSError:
            told, handles = b"", []
        if handles:
            self._handle, self._pid = handles[0], int(told.removeprefix(_BORN))
            for number in self._due:
                self.send_signal(number)
        else:
            self._end(told)

    def _end(self, told: bytes) -> None:
        """The last word: an exit status, or nothing, where the nursery has ended before."""
        if told:
            code = int(told)
        elif self._handle is None:  # never born: what the nursery died of is why
            code = 1
            with contextlib.suppress(OSError, ValueError):
                self._nursery_stderr.seek(0)
                self._stderr.write(self._nursery_stderr.read())
                self._stderr.flush()
        else:  # orphaned: it may still be at work
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)
            _readable(self._handle, None)
            code = -signal.SIGKILL
        self._line.close()
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
        self.returncode = code


class Nursery:
    """The process that forks workers, seen from the one that wants them."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 -- lives as long as the nursery
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._popen = subprocess.Popen(
                [sys.executable, "-m", MODULE, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._stderr,
                env=dict(environment),
            )

    @property
    def alive(self) -> bool:
        return self._popen.poll() is None

    def order(self, arguments: Sequence[str], environment: Mapping[str, str], said: int, stderr: IO[bytes]) -> Forked:
        """Ask for a worker."""
        given, stdin = os.pipe()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with tempfile.TemporaryFile() as words, theirs, open(given, "rb", closefd=True):
            words.write(json.dumps({"arguments": [*arguments], "environment": dict(environment)}).encode())
            words.flush()
            handed = [given, said, stderr.fileno(), theirs.fileno(), words.fileno()]
            with contextlib.suppress(OSError):  # a nursery that has just died: its line says so
                socket.send_fds(self._socket, [_ORDER], handed)
        return Forked(open(stdin, "wb", closefd=True), stderr, ours, self._stderr)

    def close(self) -> None:
        """Let it end once its workers have."""
        self._socket.close()

    def ended(self) -> bool:
        """Whether it has ended; what it has said is gone then."""
        if not self.alive:
            self._stderr.close()
        return not self.alive

    def see_off(self) -> None:
        """Wait until it ends, unless it has workers still."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(timeout=1.0)
        self._stderr.close()


_LOCK = threading.Lock()
_KEPT: dict[Any, Nursery] = {}
_CLOSED: list[Nursery] = []
"""Nurseries that end with their last worker."""


def _retire() -> None:
    """Let the nursery that was kept end with its last worker, and forget those that have ended."""
    for old in _KEPT.values():
        old.close()
    everyone = [*_CLOSED, *_KEPT.values()]
    _KEPT.clear()
    _CLOSED[:] = [old for old in everyone if not old.ended()]


@atexit.register
def _leave() -> None:
    if all(owner == os.getpid() for owner, *_ in _KEPT):
        _retire()
        for old in _CLOSED:
            old.see_off()


def _nursery(environment: Mapping[str, str]) -> Nursery:
    """The nursery of this process; a new one where folder or environment differ in what an import may read."""
    read = frozenset((name, value) for name, value in environment.items() if not name.startswith(_SAFE))
    key = (os.getpid(), os.getcwd(), read)
    with _LOCK:
        found = _KEPT.get(key)
        if found is None or not found.alive:
            _retire()
            _KEPT[key] = found = Nursery(environment)
        return found


def _readable(line: socket.socket | int, timeout: float | None) -> bool:
    waiting = select.poll()
    waiting.register(line, select.POLLIN)
    return bool(waiting.poll(None if timeout is None else timeout * 1000))


# --- the nursery's own side ------------------------------------------------------------------------------------------------


def tend(orders: socket.socket) -> list[str] | None:
    """Fork a worker for each order, tell its end, until the starting process is gone and all workers are.

    Returns:
        In a forked worker its arguments; ``None`` in the nursery.
    """
    lines: dict[int, tuple[int, socket.socket]] = {}  # by the descriptor of the worker's process: its number, its line
    open_ = True
    while open_ or lines:
        watched: list[Any] = [*lines, *([orders] if open_ else [])]
        ready, _, _ = select.select(watched, [], [])
        for handle in ready:
            if isinstance(handle, int):
                pid, line = lines.pop(handle)
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                with contextlib.suppress(OSError):
                    line.send(str(code).encode())
                line.close()
                os.close(handle)
                continue
            told, handed, _, _ = socket.recv_fds(orders, 1, 5)
            if not told:
                open_ = False
                continue
            pid = os.fork()
            if not pid:
                orders.close()
                for other, (_, line) in lines.items():
                    os.close(other)
                    line.close()
                return _become(handed)
            lines[os.pidfd_open(pid)] = pid, _told_birth(pid, handed)
    return None


def _told_birth(pid: int, handed: list[int]) -> socket.socket:
    """Tell a worker's birth on its line, and keep only that."""
    for descriptor in (*handed[:3], handed[4]):
        os.close(descriptor)
    line = socket.socket(fileno=handed[3])
    handle = os.pidfd_open(pid)
    with contextlib.suppress(OSError):
        socket.send_fds(line, [_BORN + str(pid).encode()], [handle])
    os.close(handle)
    return line


def _become(handed: list[int]) -> list[str]:
    """Take over a worker's streams, environment and signals."""
    with open(handed[4], "rb") as file:
        file.seek(0)
        order = json.load(file)
    os.close(handed[3])
    for number, descriptor in enumerate(handed[:3]):
        os.dup2(descriptor, number)
        os.close(descriptor)
    for name in set(os.environ) - set(order["environment"]):
        del os.environ[name]
    os.environ.update(order["environment"])
    for number in _OTHERS:
        signal.signal(number, signal.SIG_DFL)
    importlib.invalidate_caches()
    return list(order["arguments"])


def main() -> None:
    for number in _OTHERS:
        signal.signal(number, signal.SIG_IGN)
    orders = socket.socket(fileno=int(sys.argv[1]))
    from harness.training.trial import warm_up

    warm_up()
    arguments = tend(orders)
    if arguments is None:
        os._exit(0)
    sys.argv[1:] = arguments
    worker.main()


if __name__ == "__main__":
    main()
