"""One valve in the form of its pipeline: its field, its name, what is default, and the way back to it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from typing import Any

from nicegui import ui

from agent_mode.admin.pages.components.buttons import icon_button
from agent_mode.admin.pages.components.schema_fields import Field, has_secret
from agent_mode.admin.pages.components.schema_form import Form

_SHOWN = 60
_SECRET = "secret: never shown, and not kept before it is saved"
_NONE = object()
_LEFT = "(event) => { if (!event.currentTarget.contains(event.relatedTarget)) emit() }"


class Row:
    """The valve of one name.

    Args:
        field: what it is.
        form: shows its problems.
        held: what the form holds; the field writes into it.
        is_changed: whether it holds something else than the default.
        reset: makes the valve as by default.
    """

    def __init__(
        self,
        field: Field,
        form: Form,
        held: dict[str, Any],
        is_changed: Callable[[str], bool],
        reset: Callable[[Field], object],
    ) -> None:
        self.field = field
        self._form = form
        self._held = held
        self._is_changed = is_changed
        self._reset = reset
        self._here = self._visited = self._due = False
        self._known: Any = _NONE
        self._box = ui.element("div").classes("am-valve").props("tabindex=-1")
        self._box.on("focusin", self._enter, [])
        self._box.on("focusout", self._leave, js_handler=_LEFT)

    def draw(self) -> None:
        """Shows what the form holds now."""
        self._due, self._visited = False, self._here
        self._known = self._now()
        self._box.clear()
        with self._box:
            self._form.field(self._held, self.field, self.field.name)
            with ui.element("div").classes("am-valve-foot"):
                ui.label(self.field.name).classes("am-code")
                ui.label(_default(self.field)).classes("am-soft am-cut")
                self._word = ui.label("changed").classes("am-state am-state--blue")
                self._button = icon_button(
                    "undo", f"Reset {self.field.label}", lambda: self._reset(self.field)
                )
        self.mark()

    def focus(self) -> None:
        """Has the focus, where the button that had it is gone; the next Tab goes to the field."""
        ui.run_javascript(f"getHtmlElement({self._box.id}).focus({{preventScroll: true}})")

    def mark(self) -> None:
        """Says whether it is as by default."""
        now = self._now()
        if now != self._known:  # somebody types
            self._known, self._visited, self._due = now, True, False
        changed = self._is_changed(self.field.name)
        self._word.set_visibility(changed)
        self._button.set_visibility(changed)

    def settle(self, field: Field, entered: Mapping[str, Any]) -> None:
        """Shows what holds, once it is saved: where somebody is in the field, after they have left it.

        Args:
            field: what it is now.
            entered: what a form would begin with now.
        """
        if self._here and self.field.kind in ("rows", "group"):
            return  # its fields write into what is there
        wanted = _copy(entered, field.name)
        if self._now() != wanted:
            self._held.pop(field.name, None)
            if wanted is not _NONE:
                self._held[field.name] = wanted
        self._due = self._visited or field != self.field or wanted != self._known
        self.field, self._known = field, wanted
        if self._due and not self._here:
            self.draw()
        else:
            self.mark()

    def _now(self) -> Any:
        return _copy(self._held, self.field.name)

    def _enter(self) -> None:
        self._here = self._visited = True

    def _leave(self) -> None:
        self._here = False
        if self._due:
            self.draw()


def _copy(values: Mapping[str, Any], name: str) -> Any:
    return copy.deepcopy(values[name]) if name in values else _NONE


def _default(field: Field) -> str:
    if field.required:
        return "must be set"
    if field.secret:
        return _SECRET
    if has_secret(field):
        return f"with a {_SECRET}"
    if field.default is None or field.default == "":
        return "default: empty"
    if isinstance(field.default, bool):
        return f"default: {'on' if field.default else 'off'}"
    text = field.default if isinstance(field.default, str) else json.dumps(field.default, ensure_ascii=False)
    text = " ".join(text.split())
    return f"default: {text[:_SHOWN]}{'…' if len(text) > _SHOWN else ''}"
