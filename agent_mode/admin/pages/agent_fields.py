"""The fields of an agent, as its type has them."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from nicegui import ui

from agent_mode.admin import offers
from agent_mode.admin.pages.agent_graph import draw_graph
from agent_mode.admin.pages.components import words
from agent_mode.admin.pages.components.banner import banner
from agent_mode.admin.pages.components.code_editor import code_editor
from agent_mode.admin.pages.components.schema_fields import Field, fields_of
from agent_mode.admin.pages.components.schema_form import Form, Values
from agent_mode.admin.pages.visit import Visit
from agent_mode.agents import stored
from agent_mode.agents.definitions import (
    CustomPythonDefinition,
    LlamaIndexDefinition,
    PersonaDefinition,
    SubAgent,
)
from agent_mode.agents.types import AgentType, get_type
from agent_mode.errors import DefinitionError
from agent_mode.store.agents import AgentForm
from agent_mode.valves import AgentValves

_ACCESS = {"openwebui": "Whom Open WebUI lets", "everyone": "Everyone"}
_NO_ID = "No letter of the name can stand in an id: type one, of a-z, 0-9, - and _."
_STYLES = {
    "function": "Function calls",
    "react": "ReAct: reasons in text",
    "multi_agent": "Several agents that hand over",
}
_MULTI = ("agents", "root")
"""What a definition has in the style multi_agent alone."""
_SUB = {field.name: field for field in fields_of(SubAgent.model_json_schema())}
_SIGNATURE = """async def run(turn, tools, llm, call_agent, status):
    yield "text"          # or an image, JSON, several things

turn.text                 # the user's words
turn.messages             # the chat, system prompt first
turn.user, turn.images, turn.valves, turn.run_id
await llm("…")            # the model's answer; temperature=0
async for part in llm.stream(turn.messages): ...
tools.names, await tools.call("weather", city="Ulm")
await call_agent("writer", "task", context="…")
await status("Reading…")  # a line above the answer
await status.image(png);  await status.source("name", url="…")

