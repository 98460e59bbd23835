"""A form whose fields write into a JSON object, with what is wrong beside each field.

form = Form(changed=editor.touched)
for field in fields_of(schema):
    form.field(values, field, f"valves.{field.name}")
rest = form.show(problems)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

from nicegui import ui
from nicegui.elements.mixins.validation_element import ValidationElement

from agent_mode.admin.pages.components.buttons import button, icon_button
from agent_mode.admin.pages.components.finder import Find, Finder
from agent_mode.admin.pages.components.schema_fields import Field, empty_row, moved_up, placed, read_json
from agent_mode.errors import Problem
from agent_mode.valves import MASK

Values = MutableMapping[str, Any]
_LINES_CHARS = 200_000
_LINE_CHARS = 4_000


class Form:
    """The fields of one editor.

    Args:
        changed: called after each change that the person makes.
        half: what was typed before and could not be read, by path.
    """

    def __init__(self, changed: Callable[[], object], half: Mapping[str, str] | None = None) -> None:
        self._changed = changed
        self._places: dict[str, _Place] = {}
        self.half: dict[str, str] = dict(half or {})
        """What was typed and cannot be read, by path: the text. It is not in the values."""

    @property
    def unread(self) -> list[Problem]:
        """Why what was typed cannot be read, by path."""
        return [Problem(path, read_json(text)[1]) for path, text in self.half.items()]

    def is_half(self, path: str) -> bool:
        """Whether what was typed there, or below, cannot be read."""
        return any(f"{found}.".startswith(f"{path}.") for found in self.half)

    def forget(self, path: str) -> None:
        """Drops what was half typed there, and below."""
        for found in [found for found in self.half if f"{found}.".startswith(f"{path}.")]:
            del self.half[found]

    def field(self, values: Values, field: Field, path: str) -> None:
        """A field that stands for `values[field.name]`; its problems are those of `path`."""
        match field.kind:
            case "switch":
                self._switch(values, field, path)
            case "choice":
                self._choice(values, field, path)
            case "number" | "integer":
                self._number(values, field, path)
            case "words":
                self.words(values, field, path, [])
            case "group":
                self._group(values, field, path)
            case "rows":
                self._rows(values, field, path)
            case "json":
                self._json(values, field, path)
            case _ if field.secret:
                self._secret(values, field, path)
            case _:
                self.text(values, field, path)

    def show(self, problems: list[Problem]) -> list[Problem]:
        """Puts each problem beside its field, and takes away what stood there.

        Returns:
            those that belong to no field here.
        """
        for path in [path for path, place in self._places.items() if not place.alive]:
            del self._places[path]  # groups have the same places
        found, rest = placed(problems, set(self._places))
        for path, place in self._places.items():
            place.tell(found.get(path, []))
        return rest

    def place(self, path: str, element: ui.element | None = None) -> ui.element:
        """Where problems of `path` are told: inside the element, or below what is drawn into the box.

        Args:
            path: the dotted path of the problems.
            element: tells them by itself, if it can.
        """
        box = ui.element("div").classes("am-field")
        self._places[path] = _Place(box, element if isinstance(element, ValidationElement) else None)
        return box

    def put(self, values: Values, field: Field, value: Any) -> None:
        """Writes a value: what is as by default is left out."""
        if (value is None and not field.nullable and not field.required) or (
            not field.required and value == field.default
        ):
            values.pop(field.name, None)
        else:
            values[field.name] = value
        self._changed()

    def text(self, values: Values, field: Field, path: str) -> ui.input | ui.textarea:
        """A text; an empty one is null where that is allowed."""
        several = field.kind == "lines"
        shown = _as_text(values.get(field.name, field.default))

        def write(event: Any) -> None:
            text = event.value or ""
            self.put(values, field, text if text or not field.nullable else None)

        with self.place(path) as box:
            made = (ui.textarea if several else ui.input)(field.label, value=shown, on_change=write)
            _dress(made, field)
            longest = min(field.longest or _LINES_CHARS, _LINES_CHARS) if several else _LINE_CHARS
            made.props(f"outlined dense debounce=250 maxlength={longest}" + (" autogrow" if several else ""))
            if several:
                made.classes("am-lines")
        self._tells(path, box, made)
        return made

    def pick(self, values: Values, field: Field, path: str, options: list[str]) -> ui.select:
        """One of several texts, or another one that is typed."""
        now = _as_text(values.get(field.name, field.default)) or None
        if now and now not in options:
            options = [now, *options]

        def write(event: Any) -> None:
            self.put(values, field, (event.value or "").strip() or None)

        with self.place(path) as box:
            made = ui.select(
                options,
                label=field.label,
                value=now,
                with_input=True,
                clearable=True,
                new_value_mode="add-unique",
                on_change=write,
            ).props("outlined dense options-dense")
            _dress(made, field)
        self._tells(path, box, made)
        return made

    def find(self, values: Values, field: Field, path: str, find: Find, shown: str) -> None:
        """One of many texts, looked up while the person types.

        Args:
            values, field, path: as of `field`.
            find: looks up what fits.
            shown: how the one is shown that is chosen now; empty: it is not there any more.
        """
        now = _as_text(values.get(field.name, field.default)) or None

        def write(event: Any) -> None:
            self.put(values, field, event.value or None)

        with self.place(path) as box:
            made = Finder(field.label, find, now, shown or f"{now} (not here)", write)
            _dress(made.props("outlined dense options-dense"), field)
        self._tells(path, box, made)

    def words(self, values: Values, field: Field, path: str, options: list[str]) -> ui.select:
        """Several words: picked from `options`, or typed."""
        now = values.get(field.name, field.default)
        now = [word for word in now if isinstance(word, str)] if isinstance(now, list) else []

        def write(event: Any) -> None:
            words = [str(word).strip() for word in event.value or () if str(word).strip()]
            self.put(values, field, words or (None if field.nullable else []))

        with self.place(path) as box:
            made = ui.select(
                [*dict.fromkeys([*options, *now])],
                label=field.label,
                value=now,
                multiple=True,
                with_input=True,
                clearable=True,
                new_value_mode="add-unique",
                on_change=write,
            ).props("outlined dense options-dense use-chips")
            _dress(made, field)
        self._tells(path, box, made)
        return made

    def rows(
        self,
        values: Values,
        field: Field,
        path: str,
        draw: Callable[[Values, str], None],
        *,
        noun: str = "entry",
        new: Callable[[], dict[str, Any]] | None = None,
    ) -> None:
        """A list of objects, each in a box of its own.

        Args:
            values, field, path: as of `field`.
            draw: draws the fields of one of them; gets the object and its path.
            noun: what one of them is called.
            new: makes another one.
        """
        with self.place(path), ui.element("fieldset").classes("am-rows"):
            with ui.element("legend"):
                ui.label(field.label)
            if field.help:
                ui.label(field.help).classes("am-soft")
            body = ui.element("div").classes("am-fields")

        def entries() -> list[Any]:
            found = values.get(field.name)
            if not isinstance(found, list):
                found = values[field.name] = []
            return found

        def redraw() -> None:
            body.clear()
            with body:
                found = values.get(field.name)
                for place, entry in enumerate(found if isinstance(found, list) else ()):
                    if isinstance(entry, dict):
                        row(place, entry)
                button(f"Add {noun}", add, icon="add")

        def row(place: int, entry: dict[str, Any]) -> None:
            box = self.place(f"{path}.{place}").classes("am-row-box")
            with box:
                with ui.element("div").classes("am-row-head"):
                    ui.label(f"{noun.capitalize()} {place + 1}").classes("am-strong")
                    icon_button("delete", f"Remove {noun} {place + 1}", lambda: remove(place))
                draw(entry, f"{path}.{place}")

        def add() -> None:
            entries().append(new() if new else empty_row(field.fields))
            redraw()
            self._changed()

        def remove(place: int) -> None:
            entries().pop(place)
            moved = moved_up(self.half, path, place)
            self.half.clear()
            self.half.update(moved)
            redraw()
            self._changed()

        redraw()

    def _switch(self, values: Values, field: Field, path: str) -> None:
        with self.place(path):
            now = values.get(field.name, field.default)
            ui.switch(
                field.label,
                value=now is True,
                on_change=lambda event: self.put(values, field, bool(event.value)),
            )
            if field.help:
                ui.label(field.help).classes("am-field-help")

    def _choice(self, values: Values, field: Field, path: str) -> None:
        now = values.get(field.name, field.default)
        plain = [choice for choice in field.choices if not isinstance(choice, dict | list)]
        options = {choice: _as_text(choice) for choice in plain}
        if now is not None and now not in options:
            options[now] = _as_text(now)  # what is there is shown, even if it is wrong
        with self.place(path) as box:
            made = ui.select(
                options,
                label=field.label,
                value=now,
                clearable=field.nullable,
                on_change=lambda event: self.put(values, field, event.value),
            ).props("outlined dense options-dense")
            _dress(made, field)
        self._tells(path, box, made)

    def _number(self, values: Values, field: Field, path: str) -> None:
        now = values.get(field.name, field.default)
        usable = now if isinstance(now, int | float) and not isinstance(now, bool) else None

        def write(event: Any) -> None:
            value = event.value
            if isinstance(value, float) and value.is_integer() and field.kind == "integer":
                value = int(value)
            self.put(values, field, value)

        with self.place(path) as box:
            made = ui.number(field.label, value=usable, on_change=write).props("outlined dense debounce=250")
            if field.kind == "integer":
                made.props("step=1")
            _dress(made, field)
        self._tells(path, box, made)

    def _secret(self, values: Values, field: Field, path: str) -> None:
        kept = values.get(field.name)
        kept = kept if isinstance(kept, str) and kept.startswith(MASK) else None

        def write(event: Any) -> None:
            self.put(values, field, event.value or kept)

        def forget() -> None:
            nonlocal kept
            kept = None
            made.value = ""
            self.put(values, field, None)

        with self.place(path) as box, ui.element("div").classes("am-with-button"):
            made = ui.input(field.label, password=True, on_change=write)
            made.props("outlined dense debounce=250 autocomplete=new-password maxlength=4000")
            _dress(made, field)
            if kept:
                made._props["placeholder"] = f"Kept: {kept}. Type another one to replace it."
                made.props("stack-label")
                icon_button("backspace", f"Forget {field.label}", forget)
        self._tells(path, box, made)

    def _group(self, values: Values, field: Field, path: str) -> None:
        inner = values.get(field.name)
        if not isinstance(inner, dict):
            inner = {}
        written: dict[str, Any] = inner

        def touched() -> None:
            values[field.name] = written
            self._changed()

        with self.place(path), ui.element("fieldset").classes("am-rows"):
            with ui.element("legend"):
                ui.label(field.label)
            if field.help:
                ui.label(field.help).classes("am-soft")
            below = Form(touched)
            below._places, below.half = self._places, self.half
            for part in field.fields:
                below.field(written, part, f"{path}.{part.name}")

    def _rows(self, values: Values, field: Field, path: str) -> None:
        def draw(entry: Values, place: str) -> None:
            for part in field.fields:
                self.field(entry, part, f"{place}.{part.name}")

        self.rows(values, field, path, draw)

    def _json(self, values: Values, field: Field, path: str) -> None:
        now = values.get(field.name, field.default)
        shown = "" if now is None else json.dumps(now, indent=2, ensure_ascii=False)

        def write(event: Any) -> None:
            text = event.value or ""
            value, wrong = read_json(text)
            if wrong:
                made.error = wrong
                self.half[path] = text
                self._changed()
                return
            self.half.pop(path, None)
            self.put(values, field, value)

        with self.place(path) as box:
            made = ui.textarea(f"{field.label} (JSON)", value=self.half.get(path, shown), on_change=write)
            made.props(f"outlined dense autogrow debounce=400 maxlength={_LINES_CHARS}").classes("am-code")
            # Not by each change: it would take away what `write` says.
            made.without_auto_validation()
            if path in self.half:
                made.error = read_json(self.half[path])[1]
            _dress(made, field)
        self._tells(path, box, made)

    def _tells(self, path: str, box: ui.element, element: ValidationElement[Any]) -> None:
        self._places[path] = _Place(box, element)


class _Place:
    """Where the problems of one path are told."""

    def __init__(self, box: ui.element, element: ValidationElement[Any] | None) -> None:
        self._box = box
        self._element = element
        self._label: ui.label | None = None

    @property
    def alive(self) -> bool:
        return not self._box.is_deleted

    def tell(self, problems: list[Problem]) -> None:
        text = " ".join(f"{problem.message} {problem.hint}".strip() for problem in problems)
        if self._element is not None:
            self._element.error = text or None
            return
        if self._label is None:
            if not text:
                return
            with self._box:
                self._label = ui.label().classes("am-field-error").props("role=alert")
        self._label.text = text
        self._label.set_visibility(bool(text))


def _dress(element: ui.element, field: Field) -> None:
    if field.hint:
        element._props["hint"] = field.hint


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
