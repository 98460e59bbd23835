"""The docs name what there is, their examples run, and their links lead somewhere."""

from __future__ import annotations

import ast
import contextlib
import importlib
import io
import json
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest

import agent_mode
from agent_mode import valves
from agent_mode.__main__ import main
from agent_mode.chat import commands, console, parsed
from agent_mode.errors import AgentModeError
from agent_mode.observe import hooks
from agent_mode.prompts import strategies, templates
from agent_mode.server import auth
from agent_mode.settings import ROOT, Settings
from agent_mode.store import failures
from agent_mode.store.forms import RESERVED_KEYS, PersonaForm
from tests.docs import BLOCK, DOCS, PAGES, blocks, text_of

PACKAGE = ROOT / "agent_mode"

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


def missing(names: Iterator[str] | list[str], text: str) -> list[str]:
    """Those that do not stand in the text as code."""
    return sorted({name for name in names if f"`{name}`" not in text})


def test_every_setting_is_documented() -> None:
    names = [
        str(field.validation_alias or f"AGENT_MODE_{name.upper()}")
        for name, field in Settings.model_fields.items()
    ]
    assert not missing(names, text_of("settings.md"))


@pytest.mark.parametrize(
    "kind", [valves.PersonaValves, valves.HotswapValves, valves.AgentValves, valves.CustomPythonValves]
)
def test_every_valve_is_documented(kind: type[valves.Valves]) -> None:
    assert not missing(list(kind.model_fields), text_of("settings.md"))


@pytest.mark.parametrize(
    ("heading", "kind"),
    [
        ("## Valves of the `personas`", valves.PersonaValves),
        ("## Valves of the `hotswap`", valves.HotswapValves),
        ("## Valves of every agent", valves.CustomPythonValves),
    ],
)
def test_the_defaults_of_valves_in_the_docs_are_true(heading: str, kind: type[valves.Valves]) -> None:
    section = text_of("settings.md").partition(heading)[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]*) \|", section, re.MULTILINE))
    assert rows
    for name, shown in rows.items():
        default = kind.model_fields[name].default
        default = ",".join(default) if isinstance(default, list) else default
        words = {"True": "on", "False": "off"}.get(str(default), str(default))
        assert (name, shown.strip("`")) == (name, words)


def error_codes() -> set[str]:
    """Codes of the error classes, those given as `code="…"`, and those that a function `_code` returns."""
    for module in pkgutil.walk_packages(agent_mode.__path__, "agent_mode."):
        if "migrations" not in module.name and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found = {AgentModeError.code, failures.DATA_REFUSED, *(kind.code for kind in subclasses(AgentModeError))}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "code":
                found.update(strings(node.value))
            elif isinstance(node, ast.FunctionDef) and node.name == "_code":
                returned = [part.value for part in ast.walk(node) if isinstance(part, ast.Return)]
                found.update(text for value in returned if value for text in strings(value))
    return found


def subclasses(kind: type[AgentModeError]) -> Iterator[type[AgentModeError]]:
    for child in kind.__subclasses__():
        if child.__module__.startswith("agent_mode"):
            yield child
            yield from subclasses(child)


