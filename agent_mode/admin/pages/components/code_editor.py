"""A text in a code editor with colours, light or dark as the page is."""

from __future__ import annotations

from collections.abc import Callable

from nicegui import ui

_LIGHT, _DARK = "vscodeLight", "vscodeDark"
_IS_DARK = "document.body.classList.contains('body--dark')"


def code_editor(
    text: str,
    language: str,
    label: str,
    on_change: Callable[[str], object],
) -> ui.codemirror:
    """The editor.

    Args:
        text: what is in it.
        language: `Python` or `JSON`.
        label: for screen readers; page.js gives it to what one types into.
        on_change: gets the text whenever it was changed by the person.
    """
    box = ui.element("div").classes("am-code-box")
    box._props["role"] = "group"
    box._props["aria-label"] = label
    with box:
        editor = ui.codemirror(
            text,
            language=language,  # pyright: ignore[reportArgumentType]  one of hundreds
            theme=_LIGHT,
            line_wrapping=language != "Python",
            on_change=lambda event: on_change(event.value),
        ).classes("am-code-editor")
        _follow_colours(editor)
    hint = ui.label("Tab indents. Press Escape, then Tab to go on to the next field.").classes(
        "am-field-help"
    )
    box._props["aria-describedby"] = hint.html_id
    return editor


def _follow_colours(editor: ui.codemirror) -> None:
    """The browser alone knows which colours the page has; it says so, and again when they change."""
    name = f"am-colours-{editor.id}"

    def change(dark: bool) -> None:
        theme = _DARK if dark else _LIGHT
        # Only if it is another one: what is set is sent along with the whole text, and whoever is typing
        # would find the text as it was a moment ago.
        if not editor.is_deleted and editor.theme != theme:
            editor.theme = theme

    ui.on(name, lambda event: change(bool(event.args)))
    ui.timer(
        0,
        lambda: ui.run_javascript(
            f"const tell = () => emitEvent('{name}', {_IS_DARK}); tell();"
            "new MutationObserver(tell).observe(document.body, {attributeFilter: ['class']});"
        ),
        once=True,
    )
