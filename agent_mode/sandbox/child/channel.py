"""The code's end of the connection: any thread sends, and each answer goes to whoever waits for it."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from agent_mode.sandbox.child import process
from agent_mode.sandbox.child.frames import Garbled, Inbox, Message, pack

CUT_OFF = 113
"""Exit status of a process that cannot speak with the server any more."""
OUT_OF_MEMORY: Message = {"t": "error", "code": "code_memory"}
_CHUNK = 2**18
_STACK = 2**19
"""Bytes of stack of the listening thread: its address space counts against the limit."""

Deliver = Callable[[Message], object]
"""Takes the messages that answer a question; called in the listening thread."""


class Channel:
    """The connection of this process to the server.

    Args:
        connection: descriptor of the socket.
        output: descriptor that standard output and error lead to.
        record: makes each JSON object that arrives.
    """

    def __init__(self, connection: int, output: int, record: Callable[[dict[str, Any]], Any]) -> None:
        self._socket = socket.socket(fileno=connection)
        self._output = output
        self._inbox = Inbox(record)
        self._sending = threading.Lock()
        self._numbers = itertools.count(1)
        self._waiting: dict[int, Deliver] = {}
        self._closed = threading.Event()
        self._forked = False
        os.register_at_fork(after_in_child=self._leave)

    def _leave(self) -> None:
        # A fork of the code's own must neither speak to the server nor keep the connection open.
        self._forked = True
        with suppress(OSError):
            self._socket.close()

    @property
    def forked(self) -> bool:
        """Whether this is a fork that the code made, not the process that the server knows."""
        return self._forked

    def receive(self) -> Message | None:
        """Waits for the next message; None: the server has closed the connection.

        Raises:
            OSError, Garbled: the connection is of no more use.
        """
        while (message := self._inbox.take()) is None:
            data = self._socket.recv(_CHUNK)
            if not data:
                return None
            self._inbox.feed(data)
        return message

    def send(self, message: Message, default: Callable[[Any], Any] | None = None) -> None:
        """Sends a message; waits while the server has enough to do. Ends the process if there is no server.

        Raises:
            TypeError, ValueError, RecursionError: JSON cannot say it, or it is too large.
            RuntimeError: this is a fork of the process that the server knows.
        """
        data = pack(message, default)
        if self._forked:
            raise RuntimeError("Only the process that runs the agent can talk to the chat, not a fork of it.")
        try:
            with self._sending:
                self._socket.sendall(data)
        except OSError:
            os._exit(CUT_OFF)

    def ask(self, message: Message, default: Callable[[Any], Any] | None, deliver: Deliver) -> int:
        """Asks the server; the answers go to `deliver`. Returns the number of the question.

        Raises:
            TypeError, ValueError, RecursionError, RuntimeError: as `send`.
        """
        number = next(self._numbers)
        self._waiting[number] = deliver
        try:
            self.send({"t": "ask", "id": number, **message}, default)
        except (TypeError, ValueError, RecursionError, RuntimeError):
            del self._waiting[number]
            raise
        return number

    def drop(self, number: int) -> None:
        """The answer is not wanted any more."""
        if self._waiting.pop(number, None) is not None:
            self.send({"t": "drop", "id": number})

    def listen(self) -> None:
        """Starts the thread that takes the answers, and ends this process together with the server."""
        before = threading.stack_size(_STACK)
        threading.Thread(target=self._listen, name="agent-mode-channel", daemon=True).start()
        threading.stack_size(before)

    def close(self, last: Message, patience: float) -> None:
        """Sends the last message and waits for the server to take notice.

        Args:
            last: the message.
            patience: seconds.
        """
        self.send(last)
        self._closed.wait(patience)

    def _listen(self) -> None:
        try:
            while (message := self.receive()) is not None:
                if "mute" in message:
                    self._mute()
                else:
                    self._hand_over(message)
        except MemoryError:
            process.relieve()
            self.send(OUT_OF_MEMORY)
            return
        except ConnectionError:
            pass
        except (OSError, Garbled):  # the code has closed the connection, or taken something out of it
            os._exit(CUT_OFF)
        self._closed.set()
        # The server is gone or wants nothing more of us. The code may be anywhere, so all of it ends.
        os.killpg(0, signal.SIGKILL)

    def _hand_over(self, message: Message) -> None:
        number = message.get("id", 0)
        more = "piece" in message
        deliver = self._waiting.get(number) if more else self._waiting.pop(number, None)
        if deliver is not None:
            with suppress(RuntimeError):  # the event loop that waited is closed
                deliver(message)

    def _mute(self) -> None:
        """Leads what is printed to nowhere: the server has seen enough."""
        nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        ours = os.fstat(self._output)
        for descriptor in (1, 2):
            with suppress(OSError):
                if os.path.samestat(os.fstat(descriptor), ours):
                    os.dup2(nowhere, descriptor)
        os.close(nowhere)
