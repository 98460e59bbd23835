"""The models of ours, as upstream lists them."""

from __future__ import annotations

from typing import Any

from agent_mode.admin.backend import OfferedModel
from agent_mode.server import upstream
from agent_mode.server.native import NativePipeline


def models() -> list[OfferedModel]:
    """Agents first, then personas, then those that answer for the others; each in order of their names."""
    found = [
        model
        for pipeline_id, pipeline in upstream.pipelines().items()
        if isinstance(pipeline, NativePipeline)
        for model in _of(pipeline_id, pipeline)
    ]
    order = ("agent", "persona", "helper")
    return sorted(found, key=lambda model: (order.index(model.kind), model.id))


def _of(pipeline_id: str, pipeline: Any) -> list[OfferedModel]:
    kind = getattr(pipeline, "type", "pipe")
    if kind == "filter":
        return []
    if kind == "manifold":
        return [
            _model(f"{pipeline_id}.{entry['id']}", entry["name"], pipeline.model_extras(entry["id"]))
            for entry in pipeline.pipelines()
        ]
    return [_model(pipeline_id, str(pipeline.name), pipeline.model_extras(pipeline_id))]


def _model(model_id: str, name: str, extras: dict[str, Any]) -> OfferedModel:
    meta = (extras.get("info") or {}).get("meta") or {}
    tags = {tag.get("name") for tag in extras.get("tags") or ()}
    kind = "helper" if meta.get("hidden") else "persona" if "Persona" in tags else "agent"
    return OfferedModel(model_id, name, str(meta.get("description") or ""), kind)
