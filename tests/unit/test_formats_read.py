"""Files as other programs write them: recognised, and read into personas that make sense."""

from __future__ import annotations

import base64
import json
from io import BytesIO
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from agent_mode.errors import CatalogueError
from agent_mode.store.formats import ENTRY_LIMIT, FORMATS, Entry, detect, read, write
from agent_mode.store.formats.emoji import split_emoji
from agent_mode.store.formats.keys import Keys, slug
from agent_mode.store.forms import PersonaForm


def as_json(document: Any) -> bytes:
    return json.dumps(document).encode()


def form(entry: Entry) -> PersonaForm:
    assert entry.form is not None, entry.problem
    return entry.form


def only(data: bytes, filename: str = "file") -> PersonaForm:
    [entry] = read(data, filename)
    return form(entry)


HOTSWAP = {
    "_master_controller": {
        "name": "🎛️ Master Controller",
        "hidden": True,
        "always_active": True,
        "priority": 0,
        "version": "0.8.0+",
        "rules": ["1. Always active beneath any persona."],
        "prompt": "=== MASTER CONTROLLER ===\nYou have these capabilities.",
        "description": "The environment.",
    },
    "coder": {
        "name": "💻 Code Assistant",
        "rules": ["1. Prefer clear code.", "2. Explain trade-offs."],
        "prompt": "You are the 💻 Code Assistant.",
        "description": "Helps with code.",
        "version": "1.2",
        "source_url": "https://example.org/coder",
    },
    "prompt_architect": {
        "name": "🧠 Prompt Architect",
        "rules": ["Be brief"],
        "prompt": "You write prompts.",
        "capabilities": ["few-shot prompts", "a" * 100],
        "category": "Software",
    },
}

CARD_V1 = {
    "name": "Aria",
    "description": "{{char}} is a ship's navigator. <USER> is her captain.",
    "personality": "calm, dry wit",
    "scenario": "",
    "first_mes": "*{{char}} looks up.* Captain?",
    "mes_example": "<START>\n{{user}}: Where are we?\n{{char}}: Lost, but on schedule.",
}
CARD_V2 = {
    "spec": "chara_card_v2",
    "spec_version": "2.0",
    **CARD_V1,
    "data": {
        **CARD_V1,
        "creator_notes": "A navigator with opinions.",
        "system_prompt": "{{original}} Stay in the year 2300.",
        "post_history_instructions": "Never speak for {{user}}.",
        "alternate_greetings": [],
        "tags": ["sci-fi", "Creative"],
        "creator": "somebody",
        "character_version": "1.1",
        "extensions": {"depth_prompt": {"depth": 4, "prompt": ""}},
        "character_book": {
            "entries": [{"keys": ["ship"], "content": "Old.", "enabled": True}],
            "extensions": {},
        },
    },
}
CARD_V3 = {
    "spec": "chara_card_v3",
    "spec_version": "3.0",
    "data": {**CARD_V2["data"], "nickname": "Ari", "group_only_greetings": [], "assets": []},
}

OPENWEBUI = [
    {
        "id": "translator:latest",
        "user_id": "5f0e",
        "base_model_id": "llama3.1:8b",
        "name": "🌍 Translator",
        "params": {"system": "You translate.", "temperature": 0.2},
        "meta": {
            "profile_image_url": "data:image/png;base64,AAAA",
            "description": "Translates",
            "capabilities": {"vision": False, "file_upload": True, "citations": True},
            "tags": [{"name": "writing"}, {"name": "languages"}],
            "toolIds": ["web"],
        },
        "access_grants": [],
        "is_active": False,
        "created_at": 1735000000,
        "updated_at": 1735000001,
    },
    {"id": "gpt-4o", "base_model_id": None, "name": "GPT-4o", "params": {}, "meta": {}, "is_active": True},
]
PROMPTS = [
    {
        "command": "/summarize",
        "user_id": "1",
        "title": "Summarize",
        "content": "Sum up {{CLIPBOARD}}.",
        "timestamp": 1,
    },
    {"command": "help", "name": "🛟 Help me", "content": "Help.", "tags": ["everyday"], "is_active": True},
    {"command": "empty", "name": "Empty", "content": "  "},
]

