"""Which model gets which strategy, what a strategy file must be, and what the shipped ones are."""

from __future__ import annotations

import json
import threading
import timeit
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_mode.prompts.strategies import SIMPLE_STRATEGY, SUFFIX, StrategyBook
from agent_mode.prompts.templates import TemplateSet
from agent_mode.prompts.watch import INTERVAL

SHIPPED = Path(__file__).parents[2] / "strategies"
PROVIDERS = [
    "anthropic",
    "cohere",
    "deepseek",
    "default",
    "google",
    "meta",
    "mistral",
    "openai",
    "qwen",
    "xai",
]


@pytest.fixture(scope="module")
def shipped() -> StrategyBook:
    return StrategyBook(SHIPPED)


def entry(**fields: Any) -> dict[str, Any]:
    return {"type": "simple", "agentSwitchTemplate": "simple", **fields}


def write(folder: Path, name: str, strategies: dict[str, Any], **fields: Any) -> Path:
    data = {"provider": name, "default": next(iter(strategies)), "strategies": strategies, **fields}
    file = folder / f"{name}{SUFFIX}"
    file.write_text(json.dumps(data), encoding="utf-8")
    return file


# The critical cases: model id, how it is found, id of the strategy, template.
CASES = [
    ("claude-standard", "exact", "claude-standard", "xml-tags-high"),
    ("claude", "provider", "claude-standard", "xml-tags-high"),
    ("claude-someday", "provider", "claude-standard", "xml-tags-high"),
    ("claude-2.1", "pattern", "claude-2*", "xml-tags-high"),
    ("claude-3-haiku-20240307", "pattern", "claude-3*", "xml-tags-high"),
    ("claude-3-opus-20240229", "exact", "claude-3-opus-20240229", "xml-tags-high"),
    ("claude-3-5-sonnet", "pattern", "claude-3-5-sonnet*", "xml-tags-high"),
    ("claude-3-5-sonnet-20241022", "pattern", "claude-3-5-sonnet*", "xml-tags-high"),
    ("openrouter/anthropic/claude-3.5-sonnet:beta", "pattern", "claude-3*", "xml-tags-high"),
    ("bedrock/us.anthropic.claude-3-opus-20240229-v1:0", "exact", "claude-3-opus-20240229", "xml-tags-high"),
    ("claude-3-opus@20240229", "pattern", "claude-3*", "xml-tags-high"),
    ("claude-opus-4-20250514", "pattern", "claude-opus-4*", "xml-tags-high"),
    ("claude-opus-4-1-20250805", "pattern", "claude-opus-4*", "xml-tags-high"),
    ("claude-sonnet-4-20250514", "pattern", "claude-sonnet-4*", "xml-tags-high"),
    ("claude-sonnet-4-5-20250929", "pattern", "claude-sonnet-4[-.][5-9]*", "calm-xml"),
    ("anthropic/claude-opus-4.6", "pattern", "claude-opus-4[-.][5-7]*", "calm-xml"),
    ("Claude-Haiku-4-5", "pattern", "claude-haiku-4[-.][5-9]*", "calm-xml"),
    ("claude-opus-4-8", "pattern", "claude-opus-4[-.][89]*", "calm-xml"),
    ("eu.anthropic.claude-opus-4-8-v1:0", "pattern", "anthropic.claude-[a-z]*-[5-9]*", "calm-xml"),
    ("vertex_ai/claude-sonnet-5@20260601", "pattern", "vertex_ai/claude-[a-z]*-[5-9]*", "calm-xml"),
    ("claude-opus-5", "pattern", "claude-opus-5*", "calm-xml"),
    ("claude-sonnet-5-5", "pattern", "claude-sonnet-5[-.]5*", "calm-xml"),
    ("anthropic/claude-fable-5.1", "pattern", "claude-fable-5*", "calm-xml"),
    ("gpt-standard", "exact", "gpt-standard", "hierarchical"),
    ("gpt-4o", "pattern", "gpt-4o*", "hierarchical"),
    ("gpt-4o-2024-08-06", "pattern", "gpt-4o*", "hierarchical"),
    ("ft:gpt-4o-mini-2024-07-18:acme::abc123", "pattern", "gpt-4o*", "hierarchical"),
    ("azure/gpt-4o", "pattern", "gpt-4o*", "hierarchical"),
    ("my_connection.gpt-4o", "pattern", "gpt-4o*", "hierarchical"),
    ("gpt-4", "pattern", "gpt-4*", "hierarchical"),
    ("gpt-4.1-mini", "pattern", "gpt-4*", "hierarchical"),
    ("gpt-35-turbo", "pattern", "gpt-35*", "hierarchical"),
    ("gpt-5", "pattern", "gpt-5*", "calm-markdown"),
    ("openai/gpt-5.2-mini", "pattern", "gpt-5*", "calm-markdown"),
    ("o1", "pattern", "o[1-9]", "calm-markdown"),
    ("o3", "pattern", "o[1-9]", "calm-markdown"),
    ("o4-mini", "pattern", "o[1-9]-*", "calm-markdown"),
    ("o3-mini-2025-01-31", "pattern", "o[1-9]-*", "calm-markdown"),
    ("o1-mini", "pattern", "o1-mini*", "calm-markdown"),
    ("gpt-oss:20b", "pattern", "gpt-oss", "calm-markdown"),
    ("openai/gpt-oss-120b", "pattern", "gpt-oss-*", "calm-markdown"),
    ("google-standard", "exact", "google-standard", "direct-command"),
    ("gemini-standard", "exact", "gemini-standard", "direct-command"),
    ("models/gemini-1.5-pro-002", "pattern", "gemini-1.5*", "direct-command"),
    ("google/gemini-2.5-flash:free", "pattern", "gemini-2*", "direct-command"),
    ("gemini-3-pro-preview", "pattern", "gemini-3*", "calm-markdown"),
    ("gemma", "exact", "gemma", "simple"),
    ("gemma3:4b", "pattern", "gemma[0-9]*", "simple"),
    ("google/gemma-2-9b-it", "pattern", "gemma-*", "simple"),
    ("google/gemma-4-31B-it", "pattern", "gemma-4*", "simple"),
    ("accounts/fireworks/models/llama-v3p1-70b-instruct", "provider", "llama-standard", "calm-markdown"),
    ("meta-llama/Meta-Llama-3.1-70B-Instruct", "provider", "llama-standard", "calm-markdown"),
    ("llama-3.3-70b.Q4_K_M.gguf", "provider", "llama-standard", "calm-markdown"),
    ("llama3.2-vision:11b", "provider", "llama-standard", "calm-markdown"),
    ("llama3.2:3b", "pattern", "llama3.2", "simple"),
    ("llama3.2:latest", "exact", "llama3.2", "simple"),
    ("hf.co/bartowski/Llama-3.2-3B-Instruct-GGUF:Q4_K_M", "pattern", "llama-3.2-[13]b*", "simple"),
    ("meta.llama3-2-3b-instruct-v1:0", "pattern", "llama3-2-[13]b*", "simple"),
    ("mistral-large-latest", "provider", "mistral-standard", "calm-markdown"),
    ("mistral:7b", "pattern", "mistral:*", "simple"),
    ("mistralai/Mistral-7B-Instruct-v0.2", "pattern", "mistral-7b-instruct-v0[.:][12]*", "simple"),
    ("magistral-medium-2509", "pattern", "magistral*", "calm-markdown"),
    ("qwen2.5-coder:32b", "provider", "qwen-standard", "calm-plain"),
    ("Qwen/Qwen3-30B-A3B", "provider", "qwen-standard", "calm-plain"),
    ("qwen3:1.7b", "pattern", "qwen*:[0-3].[0-9]b*", "simple"),
    ("qwq:32b", "pattern", "qwq*", "calm-plain"),
    ("deepseek-chat", "exact", "deepseek-chat", "calm-plain"),
    ("deepseek-r1-distill-llama-70b", "pattern", "deepseek-r1*", "calm-plain"),
    ("deepseek-r1:7b", "pattern", "deepseek-r1*", "calm-plain"),
    ("us.deepseek.r1-v1:0", "pattern", "deepseek.r1*", "calm-plain"),
    ("deepseek-ai/DeepSeek-R1-0528", "pattern", "deepseek-r1-0528*", "calm-plain"),
    ("x-ai/grok-4", "provider", "grok-standard", "calm-markdown"),
    ("command-r", "provider", "cohere-standard", "calm-markdown"),
    ("command-a-03-2025", "provider", "cohere-standard", "calm-markdown"),
    ("cohere.command-r-plus-v1:0", "provider", "cohere-standard", "calm-markdown"),
    ("agent-mode-demo", "exact", "agent-mode-demo", "calm-plain"),
    ("olmo", "global", "global-default", "simple"),
    ("olmo-2-13b", "global", "global-default", "simple"),
    ("opus-lookalike", "global", "global-default", "simple"),
    ("my-o1-thing", "global", "global-default", "simple"),
    ("o10", "global", "global-default", "simple"),
    ("not-claude-3", "global", "global-default", "simple"),
    ("claude-proxy/phi-4", "global", "global-default", "simple"),
    ("gpt-neox-20b", "global", "global-default", "simple"),
    ("llamaindex-agent", "global", "global-default", "simple"),
    ("command-line-helper", "global", "global-default", "simple"),
    ("personas.coder", "global", "global-default", "simple"),
    ("phi-4", "global", "global-default", "simple"),
    ("", "global", "global-default", "simple"),
]


