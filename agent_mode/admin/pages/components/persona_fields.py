"""The fields of a persona, with what is wrong beside each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nicegui import ui

from agent_mode.errors import AgentModeError, DefinitionError
from agent_mode.prompts.reset import Identity
from agent_mode.store.personas import Persona

PROMPT_CHARS = 100_000
_OUTLINED = "outlined dense"
_LISTS = ("capabilities", "tags")


class Fields:
    """Draws them where it is made.

    Args:
        record: the persona; None: a new one.
        categories: those that there are.
        touched: called when something was changed.
    """

    def __init__(
        self, record: Persona | None, categories: Sequence[str], touched: Callable[..., object]
    ) -> None:
        self._key = record.key if record else ""
        self._fields: dict[str, Any] = {}
        self._touched = touched
        self._quiet = False
        with ui.element("div").classes("am-fields"):
            with ui.element("div").classes("am-form"):
                if record is None:
                    self._line("key", "Key: the word after ! (a-z, 0-9, - and _)", "maxlength=32")
                self._line("emoji", "Emoji", "maxlength=16")
                self._line("name", "Name", "maxlength=80")
                self._category(categories, record)
                self._line("model", "Provider's model (empty: the connection's)", "maxlength=200")
                self._fields["enabled"] = ui.switch("Enabled: a model and a command", on_change=self._changed)
            self._line(
                "description", "Description, shown in the model list", "maxlength=1000 autogrow type=textarea"
            )
            for name in _LISTS:
                self._fields[name] = (
                    ui.input_chips(name.capitalize(), new_value_mode="add-unique", on_change=self._changed)
                    .props(f"{_OUTLINED} hint='Enter adds one'")
                    .classes("am-field")
                )
            prompt = ui.textarea("Instructions", on_change=self._changed).props(
                f"{_OUTLINED} autogrow counter debounce=300 maxlength={PROMPT_CHARS}"
            )
            self._fields["prompt"] = prompt.classes("am-field am-prompt")
        self.show(record)

    def show(self, record: Persona | None) -> None:
        """Puts the values of a persona into the fields."""
        self.put({name: getattr(record, name, None) for name in self._fields} if record else _FRESH)

    def put(self, values: Mapping[str, Any]) -> None:
        """Puts these values into the fields; what is missing is empty."""
        self._quiet = True
        try:
            for name, field in self._fields.items():
                value = values.get(name)
                if name == "category" and value and value not in field.options:
                    field.set_options([*field.options, value])
                field.value = (
                    list(value or ()) if name in _LISTS else bool(value) if name == "enabled" else value or ""
                )
        finally:
            self._quiet = False
        self.clear()

    def values(self) -> dict[str, Any]:
        """The fields as a form takes them."""
        found = {name: field.value for name, field in self._fields.items()}
        found["category"] = found["category"] or "custom"
        found["model"] = (found["model"] or "").strip() or None
        for name in ("emoji", "name", "description", "prompt"):
            found[name] = found[name] or ""
        for name in _LISTS:
            found[name] = tuple(found[name] or ())
        return found if "key" in found else {"key": self._key, **found}

    def identity(self) -> Identity:
        """Who it would be, for the preview."""
        found = self.values()
        return Identity(found["key"] or "new", found["name"] or "New persona", found["prompt"])

    def model(self) -> str:
        """The model that it names; empty: none."""
        return self.values()["model"] or ""

    def wrong(self, error: AgentModeError) -> None:
        """Says beside each field what is wrong with it."""
        problems = error.problems if isinstance(error, DefinitionError) else ()
        said = [(problem.field, problem.message) for problem in problems] or [
            (error.field or "", error.message)
        ]
        for path, message in said:
            field = self._fields.get(path.partition(".")[0])
            if field is not None and hasattr(field, "error"):
                field.error = message

    def clear(self) -> None:
        """Nothing is wrong any more."""
        for field in self._fields.values():
            if hasattr(field, "error"):
                field.error = None

    def _line(self, name: str, label: str, more: str) -> None:
        field = ui.input(label, on_change=self._changed).props(f"{_OUTLINED} {more} debounce=200")
        self._fields[name] = field.classes("am-field")

    def _category(self, categories: Sequence[str], record: Persona | None) -> None:
        there = [record.category] if record else []
        names = sorted({*categories, *there, "custom"}, key=str.casefold)
        self._fields["category"] = (
            ui.select(
                names, label="Category", with_input=True, new_value_mode="add-unique", on_change=self._changed
            )
            .props(f"{_OUTLINED} options-dense")
            .classes("am-field")
        )

    def _changed(self, *_: object) -> None:
        if not self._quiet:
            self._touched()


_FRESH = {"enabled": True, "category": "custom"}