SKILL = """---
name: pdf-processing
description: Extract text and tables from PDF files, fill forms, merge documents.
license: Apache-2.0
metadata:
  author: example-org
  version: "1.0"
allowed-tools: Bash(python:*) Read
---

# PDF processing

Use the scripts.
"""
CLAUDE_AGENT = """---
name: code-reviewer
description: Use this agent after writing code. Examples: <example>user: "Done" you: "I'll look"</example>
tools: Read, Grep
model: sonnet
color: red
---

You are a senior reviewer.
"""
COPILOT_AGENT = """---
description: 'Plans the work'
tools: ['search', 'read']
model: ['Claude Sonnet 4.5 (copilot)', 'GPT-5 (copilot)']
handoffs:
  - label: Start
    agent: implementer
---
You plan and write no code.
"""
CSV = (
    '"act","prompt","for_devs","type"\r\n'
    '"Linux Terminal","I want you to act as a linux terminal. Say ""ok"".","TRUE","TEXT"\r\n'
    '"Storyteller","Tell\nstories.",FALSE,TEXT\r\n'
    '"Storyteller","Tell others.",FALSE,TEXT\r\n'
    "\r\n"
    '"Silent",,FALSE,TEXT\r\n'
)


def picture(**texts: Any) -> bytes:
    notes = PngImagePlugin.PngInfo()
    for keyword, document in texts.items():
        notes.add_text(keyword, base64.b64encode(as_json(document)).decode())
    file = BytesIO()
    Image.new("RGB", (8, 12)).save(file, "PNG", pnginfo=notes)
    return file.getvalue()


SAMPLES = [
    ("agent-mode", b'{"key": "coder", "name": "Coder", "prompt": "Be."}', "coder.json"),
    ("agent-mode", b'\xef\xbb\xbf [{"key": "coder", "name": "Coder", "prompt": "Be."}]', "list.json"),
    ("agent-mode", b'{"format": "agent-mode-personas", "personas": [{"key": "coder", "prompt": ""}]}', ""),
    ("agent-hotswap", as_json(HOTSWAP), "personas.json"),
    ("agent-hotswap", as_json({"personas": HOTSWAP}), "personas.json"),
    ("character-card", as_json(CARD_V1), "aria.json"),
    ("character-card", as_json(CARD_V2), "aria.json"),
    ("character-card", as_json(CARD_V3), "aria"),
    ("character-card-png", picture(chara=CARD_V2), "aria.card.json"),
    ("openwebui-models", as_json(OPENWEBUI), "models-export.json"),
    ("openwebui-models", as_json(OPENWEBUI[0]), "model.json"),
    ("openwebui-models", as_json([{"id": "x", "info": OPENWEBUI[0]}]), "old.json"),
    ("openwebui-prompts", as_json(PROMPTS), "prompts-export.json"),
    ("markdown", SKILL.encode(), "SKILL.md"),
    ("markdown", SKILL.replace("\n", "\r\n").encode(), "no suffix"),
    ("markdown", b"Plan.", "planner.agent.md"),
    ("prompts-csv", CSV.encode(), "prompts.csv"),
    ("prompts-csv", CSV.encode(), "prompts.txt"),
]


@pytest.mark.parametrize(("name", "data", "filename"), SAMPLES)
def test_every_sample_is_recognised(name: str, data: bytes, filename: str) -> None:
    assert detect(data, filename) == name
    assert name in FORMATS
    assert read(data, filename)