def strings(node: ast.expr) -> Iterator[str]:
    """The string constants that an expression may come to."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from strings(node.body)
        yield from strings(node.orelse)


def test_every_error_code_is_documented() -> None:
    codes = error_codes()
    assert {"provider_auth", "database_busy", "data_refused", "bad_request"} <= codes
    assert not missing(list(codes), text_of("troubleshooting.md"))


def test_every_event_is_documented_with_its_fields() -> None:
    rows = dict(re.findall(r"^\| `([\w.]+)` \|(.*)$", text_of("events.md"), re.MULTILINE))
    assert set(rows) == set(hooks.EVENTS)
    common = {field.name for field in fields(hooks.Event)}
    for name, kind in hooks.EVENTS.items():
        assert not missing([field.name for field in fields(kind) if field.name not in common], rows[name])


def test_every_open_route_is_in_the_table_of_the_security_model() -> None:
    table = text_of("security.md").partition("## Who can call what")[2].partition("\n\n| Route")[2]
    shown = re.findall(r"`GET (/[^`]*)`", table.partition("\n\n")[0])
    assert set(shown) == auth.OPEN_PATHS


def test_every_public_name_is_documented() -> None:
    assert not missing(list(agent_mode.__all__), text_of("library.md"))


def test_every_chat_command_is_documented() -> None:
    page = text_of("switch-personas.md")
    helped = re.findall(r"`(!agent[^`]*|![a-z]+)`", console.help_text("!"))
    assert helped
    assert not missing([*helped, *(f"!{word}" for word in commands.RESET_WORDS)], page)
    kinds = set(get_args(parsed.Kind)) - {"persona"}
    typed = {"bind": "persona1"}  # the other kinds are called as they are typed
    unnamed = {kind for kind in kinds if not re.search(rf"`!(agent )?{typed.get(kind, kind)}\b", page)}
    assert not unnamed


def test_every_command_of_the_program_is_documented(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    listed = capsys.readouterr().out.partition("  command\n")[2].partition("\n\n")[0]
    found = re.findall(r"^    ([a-z]+)", listed, re.MULTILINE)
    assert "serve" in found
    assert not missing([f"python -m agent_mode {name}" for name in found], text_of("command-line.md"))


def test_every_value_of_a_strategy_is_documented() -> None:
    page = text_of("strategies.md")
    kinds = (strategies.Type, strategies.Level, strategies.Placement, strategies.Pivot)
    values = [value for kind in (*kinds, strategies.History, strategies.Handling) for value in get_args(kind)]
    fields = [str(field.alias) for field in strategies._EntryModel.model_fields.values()]
    variables = [f"{{{{{name}}}}}" for name in templates.ALLOWED]
    names = [path.stem for path in (ROOT / "strategies" / "templates").glob("*.txt")]
    assert not missing(values + fields + variables + names, page)


def test_the_table_of_models_is_what_the_shipped_strategies_say() -> None:
    section = text_of("strategies.md").partition("| Model id |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \| `([^`]+)` \|$", section, re.MULTILINE)
    book = strategies.StrategyBook(ROOT / "strategies")
    assert len(rows) > 5
    for model, entry, template in rows:
        strategy = book.select(model).strategy
        assert (model, strategy.id, strategy.template) == (model, entry, template)


def test_the_strategy_file_of_the_docs_can_be_used(tmp_path: Path) -> None:
    example = next(content for language, content in blocks(text_of("strategies.md")) if language == "json")
    (tmp_path / "acme-prompt-strategies.json").write_text(example, encoding="utf-8")
    book = strategies.StrategyBook(tmp_path)
    assert not book.errors()
    assert book.select("acme-2-mini").strategy.history == "relabel"
    assert book.select("acme-2").strategy.id == "acme-standard"


def test_the_persona_of_the_docs_can_be_used() -> None:
    page = text_of("personas.md")
    example = next(content for language, content in blocks(page) if language == "json")
    assert PersonaForm.model_validate_json(example).key == "sommelier"
    reserved = {key for key in RESERVED_KEYS if not re.fullmatch(r"persona[2-8]", key)}
    assert not missing(list(reserved), page)


def python_examples() -> list[Any]:
    """Each Python block of the docs, with the text block below it: what it prints."""
    examples: list[Any] = []
    for page in PAGES:
        found = list(blocks(page.read_text(encoding="utf-8")))
        for number, (language, code) in enumerate(found):
            if language == "python":
                after = found[number + 1] if number + 1 < len(found) else ("", "")
                printed = after[1] if after[0] == "text" else ""
                examples.append(pytest.param(code, printed, id=f"{page.name}-{number}"))
    return examples


@pytest.mark.parametrize(("code", "printed"), python_examples())
def test_the_python_examples_run(code: str, printed: str) -> None:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, "example", "exec"), {"__name__": "example"})
    assert out.getvalue() == printed


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_json_in_the_docs_can_be_read(page: Path) -> None:
    for language, content in blocks(page.read_text(encoding="utf-8")):
        if language == "json":
            json.loads(content)


def anchors(page: Path) -> set[str]:
    """The names of a page's headings, as GitHub makes them."""
    headings = _HEADING.findall(BLOCK.sub("", page.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in _LINK.findall(BLOCK.sub("", page.read_text(encoding="utf-8"))):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        if anchor:
            assert anchor in anchors(there), target


def test_every_page_can_be_reached_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert not [page.name for page in DOCS.glob("*.md") if f"(docs/{page.name})" not in readme]


def test_every_page_of_the_agents_page_has_its_picture() -> None:
    """`./test.sh e2e --screenshots` takes them; docs/admin-page.md says that there are all."""
    code = (ROOT / "tests" / "e2e" / "test_screenshots.py").read_text(encoding="utf-8")
    taken = [path.partition("?")[0] for path in re.findall(r'"(/[^"]*)"', code)]
    pages = PACKAGE / "admin" / "pages"
    for path in re.findall(r'^@page\("([^"]+)"', "\n".join(p.read_text() for p in pages.glob("*.py")), re.M):
        if path.endswith(("/new/file", "/new/template", "/new/{template}")):
            continue  # as the page of one that there is, but empty
        if path in ("/runs/{run_id}", "/personas/backups/{name}"):  # reached by a click
            continue
        pattern = re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path))
        assert [one for one in taken if re.fullmatch(pattern, one)], path
    names = {path.name for path in (DOCS / "images" / "admin").glob("*.png")}
    assert {name.replace("-dark.", "-light.") for name in names if "-dark." in name} == {
        name for name in names if "-light." in name
    }
    named = set(re.findall(r'^    "([\w-]+)": "/', code, re.M)) | {"run", "backup", "publish", "sign-in"}
    assert {f"{name}-light.png" for name in named} == {name for name in names if "-light." in name}