@pytest.mark.parametrize(("model_id", "matched_by", "strategy", "template"), CASES)
def test_critical_cases(
    shipped: StrategyBook, model_id: str, matched_by: str, strategy: str, template: str
) -> None:
    selection = shipped.select(model_id)
    assert (selection.matched_by, selection.strategy.id) == (matched_by, strategy)
    assert selection.strategy.template == template


@pytest.mark.parametrize(
    ("model_id", "handling", "placement", "history"),
    [
        ("gpt-5", {"developer_role"}, "replace_first", "full"),
        ("o3", {"developer_role"}, "replace_first", "full"),
        ("gpt-oss:20b", {"strip_reasoning"}, "replace_first", "full"),
        ("gemma3:4b", {"no_system", "alternate_roles"}, "first_user", "relabel"),
        (
            "deepseek-r1:70b",
            {"no_system", "alternate_roles", "strip_reasoning"},
            "first_and_last_user",
            "full",
        ),
        ("claude-opus-4-8", set(), "append_system", "full"),
        ("claude-opus-5-5", set(), "append_system", "full"),
        ("anthropic.claude-opus-5-5-v1:0", set(), "replace_first", "full"),
        ("llama3.2:3b", {"alternate_roles"}, "replace_first", "relabel"),
        ("mistral-small-2603", {"alternate_roles"}, "replace_first", "full"),
        ("qwen3:32b", {"strip_reasoning"}, "replace_first", "full"),
        ("nobody-knows-it", set(), "replace_first", "full"),
        ("agent-mode-demo", set(), "replace_first", "full"),
    ],
)
def test_handling(
    shipped: StrategyBook, model_id: str, handling: set[str], placement: str, history: str
) -> None:
    strategy = shipped.select(model_id).strategy
    assert strategy.special_handling == handling
    assert strategy.placement == placement
    assert strategy.history == history


