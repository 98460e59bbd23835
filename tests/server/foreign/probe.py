"""
title: Tells what is alive in the process, through its inlet.
"""

import asyncio
import gc
import os
import sys
import threading
import traceback

import anyio.to_thread

PLACES = ("agent_mode", "aiohttp", "llama_index", "workflows")


class Pipeline:
    def __init__(self):
        self.name = "Probe"

    def pipe(self, user_message, model_id, messages, body):
        return "Ask the inlet."

    async def inlet(self, body, user=None):
        seen = {"tasks": tasks(), "runs": runs()}
        if body.get("thorough"):
            gc.collect()
            seen |= {
                "layers": layers(),
                "threads": threads(),
                "thread_limit": anyio.to_thread.current_default_thread_limiter().total_tokens,
                "instances": instances(),
                "remote_ports": remote_ports(),
                "files": files(),
            }
        return seen


def layers():
    """The classes around the app, the outermost first, as far as they are ours, and the one below."""
    found = []
    app = sys.modules["main"].app.middleware_stack
    while True:
        found.append(type(app).__module__ + "." + type(app).__name__)
        if not found[-1].startswith("agent_mode."):
            return found
        app = app.app


def tasks():
    """The code that each task of ours runs, or of LlamaIndex for us."""
    found = []
    for task in asyncio.all_tasks():
        code = getattr(task.get_coro(), "cr_code", None)
        if code is not None and any(part in code.co_filename for part in PLACES):
            found.append(code.co_name)
    return sorted(found)


def threads():
    """Threads that are inside our code or our database's."""
    frames = sys._current_frames()
    here = threading.get_ident()
    found = []
    for thread in threading.enumerate():
        frame = frames.get(thread.ident or 0)
        if frame is None or thread.ident == here:
            continue
        names = [entry.filename for entry in traceback.extract_stack(frame)]
        if any(part in name for name in names for part in ("agent_mode", "aiosqlite", "sqlalchemy")):
            found.append(thread.name)
    return found


def instances():
    """How many there are of the things that live as long as our runtime."""
    counted = {"Runtime": 0, "Layer": 0, "LlmClient": 0, "Database": 0, "SessionStore": 0}
    for item in gc.get_objects():
        kind = type(item)
        if kind.__name__ in counted and str(kind.__module__).startswith("agent_mode."):
            counted[kind.__name__] += 1
    return counted


def runs():
    """How many runs go on."""
    module = sys.modules.get("agent_mode.server.host")
    return len(module.host.runtime.runs) if module is not None and module.host.ready else 0


def files():
    """Names of the open files, sockets left out."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            name = os.readlink("/proc/self/fd/" + number)
        except OSError:
            continue
        if name.startswith("/") and ".db" in name:
            found.append(name)
    return found


def remote_ports():
    """The remote ports of all established connections of the process."""
    inodes = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            name = os.readlink("/proc/self/fd/" + number)
        except OSError:
            continue
        if name.startswith("socket:["):
            inodes.add(name[8:-1])
    found = []
    with open("/proc/self/net/tcp") as table:
        for line in list(table)[1:]:
            fields = line.split()
            if fields[9] in inodes and fields[3] == "01":
                found.append(int(fields[2].rsplit(":", 1)[1], 16))
    return found
