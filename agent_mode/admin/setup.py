"""The steps from a fresh server to a chat in Open WebUI: which of them are done, and how to do the next.

Each check asks for itself, synchronously, so that they run side by side: in threads behind the page, and from
`python -m agent_mode doctor` without a running server. No check changes anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from agent_mode.admin.findings import ABOVE, Finding, finding, unseen
from agent_mode.counting import counted
from agent_mode.errors import AgentModeError, ConfigurationError
from agent_mode.llm import connection as connections
from agent_mode.llm import failures
from agent_mode.llm.client import OWN_PREFIX
from agent_mode.llm.connection import Connection
from agent_mode.settings import Settings
from agent_mode.tools import probe
from agent_mode.tools.probe import REACHED, Answer

_CONNECTIONS = "Admin Panel → Settings → Connections"


@dataclass(frozen=True)
class Facts:
    """What the checks have to know.

    Attributes:
        llm: where the LLM is, or why that cannot be said.
        openwebui_url: None: not set.
        openwebui_key: likewise.
        connection_key: of this server; None: not known.
        offered: ids of this server's models; None: not known.
        server_url: where this server is to be asked; None: it is the one that asks.
    """

    llm: Connection | AgentModeError
    openwebui_url: str | None
    openwebui_key: str | None = field(default=None, repr=False)
    connection_key: str | None = field(default=None, repr=False)
    offered: frozenset[str] | None = None
    server_url: str | None = None


def facts_of(
    settings: Settings,
    *,
    llm_base_url: str | None,
    llm_api_key: str | None,
    llm_model: str | None,
    connection_key: str | None,
    offered: frozenset[str] | None = None,
    server_url: str | None = None,
) -> Facts:
    """The facts of a server, given the valves of its personas."""
    try:
        llm: Connection | AgentModeError = connections.resolve(
            settings, base_url=llm_base_url, api_key=llm_api_key, model=llm_model
        )
    except ConfigurationError as error:
        llm = error
    url = settings.openwebui_url.strip().rstrip("/") if settings.openwebui_url else None
    return Facts(llm, url, settings.openwebui_api_key, connection_key, offered, server_url)


def check_server(facts: Facts) -> Finding:
    """Whether this server runs."""
    step = "server"
    answer = probe.get(f"{facts.server_url}/readyz")
    if answer.status == 200 and isinstance(answer.data, dict) and answer.data.get("status") is True:
        if answer.data.get("temporary_store"):
            text = "It runs on a temporary database, since its own cannot be used: nothing is kept."
            return finding(step, "wrong", text, "Its log says why. Repair the database and restart.")
        if facts.connection_key and probe.get(
            f"{facts.server_url}/v1/pipelines", facts.connection_key
        ).status in (401, 403):
            text = f"It answers at {facts.server_url}, but refuses the connection key that is set here."
            return finding(step, "wrong", text, "Set PIPELINES_API_KEY as the running server has it.")
        return finding(step, "done", f"It answers at {facts.server_url}.")
    if answer.status == 503:
        return finding(step, "wrong", "It runs, but could not start all of its parts.", "Its log says why.")
    if answer.status:
        text = f"Something else answers at {facts.server_url} ({answer.status})."
        return finding(step, "wrong", text, "End that, or set another PORT.")
    text = f"Nothing answers at {facts.server_url} ({answer.reason}); the other checks do not need it."
    cure = "Start it with ./start.sh. If it listens elsewhere, put its port in front, such as PORT=9199."
    return finding(step, "open", text, cure)


def check_llm(facts: Facts) -> Finding:
    """Whether the LLM provider answers."""
    step = "llm"
    connection = facts.llm
    if isinstance(connection, AgentModeError):
        return finding(step, "wrong", connection.message, connection.hint)
    if connection.kind == "demo":
        cure = "Set OPENAI_API_BASE_URL and OPENAI_API_KEY and restart, or the valves llm_base_url and "
        cure += "llm_api_key of the pipeline personas."
        return finding(step, "open", "None is set; the built-in demo model answers.", cure)
    answer = probe.get(f"{connection.base_url}/models", connection.api_key, proxied=True)
    if answer.status == 0:
        error = failures.unreachable(connection, answer.reason)
        return finding(step, "wrong", error.message, error.hint)
    where = shown_address(connection.base_url)
    if answer.status == 404:
        cure = "Set AGENT_MODE_MODEL. If chats fail as well, check the base URL: it mostly ends in /v1."
        return finding(step, "open", f"{where} answers, but lists no models.", cure)
    if answer.status != 200:
        error = failures.from_status(answer.status, answer.raw, connection, "", None)
        error = failures.without_key(error, connection)
        return finding(step, "wrong", error.message, error.hint)
    models = _ids(answer.data)
    if models is None:
        cure = "Check the base URL: it is that of an OpenAI-compatible API and mostly ends in /v1."
        return finding(step, "wrong", f"What answers at {where} is no list of models.", cure)
    if connection.model and models and connection.model not in models:
        cure = "Set a model that it lists: valve llm_model of the pipeline personas, or AGENT_MODE_MODEL."
        text = f"{where} answers, but does not list the model {connection.model}."
        return finding(step, "wrong", text, cure)
    return finding(step, "done", f"{where} lists {counted(len(models), 'model')}.")


def check_openwebui(facts: Facts) -> Finding:
    """Whether Open WebUI answers."""
    step = "openwebui"
    if facts.openwebui_url is None:
        cure = (
            "Set OPENWEBUI_URL to its address, as this server reaches it, and restart. Chats work without; "
        )
        cure += "tools, permissions and publishing need it."
        return finding(step, "open", "This server does not know where it is.", cure)
    answer = probe.get(f"{facts.openwebui_url}/api/version")
    where = shown_address(facts.openwebui_url)
    if answer.status == 0:
        cure = "Check OPENWEBUI_URL, and that Open WebUI runs and can be reached from this server."
        return finding(step, "wrong", f"Nothing answers at {where} ({answer.reason}).", cure)
    version = answer.data.get("version") if isinstance(answer.data, dict) else None
    if answer.status in (301, 302, 307, 308):
        cure = "Set OPENWEBUI_URL to where it leads: https in place of http, perhaps."
        return finding(step, "wrong", f"{where} leads somewhere else.", cure)
    if answer.status != 200 or not isinstance(version, str):
        cure = "Set OPENWEBUI_URL to Open WebUI itself, without a path behind it."
        return finding(step, "wrong", f"What answers at {where} is not Open WebUI.", cure)
    return finding(step, "done", f"Version {version[:40]} at {where}.")


def check_key(facts: Facts) -> Finding:
    """Whether the API key is good, and an admin's."""
    step = "key"
    if not facts.openwebui_url or not facts.openwebui_key:
        cure = "As an admin in Open WebUI: Settings → Account → API Keys; set OPENWEBUI_API_KEY and restart. "
        cure += "API keys are allowed under Admin Panel → Settings → General."
        return finding(step, "open", "OPENWEBUI_API_KEY is not set.", cure if facts.openwebui_url else ABOVE)
    answer = _ask(facts, "/api/v1/models/base")
    if answer.status == 200:
        return finding(step, "done", "It is accepted, and may do what admins may.")
    if answer.status == 403:
        cure = "Allow API keys under Admin Panel → Settings → General; if only some endpoints are allowed, "
        cure += "add /api/v1/models, /api/v1/users, /api/v1/groups, /api/v1/tools, /api/models and /openai."
        return finding(step, "wrong", f"Open WebUI refuses API keys. It says: {answer.said}", cure)
    if answer.status == 401:
        known = _ask(facts, "/api/v1/users/user/info").status == 200
        text = "The key is good, but not an admin's." if known else "Open WebUI does not know the key."
        cure = "Make a key as an admin: Settings → Account → API Keys. An older one ends with it."
        return finding(step, "wrong", text, cure)
    return _unclear(step, answer)