def test_shipped_files_are_sound(shipped: StrategyBook) -> None:
    assert shipped.errors() == {}
    assert sorted(path.name for path in SHIPPED.glob("*.json")) == [f"{name}{SUFFIX}" for name in PROVIDERS]
    templates = TemplateSet(SHIPPED / "templates")
    for strategy in shipped.all():
        place = f"{strategy.provider}: {strategy.id}"
        assert strategy.template in templates.names(), place
        assert strategy.type == "calm" or not strategy.template.startswith("calm"), place
        assert strategy.why.endswith("."), place
        assert strategy.source, place
        assert strategy.checked_on == "2026-11-21", place


def test_every_shipped_default_has_its_name(shipped: StrategyBook) -> None:
    ids = {strategy.id for strategy in shipped.all()}
    names = ["gpt", "claude", "google", "llama", "mistral", "qwen", "deepseek", "grok", "cohere"]
    assert {*(f"{name}-standard" for name in names), "global-default"} <= ids


@given(st.text("abcdefgopqrt0123456789-.:/@ _CLAUDE|*[]", max_size=60))
def test_select_never_raises(model_id: str) -> None:
    selection = BOOK.select(model_id)
    assert selection.strategy in BOOK.all()
    assert BOOK.select(model_id) is selection


BOOK = StrategyBook(SHIPPED)


