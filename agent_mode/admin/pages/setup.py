"""Setup: what to paste into Open WebUI, which of the steps are done, and how to do the next one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

from nicegui import ui

from agent_mode.admin import findings
from agent_mode.admin import setup as checks
from agent_mode.admin.findings import Finding
from agent_mode.admin.pages.components import toast
from agent_mode.admin.pages.components.banner import banner
from agent_mode.admin.pages.components.buttons import button, icon_button
from agent_mode.admin.pages.components.shell import heading
from agent_mode.admin.pages.page import page
from agent_mode.admin.pages.visit import Visit
from agent_mode.admin.setup import Facts
from agent_mode.llm.connection import Connection

_ICONS = {"done": "check_circle", "open": "radio_button_unchecked", "wrong": "error_outline"}
_WORDS = {"done": "done", "open": "not done yet", "wrong": "does not work"}
_HIDDEN = "••••••••••••••••"
# Clipboards are for pages over TLS and on the own machine; elsewhere an older way does.
_COPY = """
(async (text) => {
  try { await navigator.clipboard.writeText(text); return true; } catch (error) {}
  const box = document.createElement("textarea");
  box.value = text;
  document.body.append(box);
  box.select();
  const copied = document.execCommand("copy");
  box.remove();
  return copied;
})(TEXT)
"""


@page("/setup", title="Setup", icon="rocket_launch", place=70)
async def setup(visit: Visit) -> None:
    """The connection, and the steps."""
    heading("Setup", "From this server to a chat in Open WebUI.")
    with ui.element("div").classes("am-halves"):
        with ui.element("section").classes("am-card am-stack"):
            _draw_connection(visit)
        with ui.element("section").classes("am-card am-stack"):
            with ui.element("h2"):
                ui.label("Let users in")
            ui.label(
                "New models are the admins' alone. Publishing gives them to groups, with tag, description "
                "and picture; Open WebUI's own permissions hold."
            )
            button("Publish agents and personas", to="/setup/publish", icon="publish")
    with ui.element("section").classes("am-card am-stack"):
        _Steps(visit).draw()


def _draw_connection(visit: Visit) -> None:
    with ui.element("h2"):
        ui.label("Connect Open WebUI")
    ui.label(
        "Admin Panel → Settings → Connections, + beside Manage OpenAI API Connections. Paste these two; "
        "leave the rest as it is."
    )
    address = ui.context.client.request.url
    url = f"{address.scheme}://{address.netloc}"
    _draw_value("URL", lambda: url, shown=True)
    ui.label(
        f"If Open WebUI runs in a container on the same machine: "
        f"{address.scheme}://host.docker.internal:{address.port or 80}, and this server with HOST=0.0.0.0."
    ).classes("am-soft am-small")

    def key() -> str:
        visit.record("read", "connection key", "")
        return visit.backend.connection_key

    _draw_value("Key", key, shown=False)


def _draw_value(name: str, value: Callable[[], str], *, shown: bool) -> None:
    """A value to copy; a secret one leaves the server only when it is asked for."""
    with ui.element("div").classes("am-copy"):
        ui.label(name).classes("am-soft")
        text = ui.label(value() if shown else _HIDDEN).classes("am-code am-copy-text")
        if not shown:

            def turn() -> None:
                hidden = text.text == _HIDDEN
                text.text = value() if hidden else _HIDDEN
                eye.props(f"icon={'visibility_off' if hidden else 'visibility'}")
                eye._props["aria-label"] = f"{'Hide' if hidden else 'Show'} {name.lower()}"
                eye.update()

            eye = icon_button("visibility", f"Show {name.lower()}", turn)

        async def copy() -> None:
            copied = await ui.run_javascript(_COPY.replace("TEXT", json.dumps(value())), timeout=5)
            toast.done(f"{name} copied." if copied else "The browser did not allow it. Select and copy it.")

        icon_button("content_copy", f"Copy {name.lower()}", copy)


class _Steps:
    """The checks, which begin when the page is there and run side by side."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._findings: dict[str, Finding] = {}

    def draw(self) -> None:
        with ui.element("div").classes("am-row-head"):
            with ui.element("h2"):
                ui.label("Is all in place?")
            self._again = button("Check again", self._run, icon="refresh")
        self._next = ui.element("div")
        with ui.element("ol").classes("am-steps"):
            self._rows = {step: ui.element("li") for step in checks.steps(self._facts())}
        for step in self._rows:
            self._show(step)
        ui.timer(0, self._run, once=True)

    def _facts(self) -> Facts:
        runtime, valves = self._visit.runtime, self._visit.backend.valves
        return checks.facts_of(
            runtime.settings,
            llm_base_url=valves.llm_base_url,
            llm_api_key=valves.llm_api_key,
            llm_model=valves.llm_model,
            connection_key=self._visit.backend.connection_key,
            offered=frozenset(model.id for model in self._visit.backend.models()),
        )

    async def _run(self) -> None:
        self._again.disable()
        self._findings.clear()
        self._next.clear()
        for step in self._rows:
            self._show(step)
        facts = self._facts()
        try:
            await asyncio.gather(*(self._check(step, facts) for step in self._rows))
        finally:
            self._again.enable()
        for finding in findings.folded([self._findings[step] for step in self._rows]):
            if finding != self._findings[finding.step]:
                self._findings[finding.step] = finding
                self._show(finding.step)
        self._show_next(facts)

    async def _check(self, step: str, facts: Facts) -> None:
        try:
            async with asyncio.timeout(findings.SECONDS):
                finding = await asyncio.to_thread(checks.STEPS[step], facts)
        except TimeoutError:
            finding = findings.late(step)
        self._findings[step] = finding
        self._show(step)

    def _show(self, step: str) -> None:
        finding, row = self._findings.get(step), self._rows[step]
        row.clear()
        row.classes(replace=f"am-step am-step--{finding.state if finding else 'busy'}")
        with row:
            if finding is None:
                ui.spinner(size="1.25rem").props('aria-label="Checking"')
            else:
                ui.icon(_ICONS[finding.state]).props("role=img")._props["aria-label"] = _WORDS[finding.state]
            with ui.element("div"):
                ui.label(findings.TITLES[step]).classes("am-strong")
                if finding is not None:
                    ui.label(finding.text)
                    if finding.cure:
                        ui.label(finding.cure).classes("am-soft")

    def _show_next(self, facts: Facts) -> None:
        found = [self._findings[step] for step in self._rows]
        following = findings.next_step(found)
        with self._next:
            if following is None:
                banner("All is in place.", "Start a chat in Open WebUI and pick a model.", tone="good")
            else:
                tone = "error" if following.state == "wrong" else "note"
                words = "This does not work" if following.state == "wrong" else "This is next"
                banner(f"{words}: “{following.title}”. {following.text}", following.cure, tone=tone)
            if isinstance(facts.llm, Connection) and facts.llm.kind == "openwebui":
                ui.label("The LLM is Open WebUI's own: its models answer for the personas.").classes(
                    "am-soft"
                )
