"""What a LlamaIndex agent remembers of the chat."""

from __future__ import annotations

from typing import Any, Self

from llama_index.core.base.llms.types import ChatMessage, MessageRole, TextBlock, ToolCallBlock
from llama_index.core.memory import BaseMemory
from pydantic import PrivateAttr

from agent_mode.agents.llamaindex import tokens
from agent_mode.tools import results

_PICTURE_TOKENS = 1_000
_MESSAGE_TOKENS = 4
"""What role and separators take."""
_LEAST_TOKENS = 20
"""What each block counts at least: LlamaIndex and the client spend half a millisecond on the shortest one."""


class TurnMemory(BaseMemory):
    """The chat, as far back as a number of tokens reaches.

    What is forgotten are whole exchanges, so that no tool's result stays without its call. System messages
    stay, and all that came since the user's last message.

    Args:
        token_limit: about; see `tokens.py`.
    """

    token_limit: int
    _messages: list[ChatMessage] = PrivateAttr(default_factory=list)

    @classmethod
    def class_name(cls) -> str:
        return "TurnMemory"

    @classmethod
    def from_defaults(cls, token_limit: int = 60_000, **_: Any) -> Self:
        return cls(token_limit=token_limit)

    def get(self, input: str | None = None, **_: Any) -> list[ChatMessage]:
        """The messages to send."""
        first = self._first_kept()
        forgotten = self._messages[:first]
        return [m for m in forgotten if m.role is MessageRole.SYSTEM] + self._messages[first:]

    def _first_kept(self) -> int:
        left = self.token_limit
        first: int | None = None
        for index in range(len(self._messages) - 1, -1, -1):
            left -= _size(self._messages[index])
            if left < 0 and first is not None:
                return first
            if _is_question(self._messages[index]):
                first = index
        return 0

    async def aget(self, input: str | None = None, **kwargs: Any) -> list[ChatMessage]:
        return self.get(input, **kwargs)

    def get_all(self) -> list[ChatMessage]:
        return list(self._messages)

    async def aget_all(self) -> list[ChatMessage]:
        return self.get_all()

    def put(self, message: ChatMessage) -> None:
        self._messages.append(message)

    async def aput(self, message: ChatMessage) -> None:
        self.put(message)

    async def aput_messages(self, messages: list[ChatMessage]) -> None:
        self._messages += messages

    def set(self, messages: list[ChatMessage]) -> None:
        self._messages = list(messages)

    async def aset(self, messages: list[ChatMessage]) -> None:
        self.set(messages)

    def reset(self) -> None:
        self._messages = []

    async def areset(self) -> None:
        self.reset()


def _is_question(message: ChatMessage) -> bool:
    """Whether an exchange begins with it: Open WebUI shows pictures of tools in user messages, too."""
    first = message.blocks[0] if message.blocks else None
    noted = isinstance(first, TextBlock) and first.text == results.IMAGES_NOTE
    return message.role is MessageRole.USER and not noted


def _size(message: ChatMessage) -> int:
    size = _MESSAGE_TOKENS
    for block in message.blocks:
        if isinstance(block, TextBlock):
            size += max(tokens.count(block.text), _LEAST_TOKENS)
        elif isinstance(block, ToolCallBlock):
            size += tokens.count(str(block.tool_kwargs)) + _MESSAGE_TOKENS
        else:
            size += _PICTURE_TOKENS
    return size
