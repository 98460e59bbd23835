"""
title: Researcher
author: Agent Mode
version: 0.1.0
license: MIT
description: Plans, searches with the tools that you may use, and answers with its sources.
"""

import re
from urllib.parse import urlsplit

from agent_mode import AgentPipeline, AgentValves

ADDRESS = re.compile(r"https?://[^\s<>\"'`\])}\\]+[^\s<>\"'`\])}\\.,;:!?]")
MOST_SOURCES = 8  # of one tool's result
PLAN = "Plan the research for the request below: at most four numbered lines. Do not answer it yet."
TOOLS = """Work through this plan with your tools. Change it when what you find asks for that.

{plan}

Then answer. Put the number of its source behind each fact, as in [1]; tools tell you the numbers. Say what
you could not find. State nothing as found that no tool told you."""
NO_TOOLS = "You cannot search now: answer from what you know, and say that you did not look it up."


class Pipeline(AgentPipeline):
    name = "🔎 Researcher"
    description = "Plans, searches with the tools that you may use, and answers with its sources."
    instructions = "You are a careful researcher. Answer in the user's language, briefly and to the point."

    class Valves(AgentValves):
        allowed_tools: str | None = "*search*, *query*, *fetch*, *knowledge*, *read*, *view*, *wiki*, *find*"

    async def build(self, context):
        from llama_index.core.agent.workflow import FunctionAgent  # noqa: PLC0415  the engine has it by now

        steps = NO_TOOLS
        if context.tools:
            await context.status("Planning…")
            names = ", ".join(tool.metadata.name for tool in context.tools)
            plan = await context.llm.acomplete(f"{PLAN}\nTools: {names}\n\n{context.turn.text}")
            steps = TOOLS.format(plan=plan)

        async def cite(_, result):
            """Shows the addresses in a tool's result as sources, and tells the LLM their numbers."""
            lines = []
            for address in list(dict.fromkeys(ADDRESS.findall(result)))[:MOST_SOURCES]:
                around = result[max(0, result.find(address) - 300) :][:600]
                number = await context.source(urlsplit(address).netloc, address, around)
                lines.append(f"[{number}] {address}")
            return "\n".join(("Sources:", *lines)) if lines else None

        context.watch(cite)
        prompt = f"{context.system_prompt}\n\n{steps}"
        return FunctionAgent(llm=context.llm, tools=context.tools, system_prompt=prompt)
