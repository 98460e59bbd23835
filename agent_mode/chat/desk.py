"""Commands that look something up or change something: `!agent settings`, `history`, `rollback`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from agent_mode.chat.commands import Grammar
from agent_mode.chat.console import with_unsent
from agent_mode.chat.context import User
from agent_mode.chat.markdown import escaped
from agent_mode.chat.parsed import Command
from agent_mode.chat.runtime import Runtime
from agent_mode.chat.slips import closest
from agent_mode.counting import counted
from agent_mode.errors import AgentModeError
from agent_mode.store.agent_versions import AgentVersion
from agent_mode.store.users import UserSettings
from agent_mode.store.versions import Version
from agent_mode.valves import usable_prefix

KINDS = frozenset({"settings", "history", "rollback"})

_SWITCHES = {"on": True, "off": False}
_NAMES = ("persistence", "info", "prefix")
_SHOWN_VERSIONS = 20
_MENUS = "/@#$"
"""Where a message begins with one of these, Open WebUI opens a menu, and Enter picks something from it."""
_KEY = re.compile(r"[\w-]{1,64}", re.ASCII)


async def act(runtime: Runtime, command: Command, user: User, grammar: Grammar) -> str:
    """Does what the command asks; returns the answer for the chat, also where it cannot be done."""
    work = {"settings": _settings, "history": _history, "rollback": _rollback}[command.kind]
    try:
        words = await work(runtime, command.key or "", user, grammar)
    except AgentModeError as error:
        words = str(error)
    return with_unsent(words, command)


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
    elif name == "prefix" and usable_prefix(value) and value[0] not in _MENUS:
        settings = await runtime.users.change(user.id, prefix=value)
    elif name == "reset" and not value:
        settings = UserSettings()
        await runtime.users.put(user.id, settings)
    else:
        return f"I cannot set “{escaped(words)}”. {_why_not(name, value)}\n\n{_usage(grammar.prefix)}"
    return "Done.\n\n" + _shown(settings, settings.prefix or (grammar.usual or grammar).prefix)


def _why_not(name: str, value: str) -> str:
    if name == "reset":
        return "`reset` takes nothing behind it."
    if name not in _NAMES:
        return "The settings are `persistence`, `info` and `prefix`."
    if name != "prefix":
        return f"`{name}` is `on` or `off`."
    if value and value[0] in _MENUS:
        return f"Open WebUI opens a menu where a message begins with `{value[0]}`."
    return "A prefix is one to three characters, no letters, digits, white space, `\\`, `_` or backtick."


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
        f"`{prefix}agent settings prefix ;`, `{prefix}agent settings reset`."
    )


async def _history(runtime: Runtime, words: str, user: User, grammar: Grammar) -> str:
    if not user.admin:
        return "Only an admin of Open WebUI can look at the versions of a persona."
    name = words.strip().removeprefix(grammar.prefix)
    if not name:
        return f"Whose history? Write `{grammar.prefix}agent history coder`."
    key = _key(name, grammar)
    versions: Sequence[Version | AgentVersion] = await runtime.persona_store.history(key) if key else ()
    where = ""
    if key and not versions:
        versions = await runtime.agent_store.history(key)
        where = f"\n\n{_AGENTS_ELSEWHERE}"
    if key is None or not versions:
        known = grammar.lookup(name)
        return f"No version of `{known}` is kept." if known else _nobody(name, grammar)
    rows = [_row(version) for version in versions[:_SHOWN_VERSIONS]]
    head = "| Version | When (UTC) | Who | Why | Hash |\n| --- | --- | --- | --- | --- |"
    older = len(versions) - _SHOWN_VERSIONS
    more = f"\n\n{counted(older, 'older one')}." if older > 0 else ""
    return f"### {escaped(key)}\n\n{head}\n" + "\n".join(rows) + more + where


def _row(version: Version | AgentVersion) -> str:
    when, digest = f"{version.created_at:%Y-%m-%d %H:%M}", version.content_hash[:8]
    who, why = escaped(version.author), escaped(version.message) or "–"
    return f"| {version.label} | {when} | {who} | {why} | {f'`{digest}`' if digest else '–'} |"


_AGENTS_ELSEWHERE = "An agent goes back to one of its versions on the Agents page, under **History**."


def _key(name: str, grammar: Grammar) -> str | None:
    """Whom the name stands for; of somebody who is gone there may still be versions."""
    return grammar.lookup(name) or (name.lower() if _KEY.fullmatch(name) else None)


def _nobody(name: str, grammar: Grammar) -> str:
    meant = closest(name, grammar.offered)
    question = f" — did you mean `{meant}`?" if meant else "."
    return f"There is no persona “{escaped(name)}”{question} `{grammar.prefix}agent list` shows everyone."


async def _rollback(runtime: Runtime, words: str, user: User, grammar: Grammar) -> str:
    if not user.admin:
        return "Only an admin of Open WebUI can roll a persona back."
    name, _, label = words.strip().partition(" ")
    name = name.removeprefix(grammar.prefix)
    if not label.strip():
        return f"To which version? Write `{grammar.prefix}agent rollback coder 1.0.2`."
    key = _key(name, grammar)
    if key is None or not await runtime.persona_store.history(key):
        if key is not None and await runtime.agent_store.history(key, 1):
            return _AGENTS_ELSEWHERE
        if key is None or grammar.lookup(name) is None:
            return _nobody(name, grammar)
    persona = await runtime.persona_store.rollback(key, label.strip(), author=user.id or "admin")
    await runtime.personas.refresh(runtime.persona_store)
    runtime.audit.put(user.id or "admin", "rolled back", "persona", key, f"to {label.strip()}", way="chat")
    return f"**{escaped(persona.display_name)}** is as it was in version {escaped(label.strip())}."
