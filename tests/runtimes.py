"""What a runtime with a small catalogue is opened with, as a server would hold it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from agent_mode.settings import ROOT, Settings

CATALOGUE = ("coder", "teacher", "writer", "scientist", "sql_expert")


def settings(folder: Path, **fields: Any) -> Settings:
    """Settings whose data, and whose few personas, lie in the folder; the environment does not count."""
    personas = folder / "personas"
    personas.mkdir(exist_ok=True)
    for key in CATALOGUE:
        shutil.copy(ROOT / "personas" / f"{key}.json", personas)
    nothing = {name: field.default for name, field in Settings.model_fields.items()}
    values = {**nothing, "data_dir": folder / "data", "personas_dir": personas, **fields}
    return Settings.model_construct(**values)