@pytest.mark.parametrize(
    ("data", "filename", "words"),
    [
        (b"", "empty.json", "not valid JSON"),
        (b"hello", "hello.txt", "no persona file"),
        (b"[1, 2]", "x.json", "no persona file"),
        (b"{}", "x.json", "no persona file"),
        (b'"text"', "x.json", "no persona file"),
        (b"PK\x03\x04....", "aria.charx", "Archives"),
        (b"\xff\xd8\xff\xe0", "aria.jpg", "no persona file"),
        (b"# A text", "README.md", "no front matter"),
        (b"name,text\na,b\n", "x.csv", "no column 'act'"),
        (b"act;text\na;b\n", "x.csv", "no column 'prompt'"),
        (b"act,prompt\n", "x.csv", "no personas"),
        (b'{"format": "agent-mode-personas"}', "x.json", "must be a list"),
        (b'{"format": "agent-mode-personas", "personas": []}', "x.json", "no personas"),
        (b'{"a": "\xe4"}', "x.json", "not UTF-8"),
    ],
)
def test_what_is_no_persona_file(data: bytes, filename: str, words: str) -> None:
    with pytest.raises(CatalogueError, match=words) as caught:
        read(data, filename)
    assert caught.value.hint


# Agent Hotswap


def test_hotswap() -> None:
    master, coder, architect = read(as_json(HOTSWAP), "personas.json")
    assert (master.name_in_file, master.form) == ("_master_controller", None)
    assert "hidden" in (master.problem or "")
    persona = form(coder)
    assert (persona.key, persona.emoji, persona.name) == ("coder", "💻", "Code Assistant")
    assert persona.prompt == (
        "You are the 💻 Code Assistant.\n\n## Rules\n1. Prefer clear code.\n2. Explain trade-offs."
    )
    assert (persona.category, persona.description) == ("imported", "Helps with code.")
    assert persona.extras == {"agent-hotswap": HOTSWAP["coder"]}
    persona = form(architect)
    assert (persona.key, persona.category) == ("prompt_architect", "software")
    assert persona.capabilities == ("few-shot prompts",)
    assert persona.prompt == f"You write prompts.\n\n## Capabilities\n- {'a' * 100}\n\n## Rules\n- Be brief"


def test_a_hotswap_file_with_something_else_in_it() -> None:
    version, coder = read(as_json({"version": "1.0", "coder": HOTSWAP["coder"]}), "personas.json")
    assert (version.name_in_file, version.problem) == ("version", "It must be an object.")
    assert form(coder).key == "coder"


def test_a_hotswap_file_of_usual_size() -> None:
    document: dict[str, Any] = {
        f"expert_{number}": {
            "name": f"🧪 Expert {number}",
            "rules": [f"{rule}. Rule {rule} of expert {number}." for rule in range(1, 6)],
            "prompt": f"You are the 🧪 Expert {number}. " + "Work with care. " * 90,
            "description": "Knows one thing well. " * 20,
        }
        for number in range(108)
    }
    document = (
        {"_master_controller": HOTSWAP["_master_controller"]} | document | {"broken": {"name": "Broken"}}
    )
    entries = read(as_json(document), "personas.json")
    assert len(entries) == 110
    assert sum(entry.form is not None for entry in entries) == 108
    assert (entries[-1].name_in_file, entries[-1].field) == ("broken", "prompt")
    assert len({form(entry).key for entry in entries[1:-1]}) == 108


# Character cards


def test_a_card_of_the_first_version() -> None:
    persona = only(as_json(CARD_V1))
    assert (persona.key, persona.name, persona.emoji, persona.category) == ("aria", "Aria", "🎭", "imported")
    assert persona.prompt == (
        "You are Aria.\n\nAria is a ship's navigator. the user is her captain.\n\n"
        "## Personality\ncalm, dry wit\n\n"
        "## Example of the dialogue\n<START>\nthe user: Where are we?\nAria: Lost, but on schedule."
    )
    written = json.loads(write("character-card", [persona]))
    assert (written["spec"], written["spec_version"]) == ("chara_card_v3", "3.0")
    assert written["data"] | CARD_V1 == written["data"]
    assert written["data"]["alternate_greetings"] == written["data"]["group_only_greetings"] == []


