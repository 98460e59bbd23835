"""
title: Data analyst
author: Agent Mode
version: 0.1.0
license: MIT
description: Reads CSV or JSON from the chat, computes, draws a chart, and lets another agent explain it.
"""

import statistics

from agent_mode import AgentError, AgentPipeline, AgentValves, bar_chart, table_of

NO_TABLE = (
    "Paste a table with headings and a column of numbers, as CSV or as a JSON list of objects. Of an "
    "attached file Open WebUI hands on only passages, unless you click it and choose “Using Entire Document”."
)


class Pipeline(AgentPipeline):
    name = "📊 Data analyst"
    description = "Reads CSV or JSON from the chat, computes, draws a chart, and has it explained."

    class Valves(AgentValves):
        allowed_agents: str | None = "teacher"

    async def run(self, turn, tools, llm, call_agent, status):
        await status("Reading the table…")
        rows = table_of(turn)
        if not rows:
            yield NO_TABLE
            return
        numeric = [name for name in rows[0] if isinstance(rows[0][name], float)]
        columns = {name: [row[name] for row in rows] for name in numeric}
        lines = [f"| {c} | {len(v)} | {sum(v):g} | {statistics.fmean(v):g} |" for c, v in columns.items()]
        facts = "\n".join(["| column | n | sum | mean |", "|---|---|---|---|", *lines])
        yield f"{facts}\n\n"
        name, values = next(iter(columns.items()))
        labels = [str(next((row[key] for key in row if key not in columns), "")) for row in rows]
        try:
            await status.image(bar_chart(labels, values, title=name), description=f"Chart of {name}")
        except AgentError as error:  # a stock server may have no Pillow
            yield f"*No chart: {error}*\n\n"
        explainer = str(self.valves.allowed_agents).split(",")[0]
        try:
            yield await call_agent(explainer, f"Explain in short:\n{facts}")
        except AgentError as error:  # the figures stand without it
            yield f"*Nobody explains it: {error}*"
