"""What a model is sent when one persona takes over from another, in a sample chat."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nicegui import ui

from agent_mode.admin import previews
from agent_mode.admin.pages.components import words
from agent_mode.admin.pages.components.banner import banner, error_banner
from agent_mode.admin.pages.components.buttons import link
from agent_mode.admin.pages.visit import Visit
from agent_mode.chat.scene import connection_for
from agent_mode.errors import AgentModeError, ProviderError
from agent_mode.prompts.reset import Identity
from agent_mode.prompts.strategies import Strategy
from agent_mode.prompts.templates import Templates

NOBODY = "–"
"""Stands for an answerer that is none of ours."""
_MOST = 300
"""So many personas are offered; the key of another one is typed."""
_OUTLINED = "outlined dense options-dense"


class SwitchPreview:
    """The preview.

    Args:
        visit: whose.
        to: who takes over, as it is now in the editor; None: it is chosen here.
        model: the model that it names, or "".
        strategy: of a model, in place of the one that it gets.
        templates: in place of the saved ones; raises what is wrong with the draft.
    """

    def __init__(
        self,
        visit: Visit,
        to: Callable[[], Identity] | None = None,
        model: Callable[[], str] | None = None,
        *,
        strategy: Callable[[str], Strategy | None] | None = None,
        templates: Callable[[], Templates] | None = None,
    ) -> None:
        self._visit = visit
        self._to = to
        self._model_of = model
        self._strategy = strategy
        self._templates = templates

    async def show(self) -> None:
        """Draws it where it is called."""
        keys = [persona.key for persona in self._visit.runtime.personas.all()]
        first = keys[0] if keys else NOBODY
        with ui.element("div").classes("am-form"):
            self._from = _choice("Who answered before", [NOBODY, *keys[:_MOST]], first, self.refresh)
            self._target = None
            if self._to is None:
                other = keys[1] if len(keys) > 1 else first
                self._target = _choice("Who takes over", keys[:_MOST], other, self.refresh)
            self._model = _choice("Model", [], "", self.refresh)
            self._base = (
                ui.input("The chat's own instructions (optional)", on_change=self.refresh)
                .props("outlined dense debounce=300 maxlength=4000")
                .classes("am-field")
            )
        self._out = ui.element("div").classes("am-fields")
        self.refresh()
        ui.timer(0, self._load_models, once=True)

    def refresh(self, *_: object) -> None:
        """Draws it anew."""
        self._out.clear()
        with self._out:
            try:
                self._draw()
            except AgentModeError as error:
                error_banner(error)

    async def _load_models(self) -> None:
        runtime = self._visit.runtime
        connection = connection_for(runtime, self._visit.backend.valves)
        try:
            offered = [str(entry["id"]) for entry in await runtime.llm.models(connection)]
            chosen = await runtime.llm.choose_model(connection, (self._model_of or str)() or None)
        except ProviderError as error:
            with self._out:
                banner(error.message, f"{error.hint} Until then, type the name of a model.", tone="warning")
            return
        self._model.set_options(list(dict.fromkeys([chosen, *offered])), value=self._model.value or chosen)

    def _draw(self) -> None:
        found = previews.preview(
            self._visit.runtime,
            self._visit.backend.valves,
            self._to() if self._to else self._known(self._target.value if self._target else ""),
            None if self._from.value in (NOBODY, "", None) else self._known(self._from.value),
            str(self._model.value or ""),
            base=self._base.value or "",
            strategy=self._strategy(str(self._model.value or "")) if self._strategy else None,
            templates=self._templates() if self._templates else None,
        )
        draw_reason(found)
        with ui.element("ol").classes("am-messages"):
            for message in found.messages:
                with ui.element("li"):
                    ui.label(str(message.get("role"))).classes("am-state")
                    words.code(previews.text_of(message))

    def _known(self, key: str | None) -> Identity:
        return previews.known(self._visit.runtime, key or "")


def draw_reason(found: previews.Preview) -> None:
    """Which strategy it is, why, and what the reset did."""
    if not found.switched:
        banner(
            "Nobody takes over here, so it is the plain system prompt.", "Choose somebody else.", tone="note"
        )
        return
    report, selection = found.report, found.selection
    with ui.element("div").classes("am-card"):
        with ui.row().classes("am-inline"):
            ui.label("Strategy").classes("am-soft")
            link(
                report.strategy, f"/strategies?model={found.model}" if _plain(found.model) else "/strategies"
            )
            ui.label(f"template {report.template}, placement {report.placement}")
            ui.label(f"pivot {report.pivot}, history {report.history}")
        ui.label(previews.reason(selection)).classes("am-soft")
        if report.fallbacks:
            ui.label(f"Fell back: {', '.join(report.fallbacks)}.").classes("am-soft")


def _plain(model: str) -> bool:
    return bool(model) and not set(model) & set("&#?%+ ")


def _choice(label: str, options: Sequence[str], value: str, changed: Callable[..., object]) -> ui.select:
    made = ui.select(
        list(dict.fromkeys([*options, *([value] if value else [])])),
        label=label,
        value=value or None,
        with_input=True,
        new_value_mode="add-unique",
        on_change=changed,
    )
    return made.props(_OUTLINED).classes("am-field")
