"""evaluation.json as DataFrames. For notebooks, as `model.evaluation`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path

import pandas as pd

from kronos_trainer.config import StageName, StagePaths
from kronos_trainer.errors import InputMissing
from kronos_trainer.evaluation.document import Evaluation, Forecaster

_COMPARED = ("verdict", "improvement", "low", "high", "p_better", "p_worse", "dates", "smallest_gain", "refused")


class EvaluationFrames:
    """What an evaluation has found; docs/evaluation.md says what the numbers mean. NaN: not scored there.

    `document` is evaluation.json itself, with the spans, the readings and whatever is no table.
    """

    def __init__(self, document: Evaluation) -> None:
        self.document = document

    @classmethod
    def of_run(cls, run: Path) -> EvaluationFrames:
        """From the directory of a run. Raises InputMissing where it was not judged, or the file is damaged."""
        file = StagePaths(run / StageName.EVALUATION).evaluation
        try:
            return cls(Evaluation.load(file.read_text()))
        except OSError:
            raise InputMissing(
                f"{file} is absent: the run was not judged; run the model again with evaluation.enabled: true, which "
                "trains nothing anew"
            ) from None
        except ValueError as error:
            raise InputMissing(f"{file}: damaged ({error}); judge the run again with `kronos run --force`") from None

    @property
    def verdict(self) -> str:
        """Better, Worse, Undecided or NotOutOfSample: against the start and the naive forecast together."""
        return self.document.summary.verdict if self.document.summary else ""

    @cached_property
    def comparisons(self) -> pd.DataFrame:
        """The model against each rival by the primary metric: index rival; improvements are shares, 0.1 is 10 %."""
        found = [[getattr(one, name) for name in _COMPARED] for one in self.document.comparisons]
        rivals = pd.Index([one.rival for one in self.document.comparisons], name="rival")
        return pd.DataFrame(found, index=rivals, columns=list(_COMPARED))

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """Index forecaster, a column for each metric of the whole test span."""
        return _rows({name: one.metrics for name, one in self._forecasters}).rename_axis("forecaster")

    @cached_property
    def losses(self) -> pd.DataFrame:
        """Index date of the origin, columns (metric, forecaster): `losses["crps"]` has a column a forecaster."""
        dates = pd.DatetimeIndex(pd.to_datetime(list(self.document.dates), format="ISO8601"), name="date")
        return _wide({name: pd.DataFrame(one.losses, dates, dtype=float) for name, one in self._forecasters})

    @cached_property
    def by_step(self) -> pd.DataFrame:
        """Index step of the horizon, from 1, columns (metric, forecaster)."""
        steps = pd.RangeIndex(1, self.document.horizon + 1, name="step")
        return _wide({name: pd.DataFrame(one.by_step, steps, dtype=float) for name, one in self._forecasters})

    @cached_property
    def by_symbol(self) -> pd.DataFrame:
        """Index symbol, columns (metric, forecaster)."""
        symbols = pd.Index(self.document.symbols, name="symbol")
        return _wide({name: _rows(one.by_symbol).reindex(symbols) for name, one in self._forecasters})

    @property
    def _forecasters(self) -> Iterable[tuple[str, Forecaster]]:
        return self.document.forecasters.items()


def _rows(table: Mapping[str, Mapping[str, float | None]]) -> pd.DataFrame:
    return pd.DataFrame(list(table.values()), index=list(table), dtype=float)


def _wide(found: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """One frame a forecaster, side by side, with the metric as the first level of the columns."""
    if not found:
        return pd.DataFrame()
    frame = pd.concat(found, axis=1, names=["forecaster", "metric"]).swaplevel(axis=1)
    metrics = list(dict.fromkeys(frame.columns.get_level_values("metric")))
    return frame[metrics]
