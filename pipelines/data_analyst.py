"""
title: Data analyst
author: Agent Mode
version: 0.1.0
license: MIT
description: Reads CSV or JSON from the chat, computes, draws a chart, and lets another agent explain it.
"""

import contextlib
import csv
import json
import re
import statistics

from agent_mode import AgentError, AgentPipeline, AgentValves, bar_chart


def rows_of(text: str) -> list[dict]:
    """The table in a message: a JSON list of objects, or CSV, in a code block or not."""
    if block := re.search(r"```\w*\n(.*?)```", text, re.DOTALL):
        text = block[1]
    if found := re.search(r"\[\s*\{.*\}\s*\]", text, re.DOTALL):
        return [row for row in json.loads(found[0]) if isinstance(row, dict)]
    lines = [line for line in text.splitlines() if "," in line or ";" in line]
    return list(csv.DictReader(lines, delimiter=";" if lines and ";" in lines[0] else ","))


def columns_of(rows: list[dict]) -> dict[str, list[float]]:
    """The columns that hold nothing but numbers."""
    found = {}
    for name in rows[0] if rows else ():
        with contextlib.suppress(TypeError, ValueError, KeyError):
            found[name] = [float(row[name]) for row in rows]
    return found


class Pipeline(AgentPipeline):
    name = "📊 Data analyst"
    description = "Reads CSV or JSON from the chat, computes, draws a chart, and has it explained."

    class Valves(AgentValves):
        allowed_agents: str | None = "teacher"

    async def run(self, turn, tools, llm, call_agent, status):
        await status("Reading the table…")
        rows = rows_of(turn.text)
        columns = columns_of(rows)
        if not columns:
            yield "Paste a table with headings and a column of numbers, as CSV or as a JSON list of objects."
            return
        lines = [f"| {c} | {len(v)} | {sum(v):g} | {statistics.fmean(v):g} |" for c, v in columns.items()]
        yield (facts := "\n".join(["| column | n | sum | mean |", "|---|---|---|---|", *lines, "\n"]))
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