@pytest.mark.parametrize("junk", [None, 7, ["gpt-4o"], {}, "gpt-4o" * 1000])
def test_junk_is_an_unknown_model(shipped: StrategyBook, junk: Any) -> None:
    assert shipped.select(junk).matched_by == "global"


def test_cache_is_bounded(shipped: StrategyBook) -> None:
    for number in range(3000):
        shipped.select(f"model-{number}")
    assert len(shipped._current().cache) <= 1024


def test_speed(shipped: StrategyBook) -> None:
    template = TemplateSet(SHIPPED / "templates").get("calm-markdown")
    values = {
        "agentName": "Coder",
        "agentInstructions": "x" * 2000,
        "previousAgentName": "Poet",
        "baseInstructions": "y" * 300,
    }
    runs = 2000
    assert min(timeit.repeat(lambda: shipped.select("gpt-4o"), number=runs, repeat=5)) / runs < 2e-6
    assert min(timeit.repeat(lambda: template.render(values), number=runs, repeat=5)) / runs < 5e-6


def test_longest_pattern_wins_across_files(tmp_path: Path) -> None:
    write(tmp_path, "one", {"m-*": entry(), "m-large*": entry()})
    write(tmp_path, "two", {"m-large-[ab]*": entry(), "m-large-a1": entry(), "*": entry()})
    book = StrategyBook(tmp_path)
    assert book.select("m-small").strategy.id == "m-*"
    assert book.select("m-large-c").strategy.id == "m-large*"
    assert book.select("m-large-a2").strategy.id == "m-large-[ab]*"
    assert book.select("m-large-a1").matched_by == "exact"
    assert book.select("else").matched == "*"


def test_a_pattern_for_the_tag_beats_the_bare_name(tmp_path: Path) -> None:
    write(tmp_path, "one", {"m": entry(), "m:70b*": entry(history="none")})
    book = StrategyBook(tmp_path)
    assert book.select("m:70b-q4").strategy.history == "none"
    assert book.select("m:7b").strategy.id == "m"
    assert book.select("m-2026-01-31").strategy.id == "m"
    assert book.select("m:latest").matched_by == "exact"


def test_the_id_as_given_comes_first(tmp_path: Path) -> None:
    write(tmp_path, "one", {"m": entry(), "gateway/M": entry(), "gateway/*": entry()})
    book = StrategyBook(tmp_path)
    assert book.select("gateway/M").strategy.id == "gateway/M"
    assert book.select("other/M").strategy.id == "m"
    assert book.select("gateway/x").strategy.id == "gateway/*"


def test_without_files_the_builtin_strategy(tmp_path: Path) -> None:
    for book in (StrategyBook(tmp_path), StrategyBook(tmp_path / "nowhere")):
        selection = book.select("gpt-4o")
        assert selection.strategy is SIMPLE_STRATEGY
        assert selection.matched_by == "global"
        assert book.all() == []


def test_short_entry_gets_safe_defaults(tmp_path: Path) -> None:
    write(tmp_path, "one", {"m": entry()})
    strategy = StrategyBook(tmp_path).select("m").strategy
    assert (strategy.placement, strategy.pivot, strategy.history) == ("replace_first", "user", "full")
    assert (strategy.assertiveness, strategy.contextual_memory) == ("medium", "medium")
    assert (strategy.special_handling, strategy.checked_on) == (frozenset(), "")


