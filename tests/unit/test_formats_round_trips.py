"""Round trips: what we write we read back the same, and what others wrote they get back."""

from __future__ import annotations

import base64
import json
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from agent_mode.settings import ROOT
from agent_mode.store.formats import FORMATS, read, write
from agent_mode.store.formats.placeholders import fill
from agent_mode.store.forms import CONTENT_FIELDS, PersonaForm

SUFFIX = {name: item.suffix for name, item in FORMATS.items()}
WRITTEN = [name for name, item in FORMATS.items() if item.write]

_LETTERS = st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\u2028\u2029")
_LINES = st.text(_LETTERS, min_size=1, max_size=20).filter(str.strip)
_NAMES = st.one_of(
    _LINES, st.sampled_from(["Coder", "💻 Coder", "🎭", "🧑‍🔬 Ada", "coder", "null", "yes: no", "- a", "…"])
)
_TEXTS = st.text(st.one_of(_LETTERS, st.sampled_from("\n-:#{}`'\"")), min_size=1, max_size=60).filter(
    str.strip
)
_TAGS = st.lists(st.one_of(_LINES, st.sampled_from(["writing", "Data", "a, b", '["x"]'])), max_size=4)
_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _LINES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_LINES, inner, max_size=3),
    max_leaves=8,
)
_UNKNOWN = st.dictionaries(st.from_regex(r"x_[a-z]{1,8}", fullmatch=True), _JSON, max_size=4)


@st.composite
def forms(draw: st.DrawFn) -> PersonaForm:
    values = {
        "key": draw(st.from_regex(r"q[a-z0-9_-]{1,31}", fullmatch=True)),
        "name": draw(_NAMES),
        "emoji": draw(st.sampled_from(["", "💻", "🎭", "🏳️‍🌈", "1️⃣", "x"])),
        "category": draw(st.sampled_from(["custom", "imported", "writing", "Märchen"])),
        "prompt": draw(_TEXTS),
        "description": draw(st.one_of(st.just(""), _TEXTS)),
        "capabilities": draw(_TAGS),
        "tags": draw(_TAGS),
        "model": draw(st.sampled_from([None, "gpt-4o", "sonnet", "my model"])),
    }
    try:
        return PersonaForm.model_validate(values)
    except ValidationError:  # a text that is nothing but white space to pydantic
        return PersonaForm.model_validate(
            values | {"name": "N", "prompt": "P", "tags": [], "capabilities": []}
        )


def plain(form: PersonaForm) -> dict[str, Any]:
    return {field: getattr(form, field) for field in CONTENT_FIELDS if field != "extras"}


def only(data: bytes, filename: str = "file") -> PersonaForm:
    [entry] = read(data, filename)
    assert entry.form is not None, entry.problem
    return entry.form


@pytest.mark.parametrize("format_name", WRITTEN)
@settings(max_examples=100)
@given(form=forms())
def test_what_we_write_we_read(format_name: str, form: PersonaForm) -> None:
    if format_name.startswith("character-card"):
        form = form.model_copy(
            update={"prompt": fill(form.prompt, "x"), "description": fill(form.description, "x")}
        )
    data = write(format_name, [form])
    back = only(data, "file" + SUFFIX[format_name])
    assert plain(back) == plain(form)
    assert back.key == form.key
    assert plain(only(write(format_name, [back]), "file" + SUFFIX[format_name])) == plain(form)


@given(personas=st.lists(forms(), min_size=2, max_size=5, unique_by=lambda form: form.key), off=st.booleans())
def test_many_in_one_file(personas: list[PersonaForm], off: bool) -> None:
    personas[0] = personas[0].model_copy(update={"enabled": off})
    for format_name in ("agent-mode", "openwebui-models"):
        back = [entry.form for entry in read(write(format_name, personas), "all.json")]
        assert [plain(form) for form in back if form] == [plain(form) for form in personas]
        assert [(form.key, form.enabled) for form in back if form] == [
            (form.key, form.enabled) for form in personas
        ]


@pytest.mark.parametrize("path", sorted((ROOT / "personas").glob("*.json"))[:8], ids=lambda path: path.stem)
def test_our_catalogue_files_come_back_as_they_are(path: Any) -> None:
    data = path.read_bytes()
    assert json.loads(write("agent-mode", [only(data)])) == json.loads(data)


def test_the_catalogue_survives_every_format() -> None:
    for path in sorted((ROOT / "personas").glob("*.json")):
        form = PersonaForm.model_validate_json(path.read_bytes())
        for format_name in WRITTEN:
            assert plain(only(write(format_name, [form]), "x" + SUFFIX[format_name])) == plain(form)


# Fields that we do not know


@given(unknown=_UNKNOWN)
def test_our_own_format_keeps_unknown_fields(unknown: dict[str, Any]) -> None:
    document = {"key": "coder", "name": "Coder", "prompt": "Be.", "tags": ["a"]} | unknown
    written = json.loads(write("agent-mode", [only(json.dumps(document).encode())]))
    assert written | document == written


