"""Templates: what compiles, what is rendered, and what the shipped ones say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_mode.errors import TemplateError
from agent_mode.prompts.guard import clean_instructions
from agent_mode.prompts.templates import ALLOWED, MINIMAL, SIMPLE, TemplateSet, compile_template
from agent_mode.prompts.watch import INTERVAL

SHIPPED = Path(__file__).parents[2] / "strategies" / "templates"
NAMES = [
    "calm-markdown",
    "calm-plain",
    "calm-xml",
    "direct-command",
    "hierarchical",
    "minimal",
    "simple",
    "xml-tags-high",
]
FULL = {
    "agentName": "Coder",
    "agentInstructions": "Write code.\n\nTest it.",
    "previousAgentName": "Poet",
    "baseInstructions": "Answer in Welsh.",
}
CORE = "{{agentName}}: {{agentInstructions}}"


def test_variables_are_filled() -> None:
    template = compile_template("t", "{{agentName}} after {{ previousAgentName }}\n\n{{agentInstructions}}\n")
    assert template.render(FULL) == "Coder after Poet\n\nWrite code.\n\nTest it."
    assert template.name == "t"


@pytest.mark.parametrize("missing", ["agentName", "agentInstructions"])
def test_required_variable_missing(missing: str) -> None:
    with pytest.raises(TemplateError) as caught:
        compile_template("mine", CORE.replace("{{" + missing + "}}", ""))
    assert "mine" in caught.value.message
    assert missing in caught.value.message
    assert missing in caught.value.hint
    assert caught.value.field == missing


def test_variables_are_case_sensitive() -> None:
    with pytest.raises(TemplateError):
        compile_template("t", "{{agentname}} {{agentInstructions}}")


@pytest.mark.parametrize(
    "junk", ["{{unknown}}", "{{ user.name }}", "{{#if x}}", "{{}}", "{{a|b}}", "{{{{x}}}}", "{{multi\nline}}"]
)
def test_unknown_placeholders_are_removed(junk: str) -> None:
    assert compile_template("t", f"Hello {junk}, {CORE}").render(FULL) == (
        "Hello, Coder: Write code.\n\nTest it."
    )


def test_paragraph_of_an_unknown_placeholder_leaves_no_gap() -> None:
    template = compile_template("t", "{{agentName}}\n\n{{unknown}}\n\n{{agentInstructions}}")
    assert template.render({"agentName": "A", "agentInstructions": "B"}) == "A\n\nB"


def test_paragraph_with_only_empty_variables_is_dropped() -> None:
    template = compile_template(
        "t",
        "{{agentName}}\r\n \r\n## Base\r\n{{baseInstructions}}\r\n\r\nFixed.\r\n\r\n{{agentInstructions}}",
    )
    assert (
        template.render({**FULL, "baseInstructions": " \n"}) == "Coder\n\nFixed.\n\nWrite code.\n\nTest it."
    )
    assert "## Base\nAnswer in Welsh." in template.render(FULL)
    assert template.render({}) == "Fixed."


def test_paragraph_with_one_filled_variable_stays() -> None:
    template = compile_template("t", "{{agentName}} not {{previousAgentName}}.\n\n{{agentInstructions}}")
    assert template.render({"agentName": "A", "agentInstructions": "B"}) == "A not .\n\nB"


def test_percent_signs_and_braces_are_text() -> None:
    template = compile_template("t", "100% {sure} %(agentName)s %s {{agentName}}: {{agentInstructions}}")
    assert template.render({"agentName": "50%s", "agentInstructions": "%d {x}"}) == (
        "100% {sure} %(agentName)s %s 50%s: %d {x}"
    )


hostile = st.lists(st.sampled_from(["{{agentName}}", "{{", "}}", "%s", "%(agentName)s", "\\1", "a", "\n"]))


@given(st.dictionaries(st.sampled_from(ALLOWED), hostile.map("".join)))
def test_values_are_never_expanded(values: dict[str, str]) -> None:
    filled = {name: f"«{values.get(name, '')}»" for name in ALLOWED}
    template = compile_template("t", "|".join("{{" + name + "}}" for name in ALLOWED))
    assert template.render(filled) == "|".join(filled[name] for name in ALLOWED)


def test_shipped_templates_are_complete() -> None:
    shipped = TemplateSet(SHIPPED)
    assert shipped.names() == NAMES
    assert shipped.errors() == {}


@pytest.mark.parametrize("name", NAMES)
def test_shipped_template_is_tidy(name: str) -> None:
    text = (SHIPPED / f"{name}.txt").read_text(encoding="utf-8")
    assert set(re.findall(r"\{\{(.*?)\}\}", text)) <= set(ALLOWED)
    template = TemplateSet(SHIPPED).get(name)
    full = template.render(FULL)
    assert "Coder" in full
    assert FULL["agentInstructions"] in full
    for empty in ("previousAgentName", "baseInstructions"):
        rendered = template.render({**FULL, empty: ""})
        assert FULL[empty] not in rendered
        assert "\n\n\n" not in rendered
        assert not re.search(r"(?m)(^|[:#>] )\s*[.,]| {2,}\S", rendered)
        assert not rendered.endswith(":")
    if name != "minimal":
        assert "Poet" in full
        assert "Answer in Welsh." in full
    # The base instructions arrive in a tag of their own, by which they are found again at the next switch.
    assert "<base_instructions" not in text


@pytest.mark.parametrize("name", NAMES)
def test_persona_text_cannot_forge_a_shipped_template(name: str) -> None:
    for tag in re.findall(r"</?\w+>", (SHIPPED / f"{name}.txt").read_text(encoding="utf-8")):
        assert clean_instructions(tag) == "‹" + tag[1:]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("xml-tags-high", ["<system_reset>", "</system_reset>", "<new_identity>", "</new_identity>"]),
        ("hierarchical", ["PRIORITY OVERRIDE"]),
        ("direct-command", ["SYSTEM COMMAND: ROLE CHANGE"]),
        ("minimal", ["You are now Coder. Follow these instructions: Write code."]),
    ],
)
def test_classic_templates_keep_their_marks(name: str, words: list[str]) -> None:
    rendered = TemplateSet(SHIPPED).get(name).render(FULL)
    assert all(word in rendered for word in words)


@pytest.mark.parametrize("name", ["calm-markdown", "calm-plain", "calm-xml"])
def test_calm_templates_say_who_when_what_and_whose(name: str) -> None:
    rendered = TemplateSet(SHIPPED).get(name).render(FULL)
    for words in ("The person in this chat", "operator", "next reply", "stays valid", "safety", "by Poet"):
        assert words in rendered
    assert not re.search(r"\b(IGNORE|OVERRIDE|RESET|COMMAND)\b", rendered)


@pytest.mark.parametrize("builtin", [MINIMAL, SIMPLE])
def test_builtin_templates_equal_the_files(builtin: object) -> None:
    assert builtin == TemplateSet(SHIPPED).get(getattr(builtin, "name"))  # noqa: B009


def test_unknown_template_names_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text(CORE)
    with pytest.raises(TemplateError) as caught:
        TemplateSet(tmp_path).get("two")
    assert "two" in caught.value.message
    assert "one" in caught.value.hint


def test_broken_template_leaves_the_others(tmp_path: Path) -> None:
    (tmp_path / "good.txt").write_text(CORE)
    (tmp_path / "bad.txt").write_text("{{agentName}}")
    templates = TemplateSet(tmp_path)
    assert templates.names() == ["good"]
    assert templates.get("good").render(FULL).startswith("Coder")
    with pytest.raises(TemplateError, match="agentInstructions"):
        templates.get("bad")
    assert list(templates.errors()) == ["bad"]


def test_edit_is_live_and_a_broken_one_keeps_the_last_good(tmp_path: Path) -> None:
    now = 0.0
    file = tmp_path / "one.txt"
    file.write_text(CORE)
    templates = TemplateSet(tmp_path, clock=lambda: now)
    file.write_text("New: " + CORE)
    assert not templates.get("one").render(FULL).startswith("New")
    now += INTERVAL
    assert templates.get("one").render(FULL).startswith("New")
    file.write_text("half-writ")
    now += INTERVAL
    assert templates.get("one").render(FULL).startswith("New")
    assert list(templates.errors()) == ["one"]
    file.unlink()
    now += INTERVAL
    with pytest.raises(TemplateError, match="no template one"):
        templates.get("one")