def check_connection(facts: Facts) -> Finding:
    """Whether Open WebUI has a connection to this server, and one that works."""
    step = "connection"
    cure = (
        f"{_CONNECTIONS}, + beside Manage OpenAI API Connections: paste URL and key. Leave the rest as it is."
    )
    if not facts.openwebui_url or not facts.openwebui_key or not facts.connection_key:
        return finding(step, "open", "It cannot be seen without the steps above.", cure)
    answer = _ask(facts, "/openai/config")
    if answer.status != 200 or not isinstance(answer.data, dict):
        return _unclear(step, answer)
    config = answer.data
    keys, urls = _list(config.get("OPENAI_API_KEYS")), _list(config.get("OPENAI_API_BASE_URLS"))
    places = [place for place, key in enumerate(keys) if key == facts.connection_key and place < len(urls)]
    if not places:
        text = "None of its connections has this server's key."
        return finding(step, "open", text, cure)
    if config.get("ENABLE_OPENAI_API") is False:
        text = "OpenAI connections are switched off there."
        return finding(step, "wrong", text, f"{_CONNECTIONS}: switch OpenAI API on.")
    faults = [_fault(_config_of(config, place, urls[place])) for place in places]
    where = shown_address(str(urls[places[0]]))
    if all(faults):
        return finding(step, "wrong", f"{where}: {faults[0]}", f"{_CONNECTIONS}: edit that connection.")
    return finding(step, "done", f"It asks {where}.")


