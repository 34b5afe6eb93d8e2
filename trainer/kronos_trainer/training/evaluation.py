"""The stage that judges a finished model: forecasts on its test span, scored beside rivals, and a verdict.

What decides is chosen before anything is forecast: the dates, the metric and the rivals (docs/evaluation.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

from kronos_trainer.backtest.rules import check
from kronos_trainer.config import Backtest, StageResult, utc_text
from kronos_trainer.config import Evaluation as Settings
from kronos_trainer.data.windows import instant_text
from kronos_trainer.errors import DataError
from kronos_trainer.evaluation.baselines import baselines
from kronos_trainer.evaluation.calibrating import calibrate
from kronos_trainer.evaluation.document import (
    CALIBRATED,
    MODEL,
    PUBLISHED,
    START,
    Evaluation,
    Fan,
    Reading,
    Span,
)
from kronos_trainer.evaluation.fans import fans
from kronos_trainer.evaluation.forecasting import origins_of, outcome_of
from kronos_trainer.evaluation.gate import decide
from kronos_trainer.evaluation.judging import Question, Scored, judge
from kronos_trainer.evaluation.nets import Contenders, Nets
from kronos_trainer.evaluation.origins import dates_of
from kronos_trainer.evaluation.readings import record
from kronos_trainer.evaluation.rivals import BaselineRival, CalibratedRival, NetRival, Rival, Sampled
from kronos_trainer.evaluation.scoreboard import Scoreboard
from kronos_trainer.evaluation.scoring import Limits, Watch, rows_of, score_all
from kronos_trainer.evaluation.signals import Signals
from kronos_trainer.forecast.calibration import Calibration
from kronos_trainer.forecast.sampling import Sampling
from kronos_trainer.macro.covariates import known_series
from kronos_trainer.macro.view import is_slow, macro_view
from kronos_trainer.storage import durable, pointers
from kronos_trainer.training.heartbeat import heartbeat
from kronos_trainer.training.task import Work

MOST_CALIBRATED = 300  # cells of the validation span that a calibration is measured on
MOST_VALIDATED = 60  # dates of it


def evaluate(work: Work) -> StageResult:
    """Judges the run's model; goes on where an earlier attempt has stopped.

    Raises Stopped when asked to stop, after saving what was scored, and other errors of `kronos_trainer.errors`.
    """
    return _Evaluation(work).result()


class _Evaluation:
    """What an evaluation builds on its way."""

    def __init__(self, work: Work) -> None:
        settings = work.run.settings(Settings)
        assert settings is not None
        if settings.backtest is not None:
            check(settings.backtest, len(work.bars.symbols))
        self._work = work
        self._run = work.run
        self._settings = settings
        self._files = work.paths.stage(work.run.stage)
        self._span = work.splits.spans["test"]
        window = work.run.window
        self._dates = dates_of(work.bars, self._span, window, embargo=window.horizon)
        self._texts = self._dates.texts()
        current = pointers.current(work.paths)
        self._published = "" if current is None else current.run
        self._contenders = Contenders(
            work=work,
            test=(self._texts[0] if self._texts else instant_text(self._span[0]), instant_text(self._span[1])),
            incumbent="" if self._published == work.run.run else self._published,
        )
        self._plain = Sampling(temperature=1.0, top_p=1.0, samples=settings.samples, seed=work.run.training.seed)

    def result(self) -> StageResult:
        """Does all of it, and returns what result.json is to say."""
        run, work = self._run, self._work
        finetuned = self._contenders.finetuned()
        plain = Sampled(work.bars, finetuned.forecaster, self._plain, work.beat)
        calibrated = self._calibrated(finetuned, plain)
        rivals, left_out = self._rivals(finetuned, plain, calibrated)
        board = Scoreboard(self._files.scores, self._key(), len(self._dates), len(work.bars.symbols))
        done = np.array(self._scored(rivals, board), np.int64)
        scored = {
            rival.name: Scored(label=rival.label, scores=board.rows[rival.name].scores.of(done)) for rival in rivals
        }
        signals = self._signals(done, scored)
        signals.save(self._files.signals)
        facts = self._facts(done, left_out, board.seconds)
        judged, summary = judge(facts, scored, self._question(facts))
        if MODEL in scored and len(done):
            judged = judged.model_copy(update={"fans": self._fans(board, plain, calibrated)})
        durable.write_text(self._files.evaluation, judged.dump())
        if is_slow(run.timeframe):
            known, unread = known_series(run.bars, run.data)
            view = macro_view(work.bars, run.timeframe, judged, start=self._span[0], known=known)
            durable.write_text(self._files.macro, view.with_notes(unread).dump())
        if self._settings.backtest is not None:
            self._backtest(self._settings.backtest, signals, judged)
        work.keep()
        return StageResult(
            scores={"crps": summary.loss},
            evaluation=summary,
            promotion=decide(run.promotion, summary, model=run.model.name, run=run.run, published=self._published),
        )

    def _calibrated(self, finetuned: Nets, plain: Sampled) -> CalibratedRival:
        """The run's model with the sampling and bands that served best on the validation span; calibration.json."""
        calibration = self._kept_calibration()
        if calibration is None:
            calibration = self._calibrate(finetuned)
            durable.write_text(self._work.paths.calibration, calibration.dump())
        served = replace(self._plain, temperature=calibration.temperature, top_p=calibration.top_p)
        same = served == self._plain
        return CalibratedRival(
            name=CALIBRATED,
            label=f"this run's model, calibrated: temperature {served.temperature:g}, top-p {served.top_p:g}",
            key=calibration.dump(),
            sampled=plain if same else Sampled(self._work.bars, finetuned.forecaster, served, self._work.beat),
            calibration=calibration,
        )

    def _kept_calibration(self) -> Calibration | None:
        """That of an earlier attempt."""
        try:
            kept = Calibration.load(self._work.paths.calibration.read_text())
        except (OSError, ValueError):
            return None
        return kept if kept.hash == self._run.stage_hashes[self._run.stage] else None

    def _calibrate(self, finetuned: Nets) -> Calibration:
        work, run = self._work, self._run
        work.progress.phase("calibrating")
        dates = dates_of(work.bars, work.splits.spans["validation"], run.window, most=MOST_VALIDATED)
        rows, of_date = rows_of(dates, MOST_CALIBRATED)
        if len(rows):
            actual = outcome_of(work.bars, rows, lookback=run.window.lookback, horizon=run.window.horizon).close
        else:
            actual = np.empty((0, run.window.horizon))
        found = calibrate(
            lambda sampling, cells: Sampled(work.bars, finetuned.forecaster, sampling, work.beat).closes(rows[cells]),
            actual,
            of_date,
            samples=self._settings.samples,
            seed=run.training.seed,
            beat=work.beat,
        )
        return found.model_copy(update={"run": run.run, "hash": run.stage_hashes[run.stage]})

    def _rivals(
        self, finetuned: Nets, plain: Sampled, calibrated: CalibratedRival
    ) -> tuple[list[Rival], dict[str, str]]:
        """All that are scored, and why others are not."""
        work, window = self._work, self._run.window
        if not len(self._dates):
            return [], {}
        rivals: list[Rival] = [
            NetRival(name=MODEL, label=finetuned.label, key=finetuned.key, sampled=plain),
            calibrated,
        ]
        for name, nets in ((START, self._contenders.start()), (PUBLISHED, self._contenders.published())):
            if nets is not None:
                sampled = Sampled(work.bars, nets.forecaster, self._plain, work.beat)
                rivals.append(NetRival(name=name, label=nets.label, key=nets.key, sampled=sampled))
        every = self._dates.rows[self._dates.rows >= 0]
        origins = origins_of(work.bars, every, start=self._span[0], lookback=window.lookback, horizon=window.horizon)
        applicable, left_out = baselines(origins)
        rivals += [
            BaselineRival(
                baseline=baseline,
                bars=work.bars,
                start=self._span[0],
                lookback=window.lookback,
                horizon=window.horizon,
                samples=self._settings.samples,
                seed=self._run.training.seed,
            )
            for baseline in applicable
        ]
        return rivals, left_out

    def _scored(self, rivals: list[Rival], board: Scoreboard) -> list[int]:
        """The dates (their indices) that all rivals were scored on."""
        work = self._work
        work.progress.phase("scoring", step=0, steps=len(self._dates))
        return score_all(
            work.bars,
            self._dates,
            rivals,
            board,
            lookback=self._run.window.lookback,
            limits=Limits(seconds=self._settings.max_seconds, save_every=self._run.checkpoint.every_seconds),
            watch=Watch(
                dates=lambda step, steps: work.progress.update(step=step, steps=steps), beat=work.beat, keep=work.keep
            ),
        )

    def _key(self) -> dict[str, object]:
        """What every score depends on."""
        run = self._run
        return {
            "bars": self._work.bars.digest,
            "dates": list(self._texts),
            "window": [run.window.lookback, run.window.horizon],
            "samples": self._settings.samples,
            "seed": run.training.seed,
        }

    def _signals(self, done: np.ndarray, scored: Mapping[str, Scored]) -> Signals:
        run, bars = self._run, self._work.bars
        nothing = np.full((len(done), len(bars.symbols)), np.nan)
        return Signals(
            run=run.run,
            hash=run.stage_hashes[run.stage],
            digest=bars.digest,
            horizon=run.window.horizon,
            symbols=bars.symbols,
            times=self._dates.times[done],
            expected=scored[MODEL].scores.expected if MODEL in scored else nothing,
        )

    def _backtest(self, settings: Backtest, signals: Signals, judged: Evaluation) -> None:
        """Trades on the forecasts. It decides nothing, so bars that cannot be traded are no failure of the run."""
        from kronos_trainer.backtest.running import traded  # pandas and bt take their time
        from kronos_trainer.backtest.writing import write

        try:
            with heartbeat(self._work.progress.beat):
                found = traded(self._run, self._work.paths, self._work.bars, signals, judged, settings)
        except DataError as error:
            self._work.progress.note(f"no backtest: {error}")
            return
        write(self._work.paths.backtest, found)
        self._work.progress.note(f"backtest: {found.summary.sentence}")

    def _facts(self, done: np.ndarray, left_out: dict[str, str], seconds: float) -> Evaluation:
        """What evaluation.json says of how it was done."""
        run, work, window = self._run, self._work, self._run.window
        dates = tuple(self._texts[date] for date in done)
        cut = (
            ""
            if len(dates) == len(self._dates)
            else f"maxSeconds {self._settings.max_seconds:,} was enough for {len(dates)} of {len(self._dates)} dates"
        )
        spans = {name: Span(start=start, end=end) for name, (start, end) in work.splits.span_texts().items()}
        if self._texts:
            spans["embargo"] = Span(start=instant_text(self._span[0]), end=self._texts[0])
        return Evaluation(
            model=run.model.model_dump(),
            run=run.run,
            hash=run.stage_hashes[run.stage],
            timeframe=run.timeframe.value,
            lookback=window.lookback,
            horizon=window.horizon,
            stride=self._dates.stride,
            samples=self._settings.samples,
            seed=run.training.seed,
            temperature=self._plain.temperature,
            top_p=self._plain.top_p,
            metric=run.promotion.metric,
            digest=work.bars.digest,
            spans=spans,
            pretrained_until=self._contenders.pretrained_until(),
            planned=len(self._dates),
            cut=cut,
            dates=dates,
            symbols=work.bars.symbols,
            left_out=left_out,
            seconds=round(seconds, 1),
        )

    def _question(self, facts: Evaluation) -> Question:
        run, contenders = self._run, self._contenders
        readings: tuple[Reading, ...] = ()
        if facts.dates:
            span = Span(start=facts.dates[0], end=instant_text(self._span[1]))
            at = utc_text(datetime.now(UTC), "seconds")
            reading = Reading(run=run.run, hash=run.stage_hashes[run.stage], span=span, at=at)
            readings = record(self._work.paths, reading, facts.dates)
        return Question(
            promotion=run.promotion,
            readings=readings,
            contaminated=contenders.contaminated(),
            unfair=contenders.unfair,
            refused=contenders.refused,
            seed=run.training.seed,
        )

    def _fans(self, board: Scoreboard, plain: Sampled, calibrated: CalibratedRival) -> tuple[Fan, ...]:
        window = self._run.window
        return fans(
            self._work.bars,
            self._dates,
            board.rows[MODEL].scores.crps,
            horizon=window.horizon,
            lookback=window.lookback,
            kinds={"sampled": plain.closes, "calibrated": calibrated.closes},
        )
