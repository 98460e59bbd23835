"""A real Open WebUI in a process of its own, and its users over REST.

webui = WebUI(folder, command)
webui.spawn(); webui.wait()
admin = webui.sign_up("Ada")                    # the first one is the admin
bob = admin.add_user("Bob", group="readers")
admin.connect(Connection(server.url, server.key))
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from tests.server.servers import free_port

Json = dict[str, Any]

PASSWORD = "Passw0rd!of-the-tests"
_IGNORED = ("AGENT_MODE_", "OPENAI_", "OPENWEBUI_", "PIPELINES_", "WEBUI_", "HOST", "PORT", "PYTHONPATH")
_ENVIRONMENT = {
    "WEBUI_SECRET_KEY": "secret-of-the-tests",
    # No downloads: no models for embeddings, no look-up of new versions, no fonts.
    "OFFLINE_MODE": "True",
    "HF_HUB_OFFLINE": "1",
    "RAG_EMBEDDING_ENGINE": "openai",
    "ENABLE_VERSION_UPDATE_CHECK": "False",
    "ENABLE_OLLAMA_API": "False",
    "ENABLE_API_KEYS": "True",
    "ENABLE_FORWARD_USER_INFO_HEADERS": "True",
    "DO_NOT_TRACK": "true",
    "ANONYMIZED_TELEMETRY": "false",
    "SCARF_NO_ANALYTICS": "true",
}


@dataclass(frozen=True)
class Connection:
    """One entry of Settings → Connections.

    Args:
        config: what the dialog keeps besides, such as `model_ids` or `forward_cookies`.
    """

    url: str
    key: str
    config: Mapping[str, Any] = field(default_factory=dict)


class WebUI:
    """The server.

    Args:
        home: folder of the data and the log.
        command: the `open-webui` program.
        environment: on top of what keeps it from downloading.
    """

    def __init__(self, home: Path, command: str, environment: Mapping[str, str] | None = None) -> None:
        self.home = home
        self.port = free_port()
        self.log_file = home / "open-webui.log"
        self._command = command
        self._environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def spawn(self) -> None:
        """Starts the process; does not wait for it."""
        self.home.mkdir(parents=True, exist_ok=True)
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(_IGNORED) and not name.lower().endswith("_proxy")
        }
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [self._command, "serve", "--host", "127.0.0.1", "--port", str(self.port)],
                cwd=self.home,
                env={**inherited, **_ENVIRONMENT, "DATA_DIR": str(self.home / "data"), **self._environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait(self, patience: float = 180.0) -> None:
        """Waits until it answers."""
        assert self._process is not None
        deadline = time.monotonic() + patience
        while True:
            with contextlib.suppress(requests.RequestException):
                if requests.get(f"{self.url}/health", timeout=5).status_code == 200:
                    return
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"Open WebUI did not start:\n{self.log()[-6000:]}")
            time.sleep(0.2)

    def restart(self) -> None:
        self.stop()
        self.spawn()
        self.wait()

    def stop(self) -> None:
        """Ends it as an operator does; no harm when it does not run."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def sign_up(self, name: str) -> Account:
        """A new user; the first one is the admin."""
        form = {"name": name, "email": f"{name.lower()}@example.org", "password": PASSWORD}
        reply = requests.post(f"{self.url}/api/v1/auths/signup", json=form, timeout=60)
        reply.raise_for_status()
        return Account(self, reply.json())

    def sign_in(self, name: str) -> Account:
        form = {"email": f"{name.lower()}@example.org", "password": PASSWORD}
        reply = requests.post(f"{self.url}/api/v1/auths/signin", json=form, timeout=60)
        reply.raise_for_status()
        return Account(self, reply.json())


