"""Rows that both the page and the text show. Called by html and text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from kronos_trainer.forecast.calibration import Calibration
from kronos_trainer.report import wording
from kronos_trainer.report.trained import Training


def training_rows(trained: Sequence[Training]) -> list[tuple[str, list[str]]]:
    """What each stage took, a row for each kind of number."""
    number, count, duration, plain = wording.number, wording.count, wording.duration, wording.plain
    rows: Mapping[str, Callable[[Training], str]] = {
        "epochs": lambda one: count(one.epochs),
        "optimizer steps": lambda one: count(one.steps),
        "best weights after step": lambda one: count(one.best_step),
        "validation loss before": lambda one: wording.loss(one.initial_validation_loss),
        "validation loss of the best": lambda one: wording.loss(one.best_validation_loss),
        "validation CRPS before": lambda one: wording.loss(one.initial_crps),
        "validation CRPS of the best": lambda one: wording.loss(one.best_crps),
        "best by": lambda one: one.selected_by or wording.NOTHING,
        "training loss, last": lambda one: wording.loss(one.final_train_loss),
        "time": lambda one: duration(one.seconds),
        "windows per second": lambda one: number(one.samples_per_second),
        "interruptions": lambda one: count(one.interruptions),
        "processes": lambda one: count(one.processes),
        "device": lambda one: plain(one.device) or wording.NOTHING,
        "precision": lambda one: plain(one.precision) or wording.NOTHING,
        "GPU memory of a process, at most": lambda one: wording.megabytes(one.peak_gpu_bytes),
        "GPU hours": lambda one: wording.hours(one.gpu_hours),
    }
    shown = [(title, [show(one) for one in trained]) for title, show in rows.items()]
    return [(title, cells) for title, cells in shown if set(cells) != {wording.NOTHING}]


def calibration_rows(found: Calibration) -> list[tuple[str, str]]:
    """What a calibration has chosen, and what its bands held where it was measured."""
    percent, count = wording.percent, wording.count
    rows = [("temperature", wording.number(found.temperature)), ("top-p", wording.number(found.top_p))]
    if found.cells:
        rows.append(("measured on", f"{count(found.cells)} forecasts of {count(found.dates)} dates"))
    for level, factors in zip(found.levels, found.factors, strict=False):
        name = f"{100 * level:g}"
        ends = dict.fromkeys(f"{factor:.2f}" for factor in (min(factors), max(factors))) if factors else {}
        said = [f"ends moved by a factor of {' to '.join(ends)}"] if ends else []
        if name in found.sampled:
            held = percent(found.sampled[name]), percent(found.calibrated.get(name))
            said.insert(0, f"held {held[0]} as sampled, {held[1]} calibrated")
        rows.append((f"{name} % band", "; ".join(said)))
    return [*rows, *([("note", found.note)] if found.note else [])]