@pytest.mark.parametrize(
    ("strategies", "fields", "words", "field"),
    [
        ({"m": entry(placement="top")}, {}, ['entry "m"', "field placement"], "strategies.m.placement"),
        ({"m": entry(colour="red")}, {}, ['entry "m"', "field colour"], "strategies.m.colour"),
        ({"m": {"type": "simple"}}, {}, ["agentSwitchTemplate", "missing"], None),
        ({"m": entry(specialHandling=["no"])}, {}, ["specialHandling"], None),
        ({"m": entry(checkedOn="soon")}, {}, ["checkedOn"], None),
        ({"m": entry(specialHandling=["no_system"])}, {}, ["needs placement"], "strategies.m"),
        (
            {"m": entry(specialHandling=["no_system"], placement="first_user", pivot="system")},
            {},
            ["neither pivot system"],
            None,
        ),
        ({"m": entry(type="loud"), "n": entry(pivot="x")}, {}, ["1 more"], "strategies.m.type"),
        ({"m": entry()}, {"default": "n"}, ['"n"', "not among"], "default"),
        ({"m": entry()}, {"provider": "two"}, ["provider is two"], "provider"),
        ({"m[z-a]*": entry()}, {"default": "m[z-a]*"}, ["not a pattern"], "strategies.m[z-a]*"),
        ({"m": entry()}, {"match": ["[9-0]"]}, ["not a pattern"], "match"),
        ({"m": entry()}, {"match": "m*"}, ["field match"], "match"),
        ({"m": entry()}, {"extra": 1}, ["field extra"], "extra"),
    ],
)
def test_mistakes_are_named(
    tmp_path: Path, strategies: dict[str, Any], fields: dict[str, Any], words: list[str], field: str | None
) -> None:
    file = write(tmp_path, "one", strategies, **fields)
    write(tmp_path, "other", {"x": entry()})
    book = StrategyBook(tmp_path)
    assert list(book.errors()) == [file.name]
    error = book.errors()[file.name]
    for word in [file.name, *words]:
        assert word in error.message
    assert error.hint
    assert field is None or error.field == field
    assert book.select("x").matched_by == "exact"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "Expecting value"),
        ('{"provider": "one",', "line 1"),
        ("[" * 100_000, "not usable JSON"),
        ("[]", "the whole file"),
        ('{"provider": "one", "default": "m", "default": "n"}', '"default" stands there twice'),
    ],
)
def test_files_that_are_no_strategies(tmp_path: Path, text: str, word: str) -> None:
    (tmp_path / f"one{SUFFIX}").write_text(text)
    assert word in StrategyBook(tmp_path).errors()[f"one{SUFFIX}"].message


def test_edit_is_live_and_a_broken_one_keeps_the_last_good(tmp_path: Path) -> None:
    now = 0.0
    write(tmp_path, "default", {"all": entry()})
    file = write(tmp_path, "one", {"m*": entry()})
    book = StrategyBook(tmp_path, clock=lambda: now)
    assert book.select("m1").strategy.history == "full"
    write(tmp_path, "one", {"m*": entry(history="relabel")})
    assert book.select("m1").strategy.history == "full"
    now += INTERVAL
    assert book.select("m1").strategy.history == "relabel"
    file.write_text(file.read_text()[:40])
    now += INTERVAL
    assert book.select("m1").strategy.history == "relabel"
    assert list(book.errors()) == [file.name]
    file.unlink()
    now += INTERVAL
    assert book.select("m1").strategy.id == "all"
    assert book.errors() == {}
    assert [strategy.id for strategy in book.all()] == ["all"]


def test_threads_share_a_book_while_files_change(tmp_path: Path) -> None:
    ticks = iter(range(1_000_000))
    aside = tmp_path / "aside"
    aside.mkdir()
    write(tmp_path, "one", {"m*": entry()})
    book = StrategyBook(tmp_path, clock=lambda: float(next(ticks)))
    trouble: list[str] = []

    def use() -> None:
        for number in range(200):
            selection = book.select(f"m{number}")
            if selection.matched != "m*":
                trouble.append(selection.matched)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(20):
        write(aside, "one", {"m*": entry(why="x" * number)}).replace(tmp_path / f"one{SUFFIX}")
    for thread in threads:
        thread.join()
    assert trouble == []
