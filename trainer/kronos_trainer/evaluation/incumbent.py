"""Whether the published run may be compared on a test span: it must not have been trained or selected on it."""

from __future__ import annotations

from collections.abc import Iterable

from kronos_trainer.config import RunConfig, StageResult

Spans = dict[str, tuple[str, str]]  # first instant and first instant after, by split


def refusal(
    test: tuple[str, str],
    *,
    ours: RunConfig,
    digest: str,
    published: RunConfig,
    results: Iterable[StageResult],
) -> str:
    """Why the published run cannot be compared on the test span [start, end); empty where it can.

    `digest` is that of our bars, `results` those of the published run's stages that trained.
    """
    if published.timeframe is not ours.timeframe:
        return f"run {published.run} forecasts {published.timeframe} bars, and this one {ours.timeframe} bars"
    for result in results:
        spans = _spans(result, published, ours, digest)
        if spans is None:
            return (
                f"run {published.run}, of an older release, does not say on which span its {result.stage} was trained, "
                "and its bars or its split were others"
            )
        for name in ("train", "validation"):
            start, end = spans.get(name, ("", ""))
            if start < test[1] and test[0] < end:
                what = "trained" if name == "train" else "selected"
                return (
                    f"run {published.run} was {what} on {start} to {end}, which overlaps with the test span "
                    f"{test[0]} to {test[1]}"
                )
    return ""


def _spans(result: StageResult, published: RunConfig, ours: RunConfig, digest: str) -> Spans | None:
    """The spans of a stage; an empty train span ends before everything. None where they cannot be known."""
    data = result.data
    if data is not None and data.spans:
        return dict(data.spans)
    ranges = published.data.split.ranges
    if ranges is not None:
        return {
            "train": (ranges.train.start, ranges.train.end),
            "validation": (ranges.validation.start, ranges.validation.end),
        }
    if data is not None and data.digest == digest and published.data.split == ours.data.split:
        return {}  # then its spans are ours, and those do not overlap
    return None
