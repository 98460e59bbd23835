"""
title: A pipe of somebody else: synchronous, with valves, without any regard for us.
"""

from pydantic import BaseModel


class Pipeline:
    class Valves(BaseModel):
        greeting: str = "Good day"

    def __init__(self):
        self.name = "Bystander"
        self.valves = self.Valves()

    def pipe(self, user_message, model_id, messages, body):
        words = [self.valves.greeting, ", ", body["user"]["name"], ": ", user_message]
        if not body.get("stream"):
            return "".join(words)
        return (word for word in words)
