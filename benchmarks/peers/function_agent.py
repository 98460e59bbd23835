"""The bare LlamaIndex `FunctionAgent`, in a process of its own: nothing of Agent Mode is loaded beside it.

    python benchmarks/peers/function_agent.py http://127.0.0.1:9401/v1

Each line of its input asks for a block of runs, `{"model": …, "tools": true, "runs": 20}`; each line of its
output tells what they took, `{"cpu": <ms per run>, "first": [<ms to the first words>, …]}`. It is at its best
here: its LLM and HTTP client are made once.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from functools import cache

from llama_index.core.agent.workflow import AgentStream, FunctionAgent
from llama_index.llms.openai import OpenAI

PROMPT = "You are a helpful assistant."
QUESTION = "What are two and three?"


async def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@cache
def llm(url: str, model: str) -> OpenAI:
    return OpenAI(model=model, api_base=url, api_key="sk-benchmark", max_retries=0)


async def run(url: str, model: str, *, tools: bool) -> float:
    """Runs once; returns the milliseconds to the first words."""
    began, first = time.perf_counter(), None
    agent = FunctionAgent(
        name="adder", system_prompt=PROMPT, tools=[add] if tools else [], llm=llm(url, model)
    )
    handler = agent.run(user_msg=QUESTION)
    async for event in handler.stream_events():
        if first is None and isinstance(event, AgentStream) and event.delta:
            first = time.perf_counter()
    await handler
    if first is None:
        raise RuntimeError("the run said nothing")
    return (first - began) * 1000


async def main(url: str) -> None:
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        asked = json.loads(line)
        gc.collect()
        before = time.process_time()
        first = [await run(url, asked["model"], tools=asked["tools"]) for _ in range(asked["runs"])]
        cpu = (time.process_time() - before) * 1000 / asked["runs"]
        print(json.dumps({"cpu": cpu, "first": first}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
