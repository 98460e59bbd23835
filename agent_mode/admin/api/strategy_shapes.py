"""What the API's answers about strategies hold, for its documentation and for who makes them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from agent_mode.admin import previews
from agent_mode.admin.api.shapes import Page, Problem
from agent_mode.admin.previews import Preview
from agent_mode.admin.strategy_files import State, Version
from agent_mode.errors import AgentModeError, TemplateError
from agent_mode.prompts.strategies import SUFFIX, Selection, Strategy
from agent_mode.prompts.templates import Templates


class StrategyItem(BaseModel):
    """How one model, or a family of models, is told who answers; docs/strategies.md explains each field."""

    id: str = Field(description="A model id, a pattern, or the name of a default")
    provider: str
    file: str | None = Field(description="Where it comes from; null: it is built in")
    type: str
    template: str
    assertiveness: str
    contextual_memory: str
    special_handling: list[str]
    placement: str
    pivot: str
    history: str
    why: str
    source: str
    checked_on: str


class StrategyPage(Page):
    items: list[StrategyItem]


class Resolved(BaseModel):
    """Which strategy a model gets, and why."""

    model: str
    strategy: StrategyItem
    matched_by: str = Field(description="exact, pattern, provider or global")
    matched: str = Field(description="The key or pattern by which it was found")
    reason: str
    template: str | None = Field(description="The template that is used; null: it cannot be, see warnings")
    warnings: list[Problem]


class Message(BaseModel):
    role: str
    content: str


class Switched(BaseModel):
    """What a model would be sent when one persona takes over from another, in a sample chat."""

    model: str
    switched: bool = Field(description="False: nobody takes over, so it is the plain system prompt")
    strategy: str
    reason: str
    template: str | None
    placement: str
    pivot: str
    history: str
    fallbacks: list[str]
    text: str = Field(description="The hard reset: what is said to the model beside the chat itself")
    messages: list[Message]


class FileItem(BaseModel):
    """A strategy file or a template in a list."""

    name: str
    filename: str
    strategies: int = Field(description="How many it holds; of a template: how many name it")
    usable: bool
    problems: list[Problem]


class FileList(BaseModel):
    items: list[FileItem]
    total: int


class FileFull(BaseModel):
    """A strategy file or a template."""

    name: str
    filename: str
    text: str
    mark: str = Field(description="Send it with your change, so that nobody else's is lost")
    warnings: list[Problem] = Field(description="What is odd about it, though it can be used")


class TextItem(BaseModel):
    """A version in a list."""

    number: int
    author: str
    message: str
    created_at: datetime


class TextFull(TextItem):
    text: str


class TextPage(Page):
    items: list[TextItem]


def strategy(of: Strategy) -> dict[str, Any]:
    """A strategy."""
    told = {name: getattr(of, name) for name in StrategyItem.model_fields if name != "file"}
    file = None if of.provider == "built-in" else f"{of.provider}{SUFFIX}"
    return told | {"file": file, "special_handling": sorted(of.special_handling)}


def resolved(model: str, found: Selection, templates: Templates) -> dict[str, Any]:
    """Which strategy a model gets, and why."""
    template, wrong = None, []
    try:
        template = templates.get(found.strategy.template).name
    except TemplateError as error:
        wrong = [problem(error)]
    return {
        "model": model,
        "strategy": strategy(found.strategy),
        "matched_by": found.matched_by,
        "matched": found.matched,
        "reason": previews.reason(found),
        "template": template,
        "warnings": wrong,
    }


def switched(found: Preview) -> dict[str, Any]:
    """What a model would be sent."""
    report = found.report
    messages = [{"role": m["role"], "content": previews.text_of(m)} for m in found.messages]
    return {
        "model": found.model,
        "switched": found.switched,
        "strategy": report.strategy,
        "reason": previews.reason(found.selection),
        "template": report.template,
        "placement": report.placement,
        "pivot": report.pivot,
        "history": report.history,
        "fallbacks": list(report.fallbacks),
        "text": "\n\n".join(m["content"] for m in messages if m not in previews.SAMPLE),
        "messages": messages,
    }


def file_item(of: State) -> dict[str, Any]:
    """A file in a list."""
    return {
        "name": of.file.name,
        "filename": of.file.filename,
        "strategies": of.strategies,
        "usable": of.error is None,
        "problems": [] if of.error is None else [problem(of.error)],
    }


def version(of: Version) -> dict[str, Any]:
    """A version in a list."""
    return {"number": of.number, "author": of.author, "message": of.message, "created_at": of.at}


def problem(error: AgentModeError) -> dict[str, str]:
    """An error as one thing among several that are wrong."""
    return {"field": error.field or "text", "message": error.message, "hint": error.hint}
