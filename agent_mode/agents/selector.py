"""Which persona fits a question best: LlamaIndex's single selector over our own LLM connection."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any

from agent_mode.errors import AgentModeError, ConfigurationError
from agent_mode.llm.client import LlmClient
from agent_mode.llm.connection import Connection
from agent_mode.observe.logs import get_logger
from agent_mode.store.personas import Persona

log = get_logger(__name__)

_QUESTION_CHARS = 2_000
"""So much of the question is shown to the selector."""


@cache
def is_available() -> bool:
    """Whether LlamaIndex is installed; the stock server's image lacks it."""
    return find_spec("llama_index") is not None and find_spec("llama_index.core") is not None


async def choose(
    llm: LlmClient, connection: Connection, model: str, personas: Sequence[Persona], question: str
) -> Persona:
    """Lets the LLM choose who answers a question.

    Args:
        llm: the client.
        connection: where the LLM is.
        model: the provider's model that chooses.
        personas: whom to choose from; at least one.
        question: the user's words.

    Raises:
        ConfigurationError: LlamaIndex is not installed.
        ProviderError: the LLM failed. An answer that names nobody is no failure: the first one answers then.
    """
    if not is_available():
        raise ConfigurationError(
            "Choosing a persona by itself needs LlamaIndex, which this server does not have.",
            hint="Install llama-index-core there, or pick a persona in the model list.",
            code="no_llamaindex",
            status=503,
        )
    # The first import costs a second and a half; the other chats go on meanwhile.
    selector_type, model_type, metadata_type = await asyncio.to_thread(_classes)
    selector = selector_type.from_defaults(llm=model_type(llm, connection, model))
    choices = [metadata_type(description=f"{p.name}: {p.description}", name=p.key) for p in personas]
    try:
        result = await selector.aselect(choices, question[:_QUESTION_CHARS])
        index = result.ind
    except AgentModeError:
        raise
    except Exception as error:  # noqa: BLE001  LlamaIndex's parser raises bare Exceptions for odd answers
        log.warning("the selector's answer names nobody", reason=type(error).__name__, model=model)
        index = 0
    return personas[index if 0 <= index < len(personas) else 0]


@cache
def _classes() -> tuple[Any, Any, Any]:
    """LlamaIndex's selector and tool description, and its LLM interface over our client."""
    from llama_index.core.llms import (  # noqa: PLC0415  lazily: it costs seconds and 90 MB
        CompletionResponse,
        CompletionResponseGen,
        CustomLLM,
        LLMMetadata,
    )
    from llama_index.core.selectors import LLMSingleSelector  # noqa: PLC0415
    from llama_index.core.tools import ToolMetadata  # noqa: PLC0415
    from pydantic import PrivateAttr  # noqa: PLC0415

    class ClientLLM(CustomLLM):
        _client: LlmClient = PrivateAttr()
        _connection: Connection = PrivateAttr()
        _model: str = PrivateAttr()

        def __init__(self, client: LlmClient, connection: Connection, model: str) -> None:
            super().__init__()
            self._client, self._connection, self._model = client, connection, model

        @property
        def metadata(self) -> LLMMetadata:
            return LLMMetadata(model_name=self._model)

        async def acomplete(self, prompt: str, formatted: bool = False, **_: Any) -> CompletionResponse:
            payload = {"model": self._model, "messages": [{"role": "user", "content": prompt}]}
            data = await self._client.complete(self._connection, payload)
            message = data["choices"][0].get("message") or {}
            return CompletionResponse(text=str(message.get("content") or ""))

        def complete(self, prompt: str, formatted: bool = False, **_: Any) -> CompletionResponse:
            raise NotImplementedError("only used asynchronously")

        def stream_complete(self, prompt: str, formatted: bool = False, **_: Any) -> CompletionResponseGen:
            raise NotImplementedError("only used asynchronously")

    return LLMSingleSelector, ClientLLM, ToolMetadata
