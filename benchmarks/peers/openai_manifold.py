"""Stands for upstream's example `openai_manifold_pipeline`, the usual way to put a provider behind the
Pipelines server, in our own words: the same calls, the same prints (they are part of its cost), the same
returned iterator. The benchmarks compare Agent Mode with it; only the stock server loads it.
"""

import os
from collections.abc import Iterator
from typing import Any

import requests
from pydantic import BaseModel


class Pipeline:
    class Valves(BaseModel):
        OPENAI_API_BASE_URL: str = "https://api.openai.com/v1"
        OPENAI_API_KEY: str = ""

    def __init__(self) -> None:
        self.type = "manifold"
        self.name = "OpenAI: "
        names = ("OPENAI_API_BASE_URL", "OPENAI_API_KEY")
        self.valves = self.Valves(**{name: os.environ[name] for name in names if name in os.environ})
        self.pipelines = self.list_models()

    async def on_startup(self) -> None:
        print(f"on_startup:{__name__}")

    async def on_shutdown(self) -> None:
        print(f"on_shutdown:{__name__}")

    async def on_valves_updated(self) -> None:
        print(f"on_valves_updated:{__name__}")
        self.pipelines = self.list_models()

    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.valves.OPENAI_API_KEY}", "Content-Type": "application/json"}

    def list_models(self) -> list[dict[str, str]]:
        if not self.valves.OPENAI_API_KEY:
            return []
        try:
            response = requests.get(f"{self.valves.OPENAI_API_BASE_URL}/models", headers=self.headers())
            models = response.json()["data"]
        except (requests.RequestException, KeyError) as error:
            print(f"Error: {error}")
            return [
                {"id": "error", "name": "The provider's models cannot be read: check the key in the valves."}
            ]
        return [
            {"id": model["id"], "name": model.get("name", model["id"])}
            for model in models
            if "gpt" in model["id"]
        ]

    def pipe(
        self, user_message: str, model_id: str, messages: list[dict[str, Any]], body: dict[str, Any]
    ) -> str | dict[str, Any] | Iterator[bytes]:
        print(f"pipe:{__name__}")
        print(messages)
        print(user_message)
        payload = {**body, "model": model_id}
        for name in ("user", "chat_id", "title"):
            payload.pop(name, None)
        print(payload)
        try:
            response = requests.post(
                f"{self.valves.OPENAI_API_BASE_URL}/chat/completions",
                json=payload,
                headers=self.headers(),
                stream=True,
            )
            response.raise_for_status()
            return response.iter_lines() if body["stream"] else response.json()
        except requests.RequestException as error:
            return f"Error: {error}"