@given(outer=_UNKNOWN, inner=_UNKNOWN, extension=_UNKNOWN, name=_NAMES, description=_TEXTS, tags=_TAGS)
def test_a_card_keeps_unknown_fields(
    outer: Any, inner: Any, extension: Any, name: str, description: str, tags: list[str]
) -> None:
    data = {
        "name": name,
        "description": description,
        "personality": "{{char}} likes {{user}}.",
        "first_mes": "*waves*",
        "tags": tags,
        "extensions": extension,
        **inner,
    }
    document = {"spec": "chara_card_v3", "spec_version": "3.0", "data": data, **outer}
    form = only(json.dumps(document).encode())
    assert json.loads(write("character-card", [form])) == document
    picture = write("character-card-png", [form])
    assert json.loads(write("character-card", [only(picture)])) == document

    changed = form.model_copy(update={"prompt": "Be kind.", "tags": ("a",)})
    written = json.loads(write("character-card", [changed]))
    assert written | outer == written
    assert written["data"] | inner == written["data"]
    assert written["data"]["extensions"] | extension == written["data"]["extensions"]
    assert written["data"]["first_mes"] == "*waves*"
    assert plain(only(json.dumps(written).encode())) == plain(changed)


@given(outer=_UNKNOWN, meta=_UNKNOWN, params=_UNKNOWN, change=forms())
def test_a_model_keeps_unknown_fields(outer: Any, meta: Any, params: Any, change: PersonaForm) -> None:
    item = {
        "id": "helper:latest",
        "base_model_id": "llama3",
        "name": "🦙 Helper",
        "meta": {
            "description": "Helps",
            "tags": [{"name": "writing"}],
            "capabilities": {"vision": True},
            **meta,
        },
        "params": {"system": "Help.", "temperature": 0.3, **params},
        "is_active": True,
        **outer,
    }
    form = only(json.dumps([item]).encode())
    assert json.loads(write("openwebui-models", [form])) == [item]

    changed = change.model_copy(update={"extras": form.extras})
    [written] = json.loads(write("openwebui-models", [changed]))
    assert written | outer == written
    assert written["meta"] | meta == written["meta"]
    assert written["params"] | params == written["params"]
    assert written["params"]["temperature"] == 0.3
    assert written["id"] == "helper:latest"
    assert plain(only(json.dumps([written]).encode())) == plain(changed)


@given(field=st.sampled_from([name for name in CONTENT_FIELDS if name != "extras"]), change=forms())
def test_any_one_field_of_a_foreign_persona_may_change(field: str, change: PersonaForm) -> None:
    card = {
        "spec": "chara_card_v2",
        "spec_version": "2.0",
        "data": {
            "name": "🦊 Fox",
            "description": "{{char}} is sly.",
            "personality": "",
            "tags": ["creative"],
        },
    }
    skill = "---\nname: code-review\ndescription: Reviews\ntags: [software]\nmodel: gpt-4o\n---\n\n# Look\n"
    model = [{"id": "m", "name": "🦙 M", "params": {"system": "Be."}, "meta": {"tags": [{"name": "data"}]}}]
    samples = {
        "character-card": json.dumps(card).encode(),
        "markdown": skill.encode(),
        "openwebui-models": json.dumps(model).encode(),
    }
    for format_name, data in samples.items():
        value = getattr(change, field)
        value = fill(value, "x") if isinstance(value, str) else value
        changed = only(data).model_copy(update={field: value})
        assert plain(only(write(format_name, [changed]), "x" + SUFFIX[format_name])) == plain(changed)


@given(change=forms())
def test_a_skill_keeps_its_front_matter(change: PersonaForm) -> None:
    head = "---\n# a comment\nname: code-review\ndescription: Reviews\nlicense: MIT\nversion: 1.10\n"
    skill = head + "date: 2024-01-01\nallowed-tools: [Read, Grep]\n---\n\n# Review\n\nLook closely.\n\n"
    form = only(skill.encode(), "SKILL.md")
    assert write("markdown", [form]).decode() == skill

    changed = change.model_copy(update={"extras": form.extras})
    written = write("markdown", [changed]).decode()
    for line in ("name: code-review", "license: MIT", "date: 2024-01-01", "- Grep"):
        assert line in written
    assert plain(only(written.encode(), "SKILL.md")) == plain(changed)


def test_a_picture_holds_the_card_for_old_and_new_programs() -> None:
    form = PersonaForm(key="fox", name="Fox", emoji="🦊", prompt="You are a fox.")
    picture = write("character-card-png", [form])
    assert picture == write("character-card-png", [form])
    with Image.open(BytesIO(picture)) as opened:
        texts = {name: json.loads(base64.b64decode(text)) for name, text in opened.info.items()}
        opened.load()
    assert texts["ccv3"]["spec"] == "chara_card_v3"
    assert texts["chara"]["spec"] == "chara_card_v2"
    assert texts["chara"]["data"] == texts["ccv3"]["data"]
    assert texts["ccv3"]["data"]["group_only_greetings"] == []