Ask for what you need, in any order. Plain functions work,
too: llm.complete_sync, tools.call_sync, call_agent.sync."""


class Fields:
    """Draws the fields of a draft, and draws them anew when its type changes.

    Args:
        visit: who edits.
        changed: called after each change.
    """

    def __init__(self, visit: Visit, changed: Callable[[], object]) -> None:
        self._visit = visit
        self._changed = changed
        self.form = Form(self._touched)
        self._models: list[ui.select] = []
        self._tools: list[ui.select] = []
        self._offered = offers.Offer()
        self._toolbox = offers.ToolOffer()
        self._graph: ui.element | None = None
        self._values: dict[str, Any] = {}
        self._kept_agents: dict[str, Any] = {}
        self.kept_valves: Mapping[str, Any] = {}
        """Those that are saved, with their secrets: they ask the provider for its models."""

    @property
    def toolbox(self) -> offers.ToolOffer:
        """The tools that Open WebUI offers, once they are known."""
        return self._toolbox

    def draw(self, values: dict[str, Any], *, fixed_id: bool, half: Mapping[str, str] | None = None) -> None:
        """All fields, which write into `values`; `half` is what was typed and cannot be read, by path."""
        self._values = values
        self._models, self._tools, self._graph = [], [], None
        self.form = Form(self._touched, half)
        for name in ("definition", "valves"):
            if not isinstance(values.get(name), dict):
                values[name] = {}
        self._about(values, fixed_id=fixed_id)
        try:
            kind = get_type(str(values.get("agent_type")))
        except DefinitionError as error:
            [problem] = error.problems
            banner(problem.message, f"{problem.hint} Its JSON can be edited all the same.", tone="error")
            return
        with self.form.place("definition").classes("am-card am-fields"):
            with ui.element("h2"):
                ui.label(kind.title)
            self._definition(kind, values["definition"])
        self._valves(kind, values["valves"])

    async def load_offers(self) -> None:
        """Asks for models and tools to pick from; takes a while."""
        try:
            kind = get_type(str(self._values.get("agent_type")))
            valves = kind.valves.model_validate(
                stored.unmasked(kind, self._values.get("valves", {}), self.kept_valves)
            )
        except (DefinitionError, ValueError, TypeError):
            valves = AgentValves.model_validate({})
        self._offered = await offers.models(self._visit.runtime, valves)
        self._fill()
        self._toolbox = await offers.tools(self._visit.runtime)
        self._fill()

    def _fill(self) -> None:
        for select, names, problem in (
            *((select, self._offered.names, self._offered.problem) for select in self._models),
            *((select, self._toolbox.names, self._toolbox.problem) for select in self._tools),
        ):
            if select.is_deleted:
                continue
            now = select.value if isinstance(select.value, list) else [select.value] if select.value else []
            select.set_options([*dict.fromkeys([*names, *now])], value=select.value)
            if problem:
                select._props["hint"] = problem

    def _touched(self) -> None:
        self._changed()
        if self._graph is not None:
            self._redraw_graph()

    def _about(self, values: Values, *, fixed_id: bool) -> None:
        known = {field.name: field for field in fields_of(AgentForm.model_json_schema())}
        with ui.element("section").classes("am-card am-fields"):
            with ui.element("div").classes("am-pair"):
                name = self.form.text(values, _named(known["name"], "Name", "As people see it."), "name")
                own = self.form.text(values, _named(known["id"], "Id", "The model's id. It stays."), "id")
            self._own_id = own
            if fixed_id:
                self.fix_id()
            else:
                self._follow(name, own)
            description = _named(
                known["description"], "Description", "What it is good for; people and other agents read it."
            )
            self.form.text(values, description, "description")
            with ui.element("div").classes("am-pair"):
                with self.form.place("access"):
                    access = values.get("access")
                    ui.select(
                        _ACCESS,
                        label="Who may use it",
                        value=access if access in _ACCESS else None,
                        on_change=lambda event: self._set(values, "access", event.value),
                    ).props("outlined dense options-dense")
                self.form.words(
                    values, _named(known["tags"], "Tags", "Shown in Open WebUI's list."), "tags", []
                )
            with self.form.place("enabled"):
                ui.switch(
                    "Enabled: it is a model in Open WebUI",
                    value=values.get("enabled") is True,
                    on_change=lambda event: self._set(values, "enabled", bool(event.value)),
                )

    def fix_id(self) -> None:
        """The agent is saved: its id stays."""
        self._own_id.disable()

    def _follow(self, name: Any, own: Any) -> None:
        """The id is made from the name, as long as nobody has given another one."""
        former = name.value or ""
        usual = own._props.get("hint")

        def follow(event: Any) -> None:
            nonlocal former
            before, former = former, event.value or ""
            if own.enabled and (own.value or "") == id_of(before):
                own.value = id_of(former)
                hint = usual if own.value or not former else _NO_ID
                if own._props.get("hint") != hint:
                    own._props["hint"] = hint

        name.on_value_change(follow)

    def _set(self, values: Values, name: str, value: Any) -> None:
        values[name] = value
        self._changed()

    def _definition(self, kind: AgentType, definition: dict[str, Any]) -> None:
        fields = {field.name: field for field in fields_of(kind.schema())}
        if kind.definition is LlamaIndexDefinition:
            self._llamaindex(fields, definition)
        elif kind.definition is CustomPythonDefinition:
            self._python(fields, definition)
        elif kind.definition is PersonaDefinition:
            self._who(fields, definition)
            self._model(fields["model"], definition, "definition.model")
        else:
            for field in fields.values():
                self.form.field(definition, field, f"definition.{field.name}")
            if not fields:
                ui.label("This type asks for nothing. What else it takes can be written as JSON.").classes(
                    "am-soft"
                )

    def _who(self, fields: dict[str, Field], definition: dict[str, Any]) -> None:
        book = self._visit.runtime.personas
        now = definition.get("persona")
        known = book.get(now) if isinstance(now, str) else None
        self.form.find(
            definition,
            _named(fields["persona"], "Persona", "Type a part of its name to find it."),
            "definition.persona",
            lambda word: offers.personas(book.all(), word),
            offers.persona_in_words(known) if known else "",
        )
        self.form.text(definition, fields["instructions"], "definition.instructions")

    def _model(self, field: Field, values: Values, path: str) -> None:
        help_ = "Empty: as the valves or the server's settings say. Enter keeps a name that is typed."
        made = self.form.pick(values, _named(field, field.label, help_), path, self._offered.names)
        self._models.append(made)

    def _some_tools(self, field: Field, values: Values, path: str, help_: str) -> None:
        if values.get(field.name) == []:
            help_ = "None at all, as its JSON says. Pick some to change that."
        made = self.form.words(values, _named(field, field.label, help_), path, self._toolbox.names)
        self._tools.append(made)

    def _llamaindex(self, fields: dict[str, Field], definition: dict[str, Any]) -> None:
        style = definition.get("style", "function")
        with self.form.place("definition.style"):
            ui.select(
                _STYLES,
                label="Style",
                value=style if style in _STYLES else None,
                on_change=lambda event: restyle(event.value),
            ).props("outlined dense options-dense")
        body = ui.element("div").classes("am-fields")

        def redraw() -> None:
            body.clear()
            self._graph = None
            with body:
                self._styled(fields, definition)

        def restyle(chosen: str) -> None:
            definition["style"] = chosen
            if chosen != "multi_agent":
                # They would make it unusable; a change of mind finds them again.
                self._kept_agents |= {name: definition.pop(name) for name in _MULTI if name in definition}
            else:
                definition.update(self._kept_agents)
            redraw()
            self._fill()
            self._touched()

        redraw()

    def _styled(self, fields: dict[str, Field], definition: dict[str, Any]) -> None:
        several = definition.get("style") == "multi_agent"
        if several:
            self._several(fields, definition)
        else:
            self._who(fields, definition)
        with ui.element("div").classes("am-pair"):
            self._model(fields["model"], definition, "definition.model")
            if not several:
                help_ = "Names or patterns (search_*). Empty: all that the user has."
                self._some_tools(fields["tools"], definition, "definition.tools", help_)
        with ui.element("div").classes("am-pair"):
            for name in ("max_iterations", "memory_tokens", "output"):
                self.form.field(definition, fields[name], f"definition.{name}")

    def _several(self, fields: dict[str, Field], definition: dict[str, Any]) -> None:
        with ui.element("div").classes("am-fields"):
            ui.label("Who hands over to whom").classes("am-strong")
            self._graph = ui.element("div").classes("am-fields")
            self._redraw_graph()
        self.form.text(
            definition,
            _named(fields["instructions"], "Instructions for whoever begins"),
            "definition.instructions",
        )
        self.form.text(
            definition,
            _named(fields["root"], "Who begins", "Name of a sub-agent. Empty: the first."),
            "definition.root",
        )

        def draw(entry: Values, path: str) -> None:
            with ui.element("div").classes("am-pair"):
                self.form.text(entry, _SUB["name"], f"{path}.name")
                self.form.field(entry, _SUB["style"], f"{path}.style")
            self.form.text(entry, _SUB["description"], f"{path}.description")
            self.form.text(entry, _SUB["instructions"], f"{path}.instructions")
            with ui.element("div").classes("am-pair"):
                self._some_tools(
                    _SUB["tools"], entry, f"{path}.tools", "Names or patterns. Empty: all that the agent has."
                )
                others = [name for name in _names(definition) if name != entry.get("name")]
                help_ = "Empty: to all the others."
                self.form.words(
                    entry,
                    _named(_SUB["can_hand_over_to"], "Hands over to", help_),
                    f"{path}.can_hand_over_to",
                    others,
                )

        def new() -> dict[str, Any]:
            return {"name": f"agent_{len(definition['agents']) + 1}", "description": "", "instructions": ""}

        field = _named(fields["agents"], "Sub-agents", "They work on one request together.")
        self.form.rows(definition, field, "definition.agents", draw, noun="sub-agent", new=new)

    def _redraw_graph(self) -> None:
        assert self._graph is not None
        self._graph.clear()
        with self._graph:
            draw_graph(self._values.get("definition", {}))

    def _python(self, fields: dict[str, Field], definition: dict[str, Any]) -> None:
        code = definition.get("code")
        with ui.element("div").classes("am-with-note"):
            with self.form.place("definition.code"):
                code_editor(
                    code if isinstance(code, str) else "",
                    "Python",
                    "Code",
                    lambda text: self.form.put(definition, fields["code"], text),
                )
            with ui.element("details").classes("am-note").props("open"):
                with ui.element("summary"):
                    ui.label("What the code is given")
                words.code(_SIGNATURE)
        self.form.text(definition, fields["instructions"], "definition.instructions")
        self._model(fields["model"], definition, "definition.model")

    def _valves(self, kind: AgentType, valves: dict[str, Any]) -> None:
        fields = [field for field in fields_of(kind.valves.model_json_schema()) if field.name != "access"]
        with self.form.place("valves"), ui.element("details").classes("am-card"):
            with ui.element("summary"):
                ui.label("Limits, tools and connection").classes("am-strong")
                if valves:
                    ui.label(f" {len(valves)} changed").classes("am-soft")
            with ui.element("div").classes("am-field-grid"):
                for field in fields:
                    path = f"valves.{field.name}"
                    if field.name == "llm_model":
                        self._model(field, valves, path)
                    else:
                        self.form.field(valves, field, path)


def id_of(name: str) -> str:
    """An id made from a name; empty if nothing of it can stand in one. Pure."""
    plain = unicodedata.normalize("NFKD", name.replace("ß", "ss").replace("ẞ", "ss")).lower()
    kept = "".join(
        char if char.isascii() and char.isalnum() else "-"
        for char in plain
        if not unicodedata.combining(char)
    )
    return "-".join(part for part in kept.split("-") if part)[:64].strip("-")


def _names(definition: dict[str, Any]) -> list[str]:
    listed = definition.get("agents")
    agents = listed if isinstance(listed, list) else []
    return [str(agent["name"]) for agent in agents if isinstance(agent, dict) and agent.get("name")]


def _named(field: Field, label: str, help_: str | None = None) -> Field:
    return replace(field, label=label, help=field.help if help_ is None else help_)
