"""The warm process that forks one child for each run; `agent_mode.sandbox.nursery` starts it.

It has one thread and no event loop, so that forking is safe. Over one socket it is told, in records of fixed
size, to start a run (with the descriptors of its connection and its output), to end it, or to have it say
where it is; and it reports what became of each. When that socket closes, all ends.
"""

from __future__ import annotations

import gc
import importlib
import os
import selectors
import shutil
import signal
import socket
import struct
import traceback
from contextlib import suppress
from pathlib import Path

from agent_mode.sandbox.child import process, runner
from agent_mode.sandbox.child.channel import CUT_OFF

COMMAND = struct.Struct("!cQ")
"""What the server sends: kind and number of the run."""
START, KILL, LOCATE = b"S", b"K", b"L"
REPORT = struct.Struct("!cQi")
"""What it gets: kind, number of the run, and process id, errno or wait status."""
READY, STARTED, FAILED, EXITED = b"R", b"S", b"F", b"X"

PRELOADED = (
    "base64",
    "collections",
    "concurrent.futures.thread",
    "csv",
    "dataclasses",
    "datetime",
    "decimal",
    "enum",
    "fractions",
    "functools",
    "hashlib",
    "html",
    "io",
    "itertools",
    "json",
    "math",
    "operator",
    "pathlib",
    "re",
    "statistics",
    "string",
    "textwrap",
    "time",
    "typing",
    "unicodedata",
    "urllib.parse",
    "uuid",
    "zoneinfo",
)
"""Modules that code gets without loading them."""


class ForkServer:
    """The loop.

    Args:
        control: the socket to the server.
        root: folder for the folders of the runs.
    """

    def __init__(self, control: socket.socket, root: str) -> None:
        self._control = control
        self._root = root
        self._pids: dict[int, int] = {}
        self._numbers: dict[int, int] = {}
        self._selector = selectors.DefaultSelector()
        self._woken, self._wake = socket.socketpair()
        self._woken.setblocking(False)
        self._wake.setblocking(False)

    def serve(self) -> None:
        """Returns when the server has gone."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self._control.shutdown(socket.SHUT_RD))
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        self._selector.register(self._control, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._report(READY, 0, os.getpid())
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._woken:
                    with suppress(BlockingIOError):
                        self._woken.recv(4096)
                    self._reap()
                elif not self._obey():
                    return

    def close(self) -> None:
        """Ends all children and removes what they left."""
        for pid in self._pids.values():
            _kill(pid)
        while self._await_one():
            self._end_strays()
        _remove(self._root)

    def _report(self, kind: bytes, number: int, value: int) -> None:
        with suppress(OSError):  # the server is gone; the next read says so
            self._control.sendall(REPORT.pack(kind, number, value))

    def _obey(self) -> bool:
        # One command at a time, so that descriptors stay with the command that they came with.
        try:
            data, descriptors, _, _ = socket.recv_fds(self._control, COMMAND.size, 2)
        except OSError:
            return False
        if len(data) < COMMAND.size:
            return False
        kind, number = COMMAND.unpack(data)
        pid = self._pids.get(number)
        if kind == START:
            self._start(number, descriptors)
        elif pid is None:
            pass  # it has ended meanwhile
        elif kind == KILL:
            _kill(pid)
        elif kind == LOCATE:
            os.kill(pid, signal.SIGUSR1)
        return True

    def _start(self, number: int, descriptors: list[int]) -> None:
        parent = os.getpid()
        try:
            pid = os.fork() if len(descriptors) == 2 else -1
        except OSError as error:
            self._report(FAILED, number, error.errno or 0)
            pid = -1
        if pid == 0:
            self._become(parent, number, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        if pid > 0:
            self._pids[number], self._numbers[pid] = pid, number
            self._report(STARTED, number, pid)

    def _become(self, parent: int, number: int, descriptors: list[int]) -> None:
        try:
            signal.set_wakeup_fd(-1)
            for kind in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
                signal.signal(kind, signal.SIG_DFL)
            gc.enable()
            connection, output = process.isolate(parent, *descriptors, folder=self._folder(number))
            runner.execute(connection, output)
        except OSError:
            traceback.print_exc()
        finally:
            # Whatever happened, this fork must never go on as the fork server.
            os._exit(CUT_OFF)

    def _folder(self, number: int) -> str:
        return os.path.join(self._root, str(number))

    def _reap(self) -> None:
        while self._await_one(block=False):
            pass
        self._end_strays()

    def _await_one(self, *, block: bool = True) -> bool:
        """Takes one dead child; False: there is none."""
        option = 0 if block else os.WNOHANG
        try:
            if hasattr(os, "waitid"):
                # While the dead is a zombie, the number of its group stays taken.
                dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT | option)
                if dead is None:
                    return False
                if dead.si_pid in self._numbers:
                    _kill_group(dead.si_pid)
                pid, status = os.waitpid(dead.si_pid, 0)
            else:
                pid, status = os.waitpid(-1, option)
                if pid in self._numbers:
                    _kill_group(pid)
        except ChildProcessError:
            return False
        number = self._numbers.pop(pid, None)
        if number is not None:
            del self._pids[number]
            self._report(EXITED, number, status)
            self._clear(number)
        return pid > 0

    def _clear(self, number: int) -> None:
        folder = self._folder(number)
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            pass
        except OSError:  # not empty: that may take a while, and others wait to be started
            with suppress(OSError):
                if os.fork() == 0:
                    try:
                        os.nice(process.NICENESS)
                        _remove(folder)
                    finally:
                        os._exit(0)

    def _end_strays(self) -> None:
        """Ends what left its group and lost its parent: nothing may outlive a run."""
        me = os.getpid()
        try:
            children = Path(f"/proc/self/task/{me}/children").read_text(encoding="ascii").split()
        except OSError:
            return
        for pid in map(int, children):
            with suppress(ProcessLookupError):
                group = os.getpgid(pid)
                if group not in self._numbers and group != os.getpgid(me):
                    os.kill(pid, signal.SIGKILL)


def _kill(pid: int) -> None:
    """Ends a run, also one that has not yet made its group."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    _kill_group(pid)


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # macOS refuses when only zombies are left
        os.killpg(pid, signal.SIGKILL)


def _remove(folder: str) -> None:
    for path, folders, _ in os.walk(folder):  # a folder without rights would stay
        for name in folders:
            with suppress(OSError):
                os.chmod(os.path.join(path, name), 0o700)
    shutil.rmtree(folder, ignore_errors=True)


def main(control: str, root: str) -> None:
    """The fork server's life.

    Args:
        control: descriptor of the socket to the server.
        root: folder for the folders of the runs.
    """
    for name in PRELOADED:
        importlib.import_module(name)
    process.adopt_orphans()
    gc.collect()
    gc.disable()
    gc.freeze()  # children share what is there, instead of copying it when they collect garbage
    server = ForkServer(socket.socket(fileno=int(control)), root)
    try:
        server.serve()
    finally:
        server.close()
        os._exit(0)
