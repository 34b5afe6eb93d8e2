"""The report of a run inside a notebook, as `model.report()`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from markupsafe import escape

from kronos_trainer.errors import InputMissing

_HEIGHT = 720  # pixels; the page scrolls within


@dataclass(frozen=True)
class RunReport:
    """report.html of a run. A notebook shows the page itself."""

    path: Path

    def _repr_html_(self) -> str:
        # The page's own policy forbids scripts; the sandbox keeps them out whatever the file holds.
        page = escape(self.path.read_text(encoding="utf-8"))
        return f'<iframe sandbox srcdoc="{page}" width="100%" height="{_HEIGHT}" style="border: 0"></iframe>'


def report_of(run: Path) -> RunReport:
    """From the directory of a run. Raises InputMissing where it has no report."""
    file = run / "report.html"
    if not file.is_file():
        raise InputMissing(f"{file} is absent; `kronos report NAME --run {run.name}` writes it from the run's files")
    return RunReport(file)
