"""The LLM of one LlamaIndex agent: LlamaIndex's OpenAI client, its HTTP going through `transport.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from typing import Any

import httpx
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    LLMMetadata,
)
from llama_index.core.tools import BaseTool
from llama_index.llms.openai import OpenAI
from openai import AsyncOpenAI
from pydantic import PrivateAttr

from agent_mode.agents.llamaindex.messages import with_pictures
from agent_mode.agents.llamaindex.tokens import Tokenizer
from agent_mode.agents.llamaindex.transport import BASE_URL, RunTransport
from agent_mode.agents.work import Work
from agent_mode.errors import AgentError

_CONTEXT_WINDOW = 1_000_000
"""The provider knows its models and says when a request is too long."""
_NO_KEY = "none"
"""The real key is the connection's, which LlamaIndex never sees."""
_KNOWN_MODEL = "gpt-4o"
"""LlamaIndex refuses names that it believes to be no chat models; the real one is set after its check."""


class AgentLLM(OpenAI):
    """The LLM as an agent of LlamaIndex uses it; any name of a model works.

    Args:
        work: the agent.
        max_calls: how many calls it may make in a run.
    """

    _transport: RunTransport = PrivateAttr()
    _loop: asyncio.AbstractEventLoop = PrivateAttr()
    _bridged: set[Future[Any]] = PrivateAttr()

    def __init__(self, work: Work, max_calls: int | None = None) -> None:
        transport = RunTransport(work, max_calls)
        client = AsyncOpenAI(
            api_key=_NO_KEY,
            base_url=BASE_URL,
            max_retries=0,
            http_client=httpx.AsyncClient(transport=transport, trust_env=False),
        )
        super().__init__(
            model=_KNOWN_MODEL, api_key=_NO_KEY, api_base=BASE_URL, max_retries=0, async_openai_client=client
        )
        self.model = work.model
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._bridged = set()

    @property
    def transport(self) -> RunTransport:
        return self._transport

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(
            context_window=_CONTEXT_WINDOW,
            num_output=self.max_tokens or -1,
            is_chat_model=True,
            is_function_calling_model=True,
            model_name=self.model,
        )

    @property
    def _tokenizer(self) -> Tokenizer:
        return Tokenizer()

    async def aclose(self) -> None:
        """Ends whatever calls still go on."""
        for future in list(self._bridged):
            future.cancel()
        await self._transport.aclose()

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        return await super().achat(with_pictures(messages), **kwargs)

    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        return await super().astream_chat(with_pictures(messages), **kwargs)

    def _get_model_kwargs(self, **kwargs: Any) -> dict[str, Any]:
        """Without LlamaIndex's own temperature, which some models refuse; the valve's comes in later."""
        fields = super()._get_model_kwargs(**kwargs)
        if "temperature" not in kwargs and "temperature" not in self.additional_kwargs:
            fields.pop("temperature", None)
        return fields

    def _prepare_chat_with_tools(
        self, tools: Sequence[BaseTool], *args: Any, **kwargs: Any
    ) -> dict[str, Any]:
        """The request with the tools' schemas as they are, and without fields that only say the default."""
        request = super()._prepare_chat_with_tools(tools, *args, **kwargs)
        for tool, spec in zip(tools, request.get("tools") or (), strict=False):
            function = spec["function"]
            if function.get("strict"):
                continue
            function.pop("strict", None)
            model = tool.metadata.fn_schema
            schema = model.model_json_schema() if model is not None else {}
            if "additionalProperties" in schema:
                function["parameters"]["additionalProperties"] = schema["additionalProperties"]
            else:
                function["parameters"].pop("additionalProperties", None)
        if request.get("parallel_tool_calls") is True:
            del request["parallel_tool_calls"]
        if request.get("tool_choice") == "auto":
            del request["tool_choice"]
        return request

    def _chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        return self._from_thread(self.achat(messages, **kwargs))

    def _stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        response = self._chat(messages, **kwargs)
        response.delta = response.message.content or ""
        yield response

    def _from_thread(self, call: Coroutine[Any, Any, ChatResponse]) -> ChatResponse:
        """Lets code without `await`, which LlamaIndex runs in a thread, use the LLM.

        Raises:
            AgentError: it runs on the server's event loop, which would stand still.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            future = asyncio.run_coroutine_threadsafe(call, self._loop)
            self._bridged.add(future)
            future.add_done_callback(self._bridged.discard)
            return future.result()
        call.close()
        raise AgentError(
            "The agent called the LLM in a way that would stop the whole server.",
            hint="In `async` code, use achat, astream_chat, acomplete or astream_complete.",
            code="agent_blocking_call",
        )
