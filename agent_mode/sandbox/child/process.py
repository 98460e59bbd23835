"""Makes a fresh fork a place of its own: session, descriptors, folder, priority, limits.

What a system does not offer is left out: macOS has no parent-death signal, no `/proc` and no limit of address
space worth the name.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import math
import mmap
import os
import resource
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

OPEN_FILES = 512
FILE_BYTES = 2**30
"""Largest file that code may write."""
FORKS = 100
"""How often code may call `os.fork`, its forks included; a fork bomb ends here."""
RESERVE = 32 * 2**20
"""Bytes of memory above the limit that are left for telling that the limit was reached."""
NICENESS = 5
_MOST_SECONDS = 10**7
_SPARE_DESCRIPTORS = 8
_SET_PARENT_DEATH_SIGNAL = 1
_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def adopt_orphans() -> None:
    """Has processes that lose their parent become children of this one, so that it can end and reap them."""
    if _libc is not None:
        _libc.prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def isolate(parent: int, channel: int, output: int, folder: str) -> tuple[int, int]:
    """Cuts this fork off from its parent; called once, at its beginning.

    Args:
        parent: process id of the parent, with which this process dies.
        channel: descriptor of the connection to the server.
        output: descriptor that standard output and error lead to.
        folder: is made and becomes the current one.

    Returns:
        where channel and output are now: high up, where a stray `os.close(5)` does not hit them.

    Raises:
        OSError: the system refuses one of it.
    """
    os.setsid()
    if _libc is not None:
        _libc.prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)
    os.nice(NICENESS)
    # With automatic grouping of sessions the niceness counts only inside of a session; and if memory runs
    # out, it is this process that shall go, not the server.
    _write("/proc/self/autogroup", str(NICENESS))
    _write("/proc/self/oom_score_adj", "500")
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_FSIZE, FILE_BYTES)
    highest = _lower(resource.RLIMIT_NOFILE, OPEN_FILES) - _SPARE_DESCRIPTORS
    channel = fcntl.fcntl(channel, fcntl.F_DUPFD_CLOEXEC, highest)
    output = fcntl.fcntl(output, fcntl.F_DUPFD_CLOEXEC, highest)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.closerange(3, highest)
    os.mkdir(folder, 0o700)
    os.chdir(folder)
    os.environ["TMPDIR"] = folder
    tempfile.tempdir = None  # so that TMPDIR is read again
    return channel, output


def _write(path: str, text: str) -> None:
    with suppress(OSError):
        Path(path).write_text(text, encoding="ascii")


def _lower(kind: int, soft: int, hard: int | None = None) -> int:
    """Sets a limit as far as the present one allows; returns the soft one that holds now."""
    _, present = resource.getrlimit(kind)
    hard = soft if hard is None else hard
    if present != resource.RLIM_INFINITY:
        soft, hard = min(soft, present), min(hard, present)
    with suppress(ValueError, OSError):  # macOS refuses some
        resource.setrlimit(kind, (soft, hard))
    return resource.getrlimit(kind)[0]


def limit(memory_mb: float, seconds: float) -> None:
    """Limits memory, processor time and forks of this process.

    Args:
        memory_mb: MiB of address space beyond what the bare process has.
        seconds: wall-clock time that the server allows; processor time is only the second line of defence.
    """
    present = _address_space()
    if present is not None:
        allowed = present + int(memory_mb * 2**20)
        _lower(resource.RLIMIT_AS, allowed, allowed + RESERVE)
    processor = math.ceil(min(seconds, _MOST_SECONDS)) * (os.cpu_count() or 1) + 5
    _lower(resource.RLIMIT_CPU, processor, processor + 5)
    _limit_forks()


def _limit_forks() -> None:
    # A limit of the system (RLIMIT_NPROC) counts all processes of the user, the server's too, and not root's.
    forks = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("I")  # shared by all that come of this process

    def count(event: str, _arguments: tuple[object, ...]) -> None:
        if event in ("os.fork", "os.forkpty"):
            forks[0] += 1
            if forks[0] > FORKS:
                raise BlockingIOError(errno.EAGAIN, f"More than {FORKS} forks are not allowed")

    sys.addaudithook(count)


def _address_space() -> int | None:
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except OSError:
        return None
    return pages * resource.getpagesize()


def relieve() -> None:
    """Gives the reserve of memory free."""
    with suppress(ValueError, OSError):
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
