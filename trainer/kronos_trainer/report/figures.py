"""The figures of a report. Each is a function of facts; legends and captions are the page's."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from statistics import median

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, MaxNLocator

from kronos_trainer.evaluation import document
from kronos_trainer.report import canvas
from kronos_trainer.report.canvas import INK, Shape, drawn, plain
from kronos_trainer.report.facts import DataRead
from kronos_trainer.report.judged import LEVELS, Judged
from kronos_trainer.report.trained import Curve, Training

COLOURS = {
    document.MODEL: canvas.MODEL,
    document.CALIBRATED: canvas.MODEL,
    document.START: canvas.START,
    document.PUBLISHED: canvas.PUBLISHED,
    document.NAIVE: canvas.NAIVE,
}
_LINES = {document.MODEL: "-", document.CALIBRATED: (0, (4, 2)), document.NAIVE: (0, (1.2, 1.6))}
EPOCH = datetime(1970, 1, 1).toordinal()  # Matplotlib counts days from there


def by_step(found: Judged) -> Markup | None:
    """Loss at each step of the horizon, of the model and its rivals; None where nothing is known of it."""
    titles = {"crps": "CRPS, % of the close", "absoluteError": "Error of the median, % of the close"}
    shown = [(metric, title) for metric, title in titles.items() if found.by_step.get(metric)]
    if not shown:
        return None

    def draw(figure: Figure, shape: Shape) -> None:
        for axes, (metric, title) in zip(_panels(figure, shape, len(shown)), shown, strict=True):
            plain(axes, title=title)
            losses = found.by_step[metric]
            for name in sorted(losses, key=lambda name: (name in COLOURS, name == document.MODEL)):
                _by_step_line(axes, name, losses[name])
            axes.set_ylim(bottom=0)
            axes.yaxis.set_major_locator(MaxNLocator(5))
            _label_steps(axes, found.horizon)

    return drawn("Error by step of the forecast", draw, height=250, narrow_height=230 * len(shown))


def calibration(found: Judged) -> Markup | None:
    """Coverage of the central bands, coverage by step, and the histogram of the probability integral transform."""
    steps = {
        name: values
        for name, values in found.by_step.get("coverage80", {}).items()
        if name in (document.MODEL, document.CALIBRATED)
    }
    panels = [*(["bands"] if found.coverage else []), *(["steps"] if steps else []), *(["pit"] if found.pit else [])]
    if not panels:
        return None

    def draw(figure: Figure, shape: Shape) -> None:
        for axes, panel in zip(_panels(figure, shape, len(panels)), panels, strict=True):
            if panel == "bands":
                _draw_bands(axes, found)
            elif panel == "steps":
                plain(axes, title="Inside the 80 % band, by step")
                axes.axhline(0.8, color=INK, linewidth=0.9)
                for name, values in steps.items():
                    _by_step_line(axes, name, values)
                axes.set_ylim(0, 1.02)
                axes.yaxis.set_major_formatter(FuncFormatter(_as_percent))
                _label_steps(axes, found.horizon)
            else:
                _draw_pit(axes, found)

    return drawn("Calibration", draw, height=235, narrow_height=215 * len(panels))


def training(one: Training) -> Markup | None:
    """Losses, learning rate and throughput of a stage over its steps; None where no line of them was left."""
    if not (one.loss.steps or one.validation_loss.steps):
        return None

    crps = bool(one.validation_crps.steps)

    def draw(figure: Figure, shape: Shape) -> None:
        ratios = [2.2, *([1.3] if crps else []), 1, 1]
        if shape.narrow:
            panels = list(figure.subplots(len(ratios), 1, sharex=True, height_ratios=ratios))
        else:
            panels = list(figure.subplots(1, len(ratios), width_ratios=ratios))
        losses, rate, speed = panels[0], panels[-2], panels[-1]
        plain(losses, title="Loss")
        losses.plot(one.loss.steps, one.loss.values, color=canvas.OTHER, linewidth=1.2)
        _validations(losses, one.validation_loss, one.best_step, one.best_validation_loss)
        _focus(losses, one)
        if crps:
            plain(panels[1], title="Validation CRPS")
            _validations(panels[1], one.validation_crps, one.best_step, one.best_crps)
            panels[1].yaxis.set_major_locator(MaxNLocator(4))
        plain(rate, title="Learning rate")
        rate.plot(one.learning_rate.steps, one.learning_rate.values, color=INK, linewidth=1.1)
        rate.yaxis.set_major_formatter(FuncFormatter(_exponent))
        plain(speed, title="Windows/s")
        speed.plot(one.throughput.steps, one.throughput.values, color=INK, linewidth=1.1)
        for axes in (rate, speed):
            axes.set_ylim(bottom=0)
            axes.yaxis.set_major_locator(MaxNLocator(3))
        speed.yaxis.set_major_formatter(EngFormatter(sep=""))
        for axes in panels:
            axes.xaxis.set_major_locator(
                MaxNLocator(6 if axes is losses and not crps else 3 if crps else 2, integer=True)
            )
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
            if axes is speed or not shape.narrow:
                axes.set_xlabel("step", fontsize=10.5)

    return drawn(f"Training of the {one.stage}", draw, height=220, narrow_height=520 if crps else 400)


def _validations(axes: Axes, curve: Curve, best_step: int | None, best: float | None) -> None:
    """Numbers of the validations, and a ring around that of the weights that were kept."""
    dots = {"marker": "o", "markersize": 3.2} if len(curve.steps) <= 40 else {}
    axes.plot(curve.steps, curve.values, color=canvas.MODEL, **dots)  # type: ignore[arg-type]
    if best_step is not None and best is not None:
        axes.plot([best_step], [best], marker="o", markersize=8, color="none", markeredgecolor=INK, markeredgewidth=1.1)


def timeline(data: DataRead) -> Markup | None:
    """What pretraining may have seen and what each split has, on one axis of time; None without spans."""
    spans = {name: (days_of(start), days_of(end)) for name, (start, end) in data.spans.items()}
    known = {
        name: (start, end)
        for name, (start, end) in spans.items()
        if start is not None and end is not None and end > start
    }
    if not known:
        return None
    first, last = min(start for start, _ in known.values()), max(end for _, end in known.values())
    until = days_of(data.pretrained_until)

    def draw(figure: Figure, shape: Shape) -> None:
        axes = figure.subplots()
        plain(axes, horizontal=False)
        width = last - first
        end = last if until is None else max(last, min(until, last + 0.6 * width))
        left, right = first - 0.01 * width, end + 0.01 * width
        colours = {
            "train": canvas.TRAIN,
            "validation": canvas.VALIDATION,
            "embargo": canvas.EMBARGO,
            "test": canvas.TEST,
        }
        least = 3 * (right - left) / shape.width  # three points: an embargo is to be seen
        for name, (start, after) in sorted(known.items(), key=lambda item: item[0] == "embargo"):  # above the test
            axes.barh(0, max(after - start, least), left=start, height=0.52, color=colours.get(name, canvas.OTHER))
        if until is not None and until > left:
            axes.barh(1, min(until, right) - left, left=left, height=0.52, color=canvas.SEEN)
        elif data.pretrained_until == "unknown":
            axes.barh(
                1, right - left, left=left, height=0.52, color="none", edgecolor=canvas.SEEN, linestyle=(0, (3, 2))
            )
        axes.set_xlim(left, right)
        rows = {0: "this run"} | ({1: "pretraining"} if data.pretrained_until else {})
        axes.set_ylim(-0.5, max(rows) + 0.5)
        axes.set_yticks(list(rows), list(rows.values()))
        date_axis(axes, shape, width)

    rows = 2 if data.pretrained_until else 1
    return drawn("Time axis of the data", draw, height=45 + 36 * rows, narrow_height=45 + 34 * rows)


def _panels(figure: Figure, shape: Shape, number: int) -> Sequence[Axes]:
    grid = figure.subplots(number, 1, squeeze=False) if shape.narrow else figure.subplots(1, number, squeeze=False)
    return list(grid.flat)


def _by_step_line(axes: Axes, name: str, values: Sequence[float | None]) -> None:
    steps = range(1, len(values) + 1)
    losses = [float("nan") if value is None else value for value in values]
    thick = 2.2 if name == document.MODEL else 1.5 if name in COLOURS else 0.9
    colour = COLOURS.get(name, canvas.OTHER)
    dot = {"marker": "o", "markersize": 4} if len(values) == 1 else {}
    axes.plot(steps, losses, color=colour, linewidth=thick, linestyle=_LINES.get(name, "-"), **dot)  # type: ignore[arg-type]


def _label_steps(axes: Axes, horizon: int) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    axes.set_xlim(0.5, max(horizon, 1) + 0.5)
    axes.set_xlabel("bars ahead", fontsize=10.5)


def _draw_bands(axes: Axes, found: Judged) -> None:
    """Share of closes inside each band, with its interval, beside the share that there should be."""
    plain(axes, title="Closes inside the central bands", horizontal=False)
    names = list(dict.fromkeys(row.forecaster for row in found.coverage))
    for place, level in enumerate(reversed(LEVELS)):
        axes.plot([level / 100] * 2, [place - 0.38, place + 0.38], color=INK, linewidth=1.1)
        rows = [row for row in found.coverage if round(100 * row.level) == level]
        for row in rows:
            at = place + 0.2 * ((len(names) - 1) / 2 - names.index(row.forecaster))
            colour = COLOURS[row.forecaster]
            if row.low is not None and row.high is not None:
                axes.plot([row.low, row.high], [at, at], color=colour, linewidth=1.4)
            hollow = row.forecaster == document.CALIBRATED
            axes.plot(
                [row.share], [at], marker="o", markersize=5, linestyle="none", color=canvas.PAPER if hollow else colour,
                markeredgecolor=colour, markeredgewidth=1.4,
            )  # fmt: skip
    axes.set_ylim(-0.6, len(LEVELS) - 0.4)
    axes.set_yticks(range(len(LEVELS)), [f"{level} %" for level in reversed(LEVELS)])
    axes.set_xlim(0, 1.02)
    axes.xaxis.set_major_formatter(FuncFormatter(_as_percent))


def _draw_pit(axes: Axes, found: Judged) -> None:
    plain(axes, title="Where the close fell in the forecast")
    sampled = [value or 0.0 for value in found.pit.get(document.MODEL, ())]
    bins = len(sampled) or len(next(iter(found.pit.values())))
    middles = [(place + 0.5) / bins for place in range(bins)]
    if sampled:
        axes.bar(middles, sampled, width=0.86 / bins, color=canvas.MODEL, alpha=0.55)
    calibrated = [value or 0.0 for value in found.pit.get(document.CALIBRATED, ())]
    if calibrated:
        edges = [place / bins for place in range(bins + 1)]
        axes.stairs(calibrated, edges, color=canvas.MODEL, linewidth=1.3, linestyle=(0, (4, 2)), baseline=None)
    axes.axhline(1 / bins, color=INK, linewidth=0.9)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, max([2.2 / bins, *(1.12 * value for value in (*sampled, *calibrated))]))
    axes.set_xticks([0.08, 0.5, 0.9], ["lowest", "median", "highest"])
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_formatter(FuncFormatter(_as_percent))


def _focus(axes: Axes, one: Training) -> None:
    """A few losses at the start may be many times the rest: what matters is to be seen."""
    values = [*one.loss.values, *one.validation_loss.values]
    if len(values) > 8:
        ranked = sorted(values)
        low, middle, high = ranked[0], median(ranked), ranked[-1]
        if high - low > 8 * (middle - low) > 0:
            axes.set_ylim(low - 0.15 * (middle - low), middle + 4 * (middle - low))


def _as_percent(value: float, _: object = None) -> str:
    return f"{100 * value:.0f} %"


def _exponent(value: float, _: object = None) -> str:
    """2e-5 for 0.00002."""
    if value == 0:
        return "0"
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}".replace("-", "−")


def days_of(instant: str) -> float | None:
    """Days since 1970 of an ISO 8601 instant; None for what is none."""
    try:
        moment = datetime.fromisoformat(instant)
    except ValueError:
        return None
    return moment.toordinal() - EPOCH + (moment.hour + moment.minute / 60) / 24


def date_axis(axes: Axes, shape: Shape, width: float) -> None:
    """Labels the x axis, which is in days since 1970 and so many days long, by dates."""
    locator = AutoDateLocator(minticks=2, maxticks=4 if shape.narrow else 8)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _of_days(value, width)))


def _of_days(value: float, width: float) -> str:
    """A date as short as the length of the axis, in days, allows."""
    moment = datetime.fromordinal(max(1, int(value) + EPOCH))
    return f"{moment:%Y}" if width > 5 * 365 else f"{moment:%b %Y}" if width > 200 else f"{moment:%d %b}"