def check_passthrough(facts: Facts) -> Finding:
    """Whether Open WebUI forwards whatever its users like to this server, with the connection's key.

    It chooses the first connection, from 0.8 on also that of the model which the body names.
    """
    step = "passthrough"
    if not facts.openwebui_url or not facts.openwebui_key:
        return unseen(step)
    model = min(facts.offered, default=None) if facts.offered else _own_model(facts)
    for body in (None, {"model": model}) if model else (None,):
        answer = _ask(facts, "/openai/reached", body)
        if answer.status == 200 and answer.data == REACHED:
            cure = (
                f"{_CONNECTIONS}: set this connection's Auth to Session. Or update Open WebUI to 0.10 or "
                "later, and leave ENABLE_OPENAI_API_PASSTHROUGH off there."
            )
            text = "Open WebUI forwards any request of any user to this server, with the connection's key."
            return finding(step, "wrong", text, cure)
        if answer.status == 0 or answer.status >= 500:
            return _unclear(step, answer)
        if answer.status in (401, 403) and _ask(facts, "/openai/config").status != 200:
            return _unclear(step, answer)  # the refusal is for our API key
    return finding(step, "done", "Users' requests do not get past Open WebUI with the connection's key.")


def check_models(facts: Facts) -> Finding:
    """Whether the models are listed in Open WebUI."""
    step = "models"
    if not facts.openwebui_url or not facts.openwebui_key:
        return unseen(step)
    answer = _ask(facts, "/api/models")
    listed = _ids(answer.data)
    if answer.status != 200 or listed is None:
        return _unclear(step, answer)
    ours = facts.offered
    found = [model for model in listed if (model in ours if ours else model.startswith(OWN_PREFIX))]
    if not found:
        cure = "Connect this server first. If it is connected: does Open WebUI reach the URL? From inside a "
        cure += "container, 127.0.0.1 is the container itself; use host.docker.internal."
        return finding(step, "wrong", "None of this server's models is listed.", cure)
    of = f" of {len(ours)}" if ours else ""
    return finding(step, "done", f"{len(found)}{of} are listed.")


def check_access(facts: Facts) -> Finding:
    """Whether users may use any of the models."""
    step = "access"
    records = _list_of(facts, step, "/api/v1/models/base")
    if isinstance(records, Finding):
        return records
    ours = facts.offered
    open_to = [
        record
        for record in records
        if isinstance(record, dict)
        and _is_ours(str(record.get("id")), ours)
        and record.get("is_active") is not False
        and is_shared(record)
    ]
    if not open_to:
        cure = "Publish agents and personas on the Agents page under Setup, or share their models there."
        return finding(step, "open", "So far admins alone can use this server's models.", cure)
    return finding(step, "done", f"{counted(len(open_to), 'model')} shared with users.")


