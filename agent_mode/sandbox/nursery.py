"""The server's end of the fork server: starts it, has it start and end runs, and cleans up after it."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from agent_mode.counting import counted
from agent_mode.observe.logs import get_logger
from agent_mode.sandbox import endings
from agent_mode.sandbox.child import forkserver
from agent_mode.sandbox.environment import scrubbed

log = get_logger(__name__)

AT_ONCE = 32
"""How many runs may be about to start; each has two descriptors in flight, and systems limit those."""
_CLOSE_SECONDS = 5.0
_MAIN = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from agent_mode.sandbox.child.forkserver import main; main(*sys.argv[2:])"
)
_SOURCE = str(Path(__file__).parents[2])


class Resident(Protocol):
    """A run, as the fork server's reports reach it."""

    def born(self) -> None:
        """Its process is there."""

    def failed(self, error: int) -> None:
        """It could not be forked: `errno`."""

    def exited(self, status: int) -> None:
        """Its process and group are gone: wait status."""

    def lost(self, *, expected: bool) -> None:
        """The fork server is gone, and all processes with it; `expected`: because it was told to."""


class Nursery:
    """One fork server. Used on the event loop that opened it.

    Args:
        process: the fork server.
        control: the socket to it.
        root: folder of the runs' folders.
    """

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket, root: str) -> None:
        control.setblocking(False)
        self._process = process
        self._control = control
        self._root = root
        self._loop = asyncio.get_running_loop()
        self._numbers = itertools.count(1)
        self._residents: dict[int, Resident] = {}
        self._pids: dict[int, int] = {}
        self._partial = b""
        self._ready: asyncio.Future[bool] = self._loop.create_future()
        self._burial: asyncio.Task[None] | None = None
        self.slots = asyncio.Semaphore(AT_ONCE)
        """To be held from `start` to `Resident.born`."""
        self._loop.add_reader(control.fileno(), self._read)

    @classmethod
    async def open(cls, patience: float) -> Nursery:
        """Starts a fork server.

        Args:
            patience: seconds until it has to be ready.

        Raises:
            SandboxError: code `sandbox`; it could not be started.
        """
        try:
            nursery = cls(*await asyncio.to_thread(_spawn))
        except OSError as error:
            raise endings.not_started(error.strerror or type(error).__name__) from error
        ready = False
        try:
            async with asyncio.timeout(patience):
                ready = await nursery._ready
        except TimeoutError:
            raise endings.not_started(f"it was not ready within {counted(patience, 'second')}") from None
        finally:
            if not ready:
                nursery._process.kill()
                await nursery.close()
        if not ready:
            raise endings.not_started("it ended at once")
        return nursery

    @property
    def alive(self) -> bool:
        return self._burial is None

    @property
    def pid(self) -> int:
        return self._process.pid

    def register(self, resident: Resident) -> int:
        """The number under which a run is started; it stays until its process is gone."""
        number = next(self._numbers)
        self._residents[number] = resident
        return number

    def forget(self, number: int) -> None:
        """The run was never started."""
        self._residents.pop(number, None)

    def start(self, number: int, descriptors: Sequence[int]) -> None:
        """Has a run forked.

        Args:
            number: from `register`.
            descriptors: its connection and its output; the caller keeps its own copies.

        Raises:
            OSError: the fork server does not take it.
        """
        socket.send_fds(self._control, [forkserver.COMMAND.pack(forkserver.START, number)], descriptors)

    def kill(self, number: int) -> None:
        """Ends a run's process and group; `Resident.exited` follows."""
        self._command(forkserver.KILL, number)

    def locate(self, number: int) -> None:
        """Has a run's process print where it is."""
        self._command(forkserver.LOCATE, number)

    def _command(self, kind: bytes, number: int) -> None:
        if number in self._residents and self.alive:
            try:
                self._control.send(forkserver.COMMAND.pack(kind, number))
            except OSError:  # it takes no commands: then it cannot be left alone with its children either
                self.abandon()

    def abandon(self) -> None:
        """Ends the fork server because it does not answer; all its runs are lost."""
        log.error("the process that runs agents' code does not answer and is ended")
        self._process.kill()
        self._bury(expected=False)

    async def close(self) -> None:
        """Ends the fork server and all runs, and waits until nothing of it is left."""
        self._bury(expected=True)
        if self._burial is not None:
            await asyncio.wait({self._burial})

    def _read(self) -> None:
        try:
            data = self._control.recv(2**16)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            log.error("the process that runs agents' code has ended")
            self._bury(expected=False)
            return
        self._partial += data
        size = forkserver.REPORT.size
        while len(self._partial) >= size:
            report, self._partial = self._partial[:size], self._partial[size:]
            self._reported(*forkserver.REPORT.unpack(report))

    def _reported(self, kind: bytes, number: int, value: int) -> None:
        if kind == forkserver.READY:
            if not self._ready.done():
                self._ready.set_result(True)
            return
        resident = self._residents.get(number)
        if kind == forkserver.STARTED:
            self._pids[number] = value
        else:
            self._pids.pop(number, None)
            self._residents.pop(number, None)
        if resident is None:
            return
        if kind == forkserver.STARTED:
            resident.born()
        elif kind == forkserver.FAILED:
            resident.failed(value)
        elif kind == forkserver.EXITED:
            resident.exited(value)

    def _bury(self, *, expected: bool) -> None:
        if self._burial is not None:
            return
        self._loop.remove_reader(self._control.fileno())
        self._control.close()  # which ends the fork server, and with it the runs
        if not self._ready.done():
            self._ready.set_result(False)
        self._burial = self._loop.create_task(
            asyncio.to_thread(_bury, self._process, self._root, [*self._pids.values()])
        )
        residents = [*self._residents.values()]
        self._residents.clear()
        self._pids.clear()
        for resident in residents:
            resident.lost(expected=expected)


def _spawn() -> tuple[subprocess.Popen[bytes], socket.socket, str]:
    ours, theirs = socket.socketpair()
    root = tempfile.mkdtemp(prefix="agent-mode-runs-")
    here = os.getcwd()
    paths = [entry or here for entry in sys.path]
    if _SOURCE not in paths:
        paths.append(_SOURCE)
    try:
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", _MAIN, json.dumps(paths), str(theirs.fileno()), root],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                cwd=root,
                env=scrubbed(os.environ),
                pass_fds=(theirs.fileno(),),
                process_group=0,  # so that Ctrl-C in the server's terminal is the server's alone
            )
    except OSError:
        ours.close()
        shutil.rmtree(root, ignore_errors=True)
        raise
    return process, ours, root


def _bury(process: subprocess.Popen[bytes], root: str, groups: Sequence[int]) -> None:
    try:
        process.wait(_CLOSE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for group in groups:
        # Leaders die with the fork server (where the system has it so); what they have started does not.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
    shutil.rmtree(root, ignore_errors=True)
