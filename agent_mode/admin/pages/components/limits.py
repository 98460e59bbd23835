"""What is too much for the page: a paste or drop that no field takes is refused in the browser.

Sent on, it would be longer than what the page's connection carries, and break that off.
"""

from __future__ import annotations

from nicegui import ui

LARGEST = 600_000
"""Bytes of text that one paste may bring; all fields hold less."""

_SCRIPT = """
<script>
for (const kind of ["paste", "drop"]) {
  document.addEventListener(kind, (event) => {
    const data = event.clipboardData || event.dataTransfer;
    const text = data ? data.getData("text") : "";
    if (text.length * 3 <= LARGEST || new TextEncoder().encode(text).length <= LARGEST) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    Quasar.Notify.create({
      message: "That is too much text for a field. Nothing was changed.",
      position: "bottom", timeout: 12000, classes: "am-toast am-toast--error",
    });
  }, true);
}
</script>
"""


def install() -> None:
    """For all pages; call it once."""
    ui.add_head_html(_SCRIPT.replace("LARGEST", str(LARGEST)), shared=True)
