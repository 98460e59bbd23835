"""A select for lists of any length: the server looks up what fits while somebody types, and sends a part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nicegui import ui

Find = Callable[[str], dict[str, str]]
"""What fits a text best, the best first: how each is shown, by value. Of an empty text, what comes first."""
_SECONDS = 0.15
"""So often, at most, is it looked up while somebody types."""


class Finder(ui.select):
    """The select.

    Args:
        label: of the field.
        find: looks up what fits.
        value: what is chosen; None: nothing.
        shown: how that is shown.
        on_change: called with the event of each change.
    """

    def __init__(
        self,
        label: str,
        find: Find,
        value: str | None,
        shown: str,
        on_change: Callable[[Any], object],
    ) -> None:
        self._find = find
        self._sent: dict[str, str] = {}
        self._offered = find("")
        if value is not None:
            self._offered.setdefault(value, shown)
        super().__init__(
            self._offered, label=label, value=value, with_input=True, clearable=True, on_change=on_change
        )
        self._remember()
        self.on("input-value", self._typed, throttle=_SECONDS, leading_events=False)
        self.on_value_change(lambda: self._offer(""))  # whoever opens it again begins anew

    def _typed(self, event: Any) -> None:
        text = event.args if isinstance(event.args, str) else ""
        self._offer("" if text == self._offered.get(self.value) else text)

    def _offer(self, text: str) -> None:
        now = self._offered.get(self.value, "")
        found = self._find(text)
        if self.value is not None:
            found.setdefault(self.value, now)  # else nothing would be chosen any more
        if found != self._offered:
            self._offered = found
            self.set_options(found)
            self._remember()

    def _remember(self) -> None:
        self._sent |= {shown: value for value, shown in self._offered.items()}

    def _event_args_to_value(self, e: Any) -> Any:
        # By what the person saw: where it stood may be another one's place by now.
        shown = e.args.get("label") if isinstance(e.args, dict) else None
        if not isinstance(shown, str) or shown not in self._sent:
            return None
        value = self._sent[shown]
        if value not in self._offered:
            self._offered[value] = shown
            self._update_values_and_labels()
        return value
