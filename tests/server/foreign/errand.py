"""
title: An agent in plain Python that does what the message says
"""

import asyncio

from agent_mode import AgentPipeline, AgentValves, Source, ToolError


class Pipeline(AgentPipeline):
    name = "Errand"
    description = "Runs errands for the tests."

    class Valves(AgentValves):
        allowed_agents: str | None = "helper,teacher"
        greeting: str = "Hello"

    valves: Valves  # pyright: ignore[reportIncompatibleVariableOverride]

    async def run(self, turn, tools, llm, call_agent, status):  # noqa: PLR0912  one for each errand
        await status("Looking at the errand…")
        match turn.text.split(":")[0]:
            case "greet":
                yield f"{self.valves.greeting}, {turn.user['name']}."
            case "roll":
                yield "Rolling. "
                yield await tools.roll_dice(sides=6)
                yield " Done."
            case "twice":
                first = await tools.roll_dice(sides=4)
                second = await tools.call("roll_dice", sides=8)
                yield f"{first} and {second}"
            case "both":
                yield " and ".join(await asyncio.gather(tools.roll_dice(sides=4), tools.clock()))
            case "try":
                try:
                    yield await tools.broken()
                except ToolError as error:
                    yield f"could not: {error}"
            case "think":
                yield await llm(turn.text.partition(":")[2])
            case "ask":
                yield await call_agent("teacher", turn.text.partition(":")[2])
            case "cite":
                yield Source("Almanac", "https://almanac.example/moon", "The moon is round.")
                yield "The moon is round [1]."
            case "fail":
                yield "So far so good. "
                raise ValueError("the price is missing")
            case "sleep":
                yield "Zzz "
                await asyncio.sleep(60)
            case "nothing":
                pass
            case "silent roll":
                await tools.roll_dice(sides=6)
            case "half":
                yield "Half of it. "
                await tools.roll_dice(sides=6)
            case other:
                yield f"I cannot {other}."