def test_a_card_of_the_second_version() -> None:
    persona = only(as_json(CARD_V2))
    assert persona.prompt.startswith("Stay in the year 2300.\n\nAria is")
    assert persona.prompt.endswith("## Keep in mind\nNever speak for the user.")
    assert (persona.description, persona.category) == ("A navigator with opinions.", "creative")
    assert persona.tags == ("sci-fi", "Creative")
    written = json.loads(write("character-card", [persona]))
    assert written == CARD_V2 | {
        "spec": "chara_card_v3",
        "spec_version": "3.0",
        "data": CARD_V2["data"] | {"group_only_greetings": []},
    }
    renamed = persona.model_copy(update={"name": "Bea", "prompt": "You are Bea."})
    written = json.loads(write("character-card", [renamed]))
    assert written["name"] == written["data"]["name"] == "Bea"
    assert written["personality"] == written["data"]["personality"] == ""
    assert written["data"]["character_book"] == CARD_V2["data"]["character_book"]
    assert written["data"]["extensions"]["depth_prompt"] == {"depth": 4, "prompt": ""}


def test_a_card_of_the_third_version() -> None:
    persona = only(as_json(CARD_V3))
    assert persona.name == "Aria"
    assert "Ari is a ship's navigator" in persona.prompt
    assert json.loads(write("character-card", [persona])) == CARD_V3


def test_of_two_cards_in_a_picture_the_newer_counts() -> None:
    newer = CARD_V3 | {"data": {**CARD_V3["data"], "name": "Newer"}}
    assert only(picture(chara=CARD_V2, ccv3=newer)).name == "Newer"
    assert only(picture(chara=CARD_V2)).name == "Aria"


def test_a_card_behind_the_pixels_is_found() -> None:
    whole, plain = picture(chara=CARD_V2), picture()
    start = whole.index(b"tEXt") - 4
    text = whole[start : whole.index(b"IDAT") - 4]
    assert only(plain[:-12] + text + plain[-12:]).name == "Aria"


def test_a_wrong_field_of_a_card_is_named() -> None:
    [entry] = read(as_json({**CARD_V2, "data": {**CARD_V2["data"], "personality": ["calm"]}}), "aria.json")
    assert (entry.name_in_file, entry.field) == ("Aria", "data.personality")
    [entry] = read(as_json({**CARD_V2, "data": {**CARD_V2["data"], "name": " "}}), "aria.json")
    assert (entry.name_in_file, entry.field) == ("aria.json", "data.name")


# Open WebUI


def test_openwebui_models() -> None:
    translator, bare = read(as_json(OPENWEBUI), "models.json")
    persona = form(translator)
    assert (persona.key, persona.name, persona.emoji) == ("translator-latest", "Translator", "🌍")
    assert (persona.prompt, persona.model, persona.enabled) == ("You translate.", "llama3.1:8b", False)
    assert persona.capabilities == ("file upload", "citations")
    assert (persona.tags, persona.category) == (("writing", "languages"), "writing")
    assert (bare.name_in_file, bare.field) == ("gpt-4o", "params.system")
    assert json.loads(write("openwebui-models", [persona])) == OPENWEBUI[:1]


def test_an_early_openwebui_export() -> None:
    old = [{"id": "translator:latest", "name": "Translator", "info": OPENWEBUI[0]}]
    persona = only(as_json(old))
    assert persona.prompt == "You translate."
    changed = persona.model_copy(update={"prompt": "You interpret."})
    [written] = json.loads(write("openwebui-models", [changed]))
    assert written["info"]["params"] == {"system": "You interpret.", "temperature": 0.2}


