"""What the shell proposes for the name of a model: those that were run on this machine."""

from __future__ import annotations

import os


def model_names(incomplete: str) -> list[str]:
    """Names below the output directory that begin like this. A cluster is not asked: a key press must not wait."""
    from kronos_operator.local import LocalSettings

    models = LocalSettings.from_environ(os.environ).output_root / "models"
    return sorted({path.name for path in models.glob("*/*") if path.name.startswith(incomplete)})
