"""Strategies and templates as files that the Agents page writes; which strategy a model gets and why."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent_mode.admin import previews
from agent_mode.admin import strategy_files as files
from agent_mode.admin.strategy_files import File
from agent_mode.chat.runtime import Runtime
from agent_mode.errors import AgentModeError, RequestError, StoreError, StrategyError, TemplateError
from agent_mode.prompts.reset import Identity
from agent_mode.prompts.strategies import SIMPLE_STRATEGY, SUFFIX, Selection
from agent_mode.prompts.templates import compile_template
from agent_mode.settings import ROOT, Settings
from agent_mode.valves import PersonaValves

TEXT = "You are {{agentName}}: {{agentInstructions}}\n"
SIMPLE = File("template", "simple")
OPENAI = File("strategies", "openai")


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[Runtime]:
    shutil.copytree(ROOT / "strategies", tmp_path / "strategies")
    (tmp_path / "personas").mkdir()
    opened = await Runtime.open(
        Settings(
            _env_file=None,  # pyright: ignore[reportCallIssue]
            data_dir=tmp_path,
            strategies_dir=tmp_path / "strategies",
            personas_dir=tmp_path / "personas",
        )
    )
    yield opened
    await opened.close()


async def test_a_saved_template_is_used_at_once_and_its_versions_bring_it_back(runtime: Runtime) -> None:
    shipped = await files.read(runtime, SIMPLE)
    saved = await files.save(
        runtime, SIMPLE, "You are {{agentName}}.\r\n{{agentInstructions}}", "Ann", shipped.mark
    )
    assert saved.text == "You are {{agentName}}.\n{{agentInstructions}}\n"
    values = {"agentName": "Bo", "agentInstructions": "Sing."}
    assert runtime.templates.get("simple").render(values) == "You are Bo.\nSing."

    history = await files.history(runtime, SIMPLE)
    assert [(v.number, v.author) for v in history] == [(2, "Ann"), (1, files.OUTSIDE)]
    assert await files.roll_back(runtime, SIMPLE, 1, "Bob") == shipped
    assert (await files.history(runtime, SIMPLE))[0].message == "rolled back to 1"
    with pytest.raises(StoreError) as refused:
        await files.roll_back(runtime, SIMPLE, 9, "Bob")
    assert refused.value.code == "unknown_version"


async def test_a_strategy_file_decides_at_once(runtime: Runtime) -> None:
    assert runtime.strategies.select("gpt-new-1").matched_by != "pattern"
    there = await files.read(runtime, OPENAI)
    document = json.loads(there.text)
    document["strategies"]["gpt-new*"] = document["strategies"]["gpt-standard"]
    await files.save(runtime, OPENAI, json.dumps(document), "Ann", there.mark)
    assert runtime.strategies.select("gpt-new-1").strategy.id == "gpt-new*"


@pytest.mark.parametrize(
    ("file", "text", "error"),
    [
        (SIMPLE, "You are {{agentName}}.", TemplateError),
        (OPENAI, "{", StrategyError),
        (OPENAI, json.dumps({"provider": "acme", "default": "a", "strategies": {}}), StrategyError),
        (SIMPLE, TEXT + "x" * files.SIZE_LIMIT, StrategyError),
    ],
)
async def test_what_cannot_be_used_is_not_written(
    runtime: Runtime, file: File, text: str, error: type[AgentModeError]
) -> None:
    before = await files.read(runtime, file)
    with pytest.raises(error):
        await files.save(runtime, file, text, "Ann", before.mark)
    assert await files.read(runtime, file) == before
    assert await files.history(runtime, file) == []


async def test_what_is_odd_is_said(runtime: Runtime) -> None:
    [odd] = files.check(runtime, SIMPLE, TEXT + "{{nonsense}}")
    assert "{{nonsense}} is no variable" in odd.message
    text = (await files.read(runtime, OPENAI)).text.replace(
        '"hierarchical",\n      "assert', '"gone",\n      "assert'
    )
    assert {"gone" in error.message for error in files.check(runtime, OPENAI, text)} == {True}


async def test_of_two_authors_the_second_is_told(runtime: Runtime, tmp_path: Path) -> None:
    seen = (await files.read(runtime, SIMPLE)).mark
    await files.save(runtime, SIMPLE, TEXT, "Ann", seen)
    with pytest.raises(StoreError, match="changed meanwhile by Ann") as refused:
        await files.save(runtime, SIMPLE, TEXT + "More.", "Bob", seen)
    assert refused.value.code == "stale_version"
    mine = await files.save(runtime, SIMPLE, TEXT + "More.", "Bob", None)

    path = tmp_path / "strategies" / "templates" / "simple.txt"
    path.write_text(TEXT + "By hand.\n")
    with pytest.raises(StoreError, match="outside of the Agents page"):
        await files.save(runtime, SIMPLE, TEXT, "Bob", mine.mark)
    await files.save(runtime, SIMPLE, TEXT, "Bob", None)
    texts = [version.text for version in await files.history(runtime, SIMPLE)]
    assert TEXT + "By hand.\n" in texts
    assert path.read_text() == TEXT


async def test_a_folder_that_cannot_be_written_is_said_readably(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Path, __: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    before = await files.read(runtime, SIMPLE)
    monkeypatch.setattr(Path, "replace", full)  # root may write into any folder
    with pytest.raises(StoreError, match="Read-only file system") as refused:
        await files.save(runtime, SIMPLE, TEXT, "Ann", before.mark)
    assert refused.value.code == "strategies_not_written"
    assert "AGENT_MODE_STRATEGIES_DIR" in refused.value.hint
    assert await files.read(runtime, SIMPLE) == before
    folder = runtime.settings.strategies_dir / "templates"
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


async def test_a_template_is_made_and_deleted_and_made_again(runtime: Runtime) -> None:
    fresh = File("template", "fresh")
    await files.save(runtime, fresh, TEXT, "Ann", "")
    assert "fresh" in runtime.templates.names()
    with pytest.raises(StoreError) as refused:
        await files.save(runtime, fresh, TEXT, "Ann", "")
    assert refused.value.code == "strategy_file_exists"
    gone = await files.delete(runtime, fresh, "Ann")
    assert "fresh" not in runtime.templates.names()
    await files.save(runtime, fresh, gone.text, "Ann", "")
    assert fresh in files.listed(runtime)
    with pytest.raises(RequestError) as used:
        await files.delete(runtime, File("template", "hierarchical"), "Ann")
    assert used.value.code == "strategy_file_in_use"


@pytest.mark.parametrize("name", ["", "../secrets", "a/b", ".hidden", "x" * 65, "é"])
def test_a_name_never_leads_out_of_the_folder(name: str) -> None:
    with pytest.raises(RequestError):
        File("template", name)


async def test_the_oldest_versions_go(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "KEPT", 3)
    for number in range(5):
        await files.save(runtime, SIMPLE, f"{TEXT}{number}", "Ann", None)
    # The first stays: a reset goes back to it.
    assert [version.number for version in await files.history(runtime, SIMPLE)] == [6, 5, 4, 1]


async def test_the_preview_is_what_a_turn_sends(runtime: Runtime) -> None:
    ann, bob = Identity("ann", "Ann", "Be Ann."), Identity("bob", "Bob", "Be Bob.")
    shown = previews.preview(
        runtime, PersonaValves.model_validate({}), bob, ann, "gpt-4o", base="Answer in French."
    )
    texts = [previews.text_of(message) for message in shown.messages]
    assert (shown.selection.strategy.id, shown.report.template, shown.switched) == (
        "gpt-4o*",
        "hierarchical",
        True,
    )
    assert "Be Bob." in texts[0]
    assert "Answer in French." in texts[0]
    assert not any("Be Ann." in text for text in texts)
    same = previews.preview(runtime, PersonaValves.model_validate({}), bob, bob, "gpt-4o")
    assert (same.switched, same.report.template) == (False, None)
    draft = previews.Drafted(
        runtime.templates, compile_template("hierarchical", "Lo, {{agentName}}. {{agentInstructions}}")
    )
    drafted = previews.preview(
        runtime, PersonaValves.model_validate({}), bob, None, "gpt-4o", templates=draft
    )
    assert "Lo, Bob. Be Bob." in previews.text_of(drafted.messages[0])


async def test_the_reason_says_where_it_was_found(runtime: Runtime) -> None:
    reasons = {
        "claude-3-opus-20240229": "exactly this model",
        "gpt-4o-mini": "“gpt-4o*” in openai",
        "claude-someday": "whose default this is",
        "unheard-of": f"the default of default{SUFFIX}",
    }
    for model, words in reasons.items():
        assert words in previews.reason(runtime.strategies.select(model)), model
    assert "built-in" in previews.reason(Selection(SIMPLE_STRATEGY, "global", ""))