def check_tools(facts: Facts) -> Finding:
    """Whether there are tools that agents can call."""
    step = "tools"
    toolkits = _list_of(facts, step, "/api/v1/tools/")
    if isinstance(toolkits, Finding):
        return toolkits
    if not toolkits:
        cure = (
            "Add some under Workspace → Tools, or a tool server under Admin Panel → Settings → Integrations."
        )
        return finding(step, "open", "There are none, so agents have only Open WebUI's own.", cure)
    return finding(step, "done", f"{counted(len(toolkits), 'toolkit')} found.")


Check = Callable[[Facts], Finding]
STEPS: dict[str, Check] = {
    "server": check_server,
    "llm": check_llm,
    "openwebui": check_openwebui,
    "key": check_key,
    "connection": check_connection,
    "passthrough": check_passthrough,
    "models": check_models,
    "access": check_access,
    "tools": check_tools,
}
"""All checks, in the order in which the steps are done."""


def steps(facts: Facts) -> dict[str, Check]:
    """The checks that these facts allow."""
    return {name: check for name, check in STEPS.items() if name != "server" or facts.server_url}


def is_shared(record: Mapping[str, Any]) -> bool:
    """Whether a model's record lets anybody in besides admins."""
    if "access_grants" not in record and "access_control" in record:
        control = record["access_control"]
        read = control.get("read") if isinstance(control, dict) else None
        return control is None or (isinstance(read, dict) and any(read.values()))
    grants = record.get("access_grants")
    return any(
        isinstance(grant, dict) and grant.get("permission") == "read"
        for grant in (grants if isinstance(grants, list) else ())
    )


def shown_address(url: str) -> str:
    """An address without user, password and query: those may hold a key."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "that address"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"[:120]


def _ask(facts: Facts, path: str, body: dict[str, Any] | None = None) -> Answer:
    return probe.get(f"{facts.openwebui_url}{path}", facts.openwebui_key, body=body)


def _own_model(facts: Facts) -> str | None:
    """One of this server's models, as Open WebUI lists it."""
    listed = _ids(_ask(facts, "/api/models").data) or []
    return next((model for model in listed if model.startswith(OWN_PREFIX)), None)


def _list_of(facts: Facts, step: str, path: str) -> list[Any] | Finding:
    """What Open WebUI lists there, or why that cannot be seen."""
    if not facts.openwebui_url or not facts.openwebui_key:
        return unseen(step)
    answer = _ask(facts, path)
    if answer.status != 200 or not isinstance(answer.data, list):
        return _unclear(step, answer)
    return answer.data


def _unclear(step: str, answer: Answer) -> Finding:
    if answer.status in (401, 403):
        return finding(step, "open", "It cannot be seen: the API key may not ask.", ABOVE)
    said = f" It says: {answer.said}" if answer.said else ""
    text = f"Open WebUI did not say ({answer.status or answer.reason}).{said}"
    return finding(step, "wrong", text, "Try again; if it stays so, look at Open WebUI's log.")


def _ids(data: Any) -> list[str] | None:
    entries = data.get("data") if isinstance(data, dict) else data
    if not isinstance(entries, list):
        return None
    return [str(entry["id"]) for entry in entries if isinstance(entry, dict) and "id" in entry]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _is_ours(model: str, offered: frozenset[str] | None) -> bool:
    return model in offered if offered else model.startswith(OWN_PREFIX)


def _config_of(config: Mapping[str, Any], place: int, url: Any) -> Mapping[str, Any]:
    """What the dialog of a connection keeps: by its place, in old versions by its address."""
    known = config.get("OPENAI_API_CONFIGS")
    found = known.get(str(place), known.get(str(url))) if isinstance(known, dict) else None
    return found if isinstance(found, dict) else {}


def _fault(config: Mapping[str, Any]) -> str:
    """What keeps a connection from working; empty: nothing."""
    if config.get("enable") is False:
        return "the connection is switched off."
    if config.get("prefix_id"):
        return "it has a Prefix ID, and with one no chat works."
    if config.get("model_ids"):
        return (
            "it has Model IDs, and with them Open WebUI tells nobody who asks: users count as strangers, "
            "without their rights and settings, and personas lose their context. Empty them."
        )
    return ""