class Account:
    """A user who is signed in."""

    def __init__(self, webui: WebUI, session: Mapping[str, Any]) -> None:
        self.webui = webui
        self.id = str(session["id"])
        self.name = str(session["name"])
        self.role = str(session["role"])
        self.token = str(session["token"])
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers["Authorization"] = f"Bearer {self.token}"
        self.settings: Json = {}
        self.set_interface()

    def __repr__(self) -> str:
        return f"{self.name} ({self.role})"

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        options.setdefault("timeout", 60)
        return self._session.request(method, self.webui.url + path, **options)

    def get(self, path: str) -> Any:
        """The JSON of a route.

        Raises:
            requests.HTTPError: Open WebUI refused.
        """
        reply = self.request("GET", path)
        reply.raise_for_status()
        return reply.json()

    def post(self, path: str, body: Any = None) -> Any:
        """As `get`."""
        reply = self.request("POST", path, json=body)
        if reply.status_code >= 400:
            raise requests.HTTPError(f"POST {path}: {reply.status_code} {reply.text[:500]}")
        return reply.json()

    def set_interface(self, **settings: Any) -> None:
        """The user's own settings; what is new in this version is never announced."""
        version = requests.get(f"{self.webui.url}/api/config", timeout=60).json()["version"]
        self.settings |= {"version": version, "showChangelog": False, **settings}
        self.post("/api/v1/users/user/settings/update", {"ui": self.settings})

    def models(self) -> dict[str, Json]:
        """The models that this user sees, by id."""
        return {entry["id"]: entry for entry in self.get("/api/models?refresh=true")["data"]}

    def chat(self, chat_id: str) -> Json:
        """A stored chat: `title`, `chat.history.messages`, `meta.tags`, …"""
        return self.get(f"/api/v1/chats/{chat_id}")

    def messages(self, chat_id: str) -> list[Json]:
        """The messages of the branch that is shown, in order."""
        history = self.chat(chat_id)["chat"]["history"]
        branch: list[Json] = []
        place = history["currentId"]
        while place:
            branch.insert(0, history["messages"][place])
            place = branch[0].get("parentId")
        return branch

    def complete(self, model: str, text: str, **body: Any) -> requests.Response:
        """What a program gets that calls Open WebUI's API."""
        form = {"model": model, "messages": [{"role": "user", "content": text}], "stream": False, **body}
        return self.request("POST", "/api/chat/completions", json=form)

    def api_key(self) -> str:
        return self.post("/api/v1/auths/api_key")["api_key"]

    # What only admins may

    def add_user(self, name: str, *, group: str | None = None) -> Account:
        form = {"name": name, "email": f"{name.lower()}@example.org", "password": PASSWORD, "role": "user"}
        self.post("/api/v1/auths/add", form)
        account = self.webui.sign_in(name)
        if group is not None:
            self.post(f"/api/v1/groups/id/{self.group(group)}/users/add", {"user_ids": [account.id]})
        return account

    def group(self, name: str) -> str:
        """The id of a group, which is made when there is none."""
        for entry in self.get("/api/v1/groups/"):
            if entry["name"] == name:
                return entry["id"]
        return self.post("/api/v1/groups/create", {"name": name, "description": name})["id"]

    def connect(self, *connections: Connection) -> dict[str, Json]:
        """Replaces all connections; returns the models that are there then."""
        form = {
            "ENABLE_OPENAI_API": bool(connections),
            "OPENAI_API_BASE_URLS": [one.url for one in connections],
            "OPENAI_API_KEYS": [one.key for one in connections],
            "OPENAI_API_CONFIGS": {
                str(place): {"enable": True, "connection_type": "external", **one.config}
                for place, one in enumerate(connections)
            },
        }
        self.post("/openai/config/update", form)
        return self.models()

    def share_model(self, model: str, *grants: Json, **meta: Any) -> None:
        """Gives a model to whom the grants name; none: to admins alone."""
        entry = self.models()[model]
        form = {
            "id": model,
            "base_model_id": None,
            "name": entry["name"],
            "meta": {**(entry.get("info") or {}).get("meta", {}), **meta},
            "params": {},
            "access_grants": list(grants),
            "is_active": True,
        }
        if self.request("GET", f"/api/v1/models/model?id={model}").status_code == 200:
            self.post(f"/api/v1/models/model/update?id={model}", form)
        else:
            self.post("/api/v1/models/create", form)

    def add_tool(self, key: str, source: str, *grants: Json) -> None:
        """A tool of the workspace."""
        form = {
            "id": key,
            "name": key.replace("_", " ").title(),
            "content": source,
            "meta": {"description": f"{key} of the tests"},
            "access_grants": list(grants),
        }
        self.post("/api/v1/tools/create", form)

    def set_tool_servers(self, *servers: Json) -> None:
        self.post("/api/v1/configs/tool_servers", {"TOOL_SERVER_CONNECTIONS": list(servers)})


EVERYBODY: Json = {"principal_type": "user", "principal_id": "*", "permission": "read"}


def group_may_read(group_id: str) -> Json:
    return {"principal_type": "group", "principal_id": group_id, "permission": "read"}
