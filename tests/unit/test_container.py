"""Dockerfile, compose.yaml and the Kubernetes manifest fit together, and fit the code.

Nothing here builds an image; tests/server/test_container_start.py runs what it would run.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent_mode.server.auth import OPEN_PATHS
from agent_mode.settings import ROOT, Settings
from tests.docs import blocks, scripts, text_of

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
MANIFESTS: list[dict[str, Any]] = [
    document
    for language, content in blocks(text_of("kubernetes.md"))
    if language == "yaml"
    for document in yaml.safe_load_all(content)
]

_VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


def steps(stage: int | None = None) -> list[tuple[str, str]]:
    """Instruction and arguments of each step; of one stage, counted from 0, or of all."""
    lines = "\n".join(line for line in DOCKERFILE.splitlines() if not line.startswith("#"))
    found: list[tuple[str, str]] = []
    for line in lines.replace("\\\n", " ").splitlines():
        name, _, rest = line.partition(" ")
        if name:
            found.append((name, rest))
    starts = [place for place, (name, _) in enumerate(found) if name == "FROM"] + [len(found)]
    return found if stage is None else found[starts[stage] : starts[stage + 1]]


def arguments(name: str) -> list[str]:
    return [rest for step, rest in steps() if step == name]


def pairs(lines: Iterable[str]) -> dict[str, str]:
    """Of lines `NAME=value`."""
    found: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition("=")
        found[name] = value
    return found


def environment() -> dict[str, str]:
    return pairs(word for line in arguments("ENV") for word in line.split())


def copied() -> list[str]:
    """What comes from the checkout."""
    return [line.split()[0].rstrip("/") for line in arguments("COPY") if not line.startswith("--from")]


def settings() -> set[str]:
    fields = Settings.model_fields.items()
    return {str(field.validation_alias or f"AGENT_MODE_{name.upper()}") for name, field in fields}


def by_kind(kind: str) -> dict[str, Any]:
    return next(document for document in MANIFESTS if document["kind"] == kind)


def container() -> dict[str, Any]:
    return by_kind("Deployment")["spec"]["template"]["spec"]["containers"][0]


# ---------------------------------------------------------------- the image


def test_the_image_has_two_stages_on_one_base() -> None:
    bases = [line.split()[0] for line in arguments("FROM")]
    assert len(bases) == 2
    assert len(set(bases)) == 1, "an environment made by another Python does not start"
    assert bases[0] in ("python:3.12-slim", "python:3.11-slim")


def test_the_image_holds_what_the_package_reads_and_nothing_else() -> None:
    assert all((ROOT / path).exists() for path in copied())
    read = {"agent_mode", "personas", "pipelines", "strategies", "valves"}
    assert set(copied()) == read | {"requirements.lock"}
    kept = (ROOT / ".dockerignore").read_text().splitlines()
    assert {line[1:].rstrip("/") for line in kept if line.startswith("!")} == set(copied())
    assert "*" in kept


def test_the_dependencies_are_installed_as_start_sh_does() -> None:
    options = r"pip install (.*--require-hashes --no-deps) -r"
    ours = re.search(options, (ROOT / "scripts" / "venv.sh").read_text())
    image = re.search(options + r" requirements\.lock", DOCKERFILE)
    assert ours
    assert image
    assert ours[1] == image[1]


def test_the_image_runs_as_a_numbered_user_who_owns_the_data() -> None:
    user, group = arguments("USER")[-1].split(":")
    assert int(user) > 0
    assert int(group) > 0
    made = next(line for line in arguments("RUN") if "/data" in line)
    assert f"-o {user} -g {group}" in made
    assert environment()["AGENT_MODE_DATA_DIR"] in arguments("VOLUME")
    names = [name for name, _ in steps(1)]
    assert names.index("USER") < names.index("CMD")


def test_the_image_s_variables_are_settings() -> None:
    assert set(environment()) - settings() == {"HOME"}
    assert environment()["HOST"] == "0.0.0.0"
    assert arguments("EXPOSE") == [environment()["PORT"]]


def test_the_health_check_asks_a_route_that_needs_no_key() -> None:
    command = json.loads(arguments("HEALTHCHECK")[0].partition("CMD ")[2])
    assert compile(command[2], "health", "exec")
    asked = re.findall(r"'(/\w+)'", command[2])
    assert set(asked) == {"/readyz"} <= OPEN_PATHS


# ---------------------------------------------------------------- compose


def interpolated(values: dict[str, str]) -> dict[str, Any]:
    """compose.yaml as Compose reads it with these variables."""

    def value(found: re.Match[str]) -> str:
        given = values.get(found[1], "")
        assert given or found[2] != "?", f"{found[1]} is needed: {found[3]}"
        return given or (found[3] if found[2] == "-" else "")

    return yaml.safe_load(_VARIABLE.sub(value, (ROOT / "compose.yaml").read_text(encoding="utf-8")))


@pytest.fixture
def secrets(tmp_path: Path) -> dict[str, str]:
    """What the line of docs/docker.md writes to .env."""
    script = next(script for script in scripts(text_of("docker.md")) if ".env" in script)
    subprocess.run(["bash", "-euc", script], cwd=tmp_path, check=True)
    assert (tmp_path / ".env").stat().st_mode & 0o077 == 0
    return pairs((tmp_path / ".env").read_text().splitlines())


def test_compose_starts_with_the_secrets_of_the_docs(secrets: dict[str, str]) -> None:
    needed = {
        found[1] for found in _VARIABLE.finditer((ROOT / "compose.yaml").read_text()) if found[2] == "?"
    }
    assert set(secrets) == needed
    assert len(set(secrets.values())) == len(secrets)
    services = interpolated(secrets)["services"]
    assert services["agent-mode"]["environment"]["PIPELINES_API_KEY"] == secrets["PIPELINES_API_KEY"]
    assert services["open-webui"]["environment"]["OPENAI_API_KEYS"] == secrets["PIPELINES_API_KEY"]
    with pytest.raises(AssertionError, match=r"docker\.md"):
        interpolated({})


def test_git_and_docker_leave_the_secrets_alone() -> None:
    assert "/.env" in (ROOT / ".gitignore").read_text().splitlines()


def test_the_settings_of_agent_mode_exist(secrets: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    given = interpolated(secrets)["services"]["agent-mode"]["environment"]
    assert set(given) <= settings()
    for name in settings():
        monkeypatch.delenv(name, raising=False)
    for name, value in {**environment(), **given}.items():
        monkeypatch.setenv(name, value or "")
    read = Settings()  # pyright: ignore[reportCallIssue]
    postgres = SERVICES["postgres"]["environment"]
    user = f"{postgres['POSTGRES_USER']}:{secrets['POSTGRES_PASSWORD']}"
    address = f"postgresql+asyncpg://{user}@postgres:5432/{postgres['POSTGRES_DB']}"
    assert read.resolved_database_url() == address
    assert read.openai_api_base_url is None, "an empty variable counts as unset"
    assert read.data_dir == Path("/data")


def test_the_services_find_one_another() -> None:
    port = environment()["PORT"]
    assert SERVICES["open-webui"]["environment"]["OPENAI_API_BASE_URLS"] == f"http://agent-mode:{port}"
    assert SERVICES["agent-mode"]["environment"]["OPENWEBUI_URL"] == "http://open-webui:8080"
    assert SERVICES["open-webui"]["ports"] == ["127.0.0.1:3000:8080"]
    assert SERVICES["open-webui"]["image"].endswith(":0.12.4")
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert set(published) == {"open-webui", "agent-mode"}
    assert published["agent-mode"] == [f"127.0.0.1:{port}:{port}"]
    assert f"http://localhost:{port}/admin" in text_of("docker.md")
    assert SERVICES["agent-mode"]["build"] == "."


def test_who_is_waited_for_has_a_health_check() -> None:
    waited = {name for service in SERVICES.values() for name in service.get("depends_on", {})}
    assert waited == {"agent-mode", "postgres"}
    assert arguments("HEALTHCHECK")
    assert "pg_isready" in SERVICES["postgres"]["healthcheck"]["test"][1]
    for service in SERVICES.values():
        for condition in service.get("depends_on", {}).values():
            assert condition == {"condition": "service_healthy"}


def test_the_data_are_in_volumes() -> None:
    mounted = {
        volume.split(":")[0]: volume.split(":")[1] for s in SERVICES.values() for volume in s["volumes"]
    }
    assert set(mounted) == set(COMPOSE["volumes"])
    assert mounted["agent-mode"] == environment()["AGENT_MODE_DATA_DIR"]
    assert SERVICES["agent-mode"]["read_only"] is True
    assert SERVICES["agent-mode"]["tmpfs"] == ["/tmp"]


def test_the_docs_tell_the_variables_that_compose_passes_on() -> None:
    page = text_of("docker.md")
    passed = {found[1] for found in _VARIABLE.finditer((ROOT / "compose.yaml").read_text())}
    assert not {name for name in passed if name not in page}
    example = next(content for language, content in blocks(page) if language == "env")
    assert {line.partition("=")[0] for line in example.splitlines()} <= passed


# ---------------------------------------------------------------- Kubernetes


def test_the_manifest_has_what_a_cluster_asks_for() -> None:
    versions = {document["kind"]: document["apiVersion"] for document in MANIFESTS}
    assert versions == {"PersistentVolumeClaim": "v1", "Deployment": "apps/v1", "Service": "v1"}
    spec = by_kind("Deployment")["spec"]
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"] == labels == by_kind("Service")["spec"]["selector"]


def test_the_manifest_fits_the_image() -> None:
    pod = by_kind("Deployment")["spec"]["template"]["spec"]
    user, group = map(int, arguments("USER")[-1].split(":"))
    context = pod["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"], context["fsGroup"]) == (user, group, group)
    port = container()["ports"][0]
    assert port["containerPort"] == int(environment()["PORT"])
    service = by_kind("Service")["spec"]["ports"][0]
    assert (service["port"], service["targetPort"]) == (port["containerPort"], port["name"])
    mounts = {mount["name"]: mount["mountPath"] for mount in container()["volumeMounts"]}
    assert mounts == {"data": "/data", "tmp": "/tmp"}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert set(volumes) == set(mounts)
    claim = volumes["data"]["persistentVolumeClaim"]["claimName"]
    assert claim == by_kind("PersistentVolumeClaim")["metadata"]["name"]


def test_the_probes_ask_routes_that_need_no_key() -> None:
    probes = {name: probe["httpGet"] for name, probe in container().items() if name.endswith("Probe")}
    assert set(probes) == {"startupProbe", "readinessProbe", "livenessProbe"}
    assert {probe["path"] for probe in probes.values()} == {"/readyz", "/healthz"} <= OPEN_PATHS
    assert probes["livenessProbe"]["path"] == "/healthz", "a lost database is no reason for a restart"
    assert {probe["port"] for probe in probes.values()} == {container()["ports"][0]["name"]}


def test_the_secret_and_the_variables_are_settings(tmp_path: Path) -> None:
    assert {variable["name"] for variable in container()["env"]} <= settings()
    script = scripts(text_of("kubernetes.md"))[0]
    double = tmp_path / "kubectl"
    double.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    double.chmod(0o755)
    variables = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PASSWORD": "pw"}
    done = subprocess.run(["bash", "-euc", script], env=variables, capture_output=True, text=True, check=True)
    said = done.stdout.splitlines()
    assert said[:4] == ["create", "secret", "generic", container()["envFrom"][0]["secretRef"]["name"]]
    given = pairs(line.removeprefix("--from-literal=") for line in said[4:])
    assert set(given) <= settings()
    assert set(given) == {"PIPELINES_API_KEY", "AGENT_MODE_SECRET_KEY", "AGENT_MODE_DATABASE_URL"}
    assert all(len(value) > 20 for value in given.values())
