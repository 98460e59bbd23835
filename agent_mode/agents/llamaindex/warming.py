"""Makes the first run as quick as the others.

The OpenAI client and LlamaIndex put off half of their imports and the building of their models until the
first call, which would then stop the server's event loop for a second.
"""

from __future__ import annotations

import asyncio

import httpx
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ChatMessage
from llama_index.llms.openai import OpenAI
from openai import AsyncOpenAI

from agent_mode.agents.llamaindex.memory import TurnMemory
from agent_mode.agents.llamaindex.transport import BASE_URL, recalled
from agent_mode.tools.specs import argument_problems

_CALL = {"id": "call_1", "type": "function", "function": {"name": "_look", "arguments": "{}"}}


def warm_up() -> None:
    """Runs an agent on an LLM that is none; to be called in a thread."""
    argument_problems({"type": "object", "properties": {"x": {"type": "string"}}}, {"x": 1})
    asyncio.run(_dry_run())


async def _dry_run() -> None:
    answers = [{"content": "", "tool_calls": [_CALL]}, {"content": "Done."}]
    transport = httpx.MockTransport(lambda _: recalled(answers.pop(0), stream=True))
    async with httpx.AsyncClient(transport=transport, trust_env=False) as http:
        client = AsyncOpenAI(api_key="none", base_url=BASE_URL, max_retries=0, http_client=http)
        llm = OpenAI(model="gpt-4o", api_key="none", max_retries=0, async_openai_client=client)
        agent = FunctionAgent(llm=llm, tools=[_look])
        asked = ChatMessage(role="user", content="Look")
        handler = agent.run(user_msg=asked, memory=TurnMemory(token_limit=1000))
        async for _ in handler.stream_events():
            pass
        await handler


async def _look() -> str:
    """Looks."""
    return "seen"
