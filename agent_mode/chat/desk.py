"""Commands that look something up or change something: `!agent settings`, `history`, `rollback`."""

from __future__ import annotations

from agent_mode.chat.commands import Command, Grammar
from agent_mode.chat.console import cell
from agent_mode.chat.runtime import Runtime
from agent_mode.chat.turn import User
from agent_mode.counting import counted
from agent_mode.errors import AgentModeError
from agent_mode.store.users import UserSettings
from agent_mode.valves import usable_prefix

KINDS = frozenset({"settings", "history", "rollback"})

_SWITCHES = {"on": True, "off": False}
_SHOWN_VERSIONS = 20


async def act(runtime: Runtime, command: Command, user: User, grammar: Grammar) -> str:
    """Does what the command asks; returns the answer for the chat, also where it cannot be done."""
    try:
        if command.kind == "settings":
            return await _settings(runtime, command.key or "", user, grammar)
        if command.kind == "history":
            return await _history(runtime, command.key or "", user, grammar)
        return await _rollback(runtime, command.key or "", user, grammar)
    except AgentModeError as error:
        return str(error)


async def _settings(runtime: Runtime, words: str, user: User, grammar: Grammar) -> str:
    if user.id is None:
        return "Settings belong to a user; this request came without one."
    settings = await runtime.users.get(user.id)
    name, _, value = words.partition(" ")
    name, value = name.lower(), value.strip()
    if not name:
        return _shown(settings, grammar.prefix)
    if name in ("persistence", "info") and value.lower() in _SWITCHES:
        settings = await runtime.users.change(user.id, **{name: _SWITCHES[value.lower()]})
    elif name == "prefix" and usable_prefix(value):
        settings = await runtime.users.change(user.id, prefix=value)
    elif name == "reset" and not value:
        settings = UserSettings()
        await runtime.users.put(user.id, settings)
    else:
        return (
            f"I cannot set “{cell(words)}”.\n\n{_usage(grammar.prefix)}\n\n"
            "A prefix is one to three characters, no letters, digits, white space, `\\` or `_`."
        )
    return "Done.\n\n" + _shown(settings, settings.prefix or grammar.prefix)


def _shown(settings: UserSettings, prefix: str) -> str:
    words = {True: "on", False: "off", None: "as the admin set it"}
    own = settings.prefix and settings.prefix.replace("|", "\\|")  # it would end the table's cell
    return f"""| Setting | Now | Meaning |
| --- | --- | --- |
| persistence | {words[settings.persistence]} | your last persona also opens new chats |
| info | {words[settings.info]} | the answer says who is speaking |
| prefix | {f"`{own}`" if own else words[None]} | what a command begins with |

{_usage(prefix)}"""


def _usage(prefix: str) -> str:
    return (
        f"Change them: `{prefix}agent settings persistence on`, `{prefix}agent settings info off`, "
        f"`{prefix}agent settings prefix /`, `{prefix}agent settings reset`."
    )


async def _history(runtime: Runtime, words: str, user: User, grammar: Grammar) -> str:
    if not user.admin:
        return "Only an admin of Open WebUI can look at the versions of a persona."
    key = grammar.lookup(words.strip().removeprefix(grammar.prefix))
    if key is None:
        return f"Whose history? Write `{grammar.prefix}agent history coder`."
    versions = await runtime.persona_store.history(key)
    if not versions:
        return f"No version of `{key}` is kept."
    rows = [
        f"| {version.label} | {version.created_at:%Y-%m-%d %H:%M} | {cell(version.author)} "
        f"| {cell(version.message) or '–'} | `{version.content_hash[:8]}` |"
        for version in versions[:_SHOWN_VERSIONS]
    ]
    head = "| Version | When (UTC) | Who | Why | Hash |\n| --- | --- | --- | --- | --- |"
    older = len(versions) - _SHOWN_VERSIONS
    more = f"\n\n{counted(older, 'older one')}." if older > 0 else ""
    return f"### {cell(key)}\n\n{head}\n" + "\n".join(rows) + more


async def _rollback(runtime: Runtime, words: str, user: User, grammar: Grammar) -> str:
    if not user.admin:
        return "Only an admin of Open WebUI can roll a persona back."
    name, _, label = words.strip().partition(" ")
    key = grammar.lookup(name.removeprefix(grammar.prefix))
    if key is None or not label.strip():
        return f"To which version? Write `{grammar.prefix}agent rollback coder 1.0.2`."
    persona = await runtime.persona_store.rollback(key, label.strip(), author=user.id or "admin")
    await runtime.personas.refresh(runtime.persona_store)
    runtime.audit.put(user.id or "admin", "rolled back", "persona", key, f"to {label.strip()}", way="chat")
    return f"**{cell(persona.display_name)}** is as it was in version {cell(label.strip())}."