def test_two_models_of_one_id_are_exported_under_two() -> None:
    first = only(as_json(OPENWEBUI[:1]))
    second = first.model_copy(update={"key": "other"})
    ids = [item["id"] for item in json.loads(write("openwebui-models", [first, second]))]
    assert ids == ["translator:latest", "other"]


def test_a_persona_of_ours_as_a_model() -> None:
    persona = PersonaForm(
        key="coder", name="Coder", emoji="💻", prompt="Code.", tags=("dev",), model="gpt-4o"
    )
    assert json.loads(write("openwebui-models", [persona])) == [
        {
            "id": "coder",
            "base_model_id": "gpt-4o",
            "name": "💻 Coder",
            "meta": {"description": "", "tags": [{"name": "dev"}], "agent_mode": {"category": "custom"}},
            "params": {"system": "Code."},
            "is_active": True,
        }
    ]


def test_openwebui_prompts() -> None:
    summarize, helping, empty = read(as_json(PROMPTS), "prompts.json")
    assert (form(summarize).key, form(summarize).name) == ("summarize", "Summarize")
    assert form(summarize).prompt == "Sum up {{CLIPBOARD}}."
    assert (form(helping).key, form(helping).emoji, form(helping).category) == ("help-2", "🛟", "everyday")
    assert (empty.name_in_file, empty.field) == ("empty", "content")


# Markdown


def test_a_skill() -> None:
    persona = only(SKILL.encode(), "SKILL.md")
    assert (persona.key, persona.name) == ("pdf-processing", "Pdf Processing")
    assert persona.prompt == "# PDF processing\n\nUse the scripts."
    assert write("markdown", [persona]).decode() == SKILL


def test_an_agent_with_a_careless_front_matter() -> None:
    persona = only(CLAUDE_AGENT.encode(), "code-reviewer.md")
    assert persona.description.startswith("Use this agent after writing code. Examples: <example>")
    assert (persona.name, persona.model) == ("Code Reviewer", None)
    assert write("markdown", [persona]).decode() == CLAUDE_AGENT
    changed = persona.model_copy(update={"model": "gpt-4o"})
    assert only(write("markdown", [changed]), "x.md").model == "gpt-4o"
    assert b"color: red\n" in write("markdown", [changed])


def test_an_agent_named_by_its_file() -> None:
    persona = only(COPILOT_AGENT.encode(), "agents/release-planner.agent.md")
    assert (persona.key, persona.name, persona.description) == (
        "release-planner",
        "Release Planner",
        "Plans the work",
    )
    assert persona.model is None
    persona = only(b"You plan.", "C:\\agents\\planner.agent.md")
    assert (persona.key, persona.prompt) == ("planner", "You plan.")
    assert write("markdown", [persona]) == b"---\nname: planner\n---\n\nYou plan."


def test_what_a_person_wrote_by_hand_into_our_fields() -> None:
    ours = "agent-mode-tags: one, two\n  agent-mode-emoji: 5\n  agent-mode-capabilities: '[1, \"a\"]'\n"
    persona = only(f"---\nname: x-y\nmetadata:\n  {ours}---\nBe.".encode(), "x.md")
    assert (persona.tags, persona.emoji, persona.capabilities) == (("one", "two"), "🎭", ("a",))


@pytest.mark.parametrize(
    ("data", "name", "format_name"),
    [
        (as_json(CARD_V3), "x.json", "character-card"),
        (SKILL.replace("name", "# a comment\nname", 1).encode(), "SKILL.md", "markdown"),
    ],
)
def test_switched_off_is_not_changed(data: bytes, name: str, format_name: str) -> None:
    persona = only(data, name).model_copy(update={"enabled": False})
    written = write(format_name, [persona])
    assert json.loads(written) == CARD_V3 if name == "x.json" else written == data


