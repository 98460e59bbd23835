"""
title: A filter of somebody else, for every model: what begins with SHOUT is written in capitals.
"""

from pydantic import BaseModel


class Pipeline:
    class Valves(BaseModel):
        pipelines: list[str] = ["*"]
        priority: int = 0

    def __init__(self):
        self.type = "filter"
        self.name = "Shout"
        self.valves = self.Valves()

    async def inlet(self, body, user):
        last = body["messages"][-1]
        if isinstance(last["content"], str) and last["content"].startswith("SHOUT"):
            last["content"] = last["content"].upper() + " " + user["name"]
        return body

    async def outlet(self, body, user):
        return {**body, "shout": "was here"}
