"""
title: A LlamaIndex workflow of somebody else
"""

from agent_mode import AgentPipeline


class Pipeline(AgentPipeline):
    name = "Flow"
    description = "Rolls twice and thinks about it."

    def build(self, context):
        from llama_index.core.workflow import Event, StartEvent, StopEvent, Workflow, step

        class Rolled(Event):
            results: list

        class Flow(Workflow):
            @step
            async def roll(self, ev: StartEvent) -> Rolled:
                await context.status("Rolling…")
                tools = {tool.metadata.name: tool for tool in context.tools}
                first = await tools["roll_dice"].acall(sides=4)
                second = await tools["roll_dice"].acall(sides=8)
                return Rolled(results=[str(first), str(second)])

            @step
            async def think(self, ev: Rolled) -> StopEvent:
                if "fail" in context.turn.text:
                    raise ValueError("the price is missing")
                told = await context.llm.acomplete(f"say: {' and '.join(ev.results)}")
                return StopEvent(result=str(told))

        return Flow()