def test_a_persona_of_ours_as_a_skill() -> None:
    persona = PersonaForm(key="code_r", name="R", prompt="Review.", description="Reviews", tags=("a",))
    assert write("markdown", [persona]).decode() == (
        "---\nname: code-r\ndescription: Reviews\nmetadata:\n  agent-mode-key: code_r\n"
        "  agent-mode-category: custom\n  agent-mode-emoji: ''\n  agent-mode-name: R\n"
        "  agent-mode-tags: '[\"a\"]'\n---\n\nReview.\n"
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("---\nname: x\n---\n \n", "no text after"),
        ("---\nname: [x]\n---\nBe.", "name: must be text"),
        ("---\n- a\n---\nBe.", "holds no fields"),
        ("---\na: &x 1\n---\nBe.", "anchors"),
        ("---\na: !!python/name:os.system\n---\nBe.", "tags"),
        ("---\na: 2024-13-45\n---\nBe.", "not valid YAML"),
        ("---\n}\n---\nBe.", "not valid YAML"),
    ],
)
def test_front_matter_that_cannot_be_used(text: str, words: str) -> None:
    [entry] = read(text.encode(), "x.md")
    assert entry.form is None
    assert words in (entry.problem or "")


# CSV


def test_a_prompt_list() -> None:
    terminal, teller, second, silent = read(CSV.encode(), "prompts.csv")
    assert (form(terminal).key, form(terminal).name) == ("linux-terminal", "Linux Terminal")
    assert form(terminal).prompt == 'I want you to act as a linux terminal. Say "ok".'
    assert form(terminal).extras["prompts-csv"]["for_devs"] == "TRUE"
    assert form(teller).prompt == "Tell\nstories."
    assert (form(teller).key, form(second).key) == ("storyteller", "storyteller-2")
    assert (silent.name_in_file, silent.field) == ("Silent", "prompt")


def test_a_prompt_list_from_a_spreadsheet() -> None:
    persona = only("\ufeffPrompt;Act\nSei kurz;Übersetzer\n".encode(), "liste.csv")
    assert (persona.key, persona.name, persona.prompt) == ("ubersetzer", "Übersetzer", "Sei kurz")


# Our own


def test_a_file_of_ours_with_wrong_personas() -> None:
    items = [
        {"key": "coder", "name": "Coder", "prompt": "Be.", "content_hash": "00", "future": 1},
        {"key": "coder", "name": "Coder", "prompt": "Be."},
        {"key": "agent", "name": "Agent", "prompt": "Be."},
        {"name": "No Prompt"},
        {"key": "x1", "name": "N", "prompt": "Be.", "capabilities": "python"},
        {"key": "x2", "name": "N", "prompt": "Be.", "extras": 5, "more": 1},
        7,
    ]
    entries = read(as_json({"format": "agent-mode-personas", "personas": items}), "all.json")
    assert [entry.form.key if entry.form else entry.field for entry in entries] == [
        "coder",
        "coder-2",
        "agent-2",
        "prompt",
        "capabilities",
        "extras",
        None,
    ]
    assert form(entries[0]).extras == {"agent-mode": {"future": 1}}
    assert entries[-1].name_in_file == "all.json #7"


# Keys and names


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("Code Assistant", "code-assistant"),
        ("/summarize", "summarize"),
        ("Crème brûlée & Straße", "creme-brulee-strasse"),
        ("8 Ball", "persona-8-ball"),
        ("prompt_architect", "prompt_architect"),
        ("x_", "x_"),
        ("X", ""),
        ("小明", ""),
        ("ÆØŁ", "aeol"),
        ("Ⅷ", "viii"),
        ("a" * 50, "a" * 32),
        ("a" * 31 + " b", "a" * 31),
        ("", ""),
    ],
)
def test_slugs(text: str, key: str) -> None:
    assert slug(text) == key


def test_keys_are_given_once() -> None:
    keys = Keys()
    assert [keys.take("Coder"), keys.take("coder"), keys.take("CODER!")] == ["coder", "coder-2", "coder-3"]
    assert [keys.take("agent"), keys.take("persona1"), keys.take("coder-2")] == [
        "agent-2",
        "persona1-2",
        "coder-2-2",
    ]
    assert [keys.take("b" * 40), keys.take("b" * 40)] == ["b" * 32, "b" * 30 + "-2"]
    assert keys.take("", "Second") == "second"
    nameless = keys.take("小明")
    assert nameless.startswith("persona-")
    assert nameless == Keys().take("小明") != Keys().take("小红")
    assert keys.take("\ud800").startswith("persona-")


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("💻 Coder", ("💻", "Coder")),
        ("✍️ Writer", ("✍️", "Writer")),
        ("🎛️Master", ("🎛️", "Master")),
        ("👩🏽‍🔬 Ada", ("👩🏽‍🔬", "Ada")),
        ("🇩🇪 Deutsch", ("🇩🇪", "Deutsch")),
        ("1️⃣ First", ("1️⃣", "First")),
        ("🏴󠁧󠁢󠁳󠁣󠁴󠁿 Scot", ("🏴󠁧󠁢󠁳󠁣󠁴󠁿", "Scot")),
        ("🎭", ("", "🎭")),
        ("1 First", ("", "1 First")),
        ("Coder 💻", ("", "Coder 💻")),
        ("👨" + "‍👨" * 9 + " Crowd", ("", "👨" + "‍👨" * 9 + " Crowd")),
    ],
)
def test_emoji_of_names(name: str, parts: tuple[str, str]) -> None:
    assert split_emoji(name) == parts


# Writing


def test_what_cannot_be_written() -> None:
    persona = PersonaForm(key="coder", name="Coder", prompt="Be.")
    for format_name in ("agent-hotswap", "prompts-csv", "yaml"):
        with pytest.raises(CatalogueError, match="cannot be written") as caught:
            write(format_name, [persona])
        assert "openwebui-models" in caught.value.hint
    for format_name in ("markdown", "character-card", "character-card-png"):
        with pytest.raises(CatalogueError, match="holds one persona, not 2"):
            write(format_name, [persona, persona])


@pytest.mark.parametrize(
    "junk", [5, [], {"id": 5}, {"head": "&"}, {"data": 5, "spec": "chara_card_v3"}, {"name": ""}]
)
def test_extras_that_make_no_sense_do_no_harm(junk: Any) -> None:
    persona = PersonaForm(key="coder", name="Coder", prompt="Be.")
    names = ("agent-mode", "character-card", "openwebui-models", "markdown")
    odd = persona.model_copy(update={"extras": dict.fromkeys(names, junk)})
    for format_name in names[1:]:
        assert write(format_name, [odd]) == write(format_name, [persona])
    assert only(write("agent-mode", [odd])).prompt == "Be."


def test_what_is_too_long_is_shortened() -> None:
    card = {
        **CARD_V1,
        "name": "N" * 100,
        "creator_notes": "n" * 2_000,
        "tags": ["t" * 100, " ", 5, *"abc" * 30],
    }
    persona = only(as_json(card))
    assert (len(persona.name), len(persona.description), len(persona.tags)) == (80, 1_000, 50)
    assert persona.description.endswith("n…")
    written = json.loads(write("character-card", [persona]))
    assert written["data"] | card == written["data"]


def test_too_many_personas() -> None:
    rows = "\n".join(f"a{number},b" for number in range(ENTRY_LIMIT))
    assert len(read(f"act,prompt\n{rows}".encode(), "x.csv")) == ENTRY_LIMIT
    with pytest.raises(CatalogueError, match="more than 5000"):
        read(f"act,prompt\n{rows}\nz,b".encode(), "x.csv")
    with pytest.raises(CatalogueError, match="more than 5000"):
        read(as_json({f"a{number}": {"prompt": "b"} for number in range(ENTRY_LIMIT + 1)}), "x.json")
