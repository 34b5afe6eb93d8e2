"""The last words of a promotion, which the operator reads."""

from __future__ import annotations

from pathlib import Path

from kronos_trainer.config import PointerEvent
from kronos_trainer.training import termination


def test_the_last_words_of_a_promotion_name_the_published_weights_and_fit(tmp_path: Path) -> None:
    digests, hashes = {"tokenizer": "a" * 64, "predictor": "b" * 64}, {"tokenizer": "1" * 16, "predictor": "2" * 16}
    sizes, days = {"tokenizer": 2**62, "predictor": 1}, {"tokenizer": "2025-12-31", "predictor": "2026-01-31"}
    said = {"digests": digests, "hashes": hashes, "bytes": sizes, "data_through": days}
    left = PointerEvent.of("pointer", run="3c0ffee3", previous="0ddba115", message="m" * 9999, time="now", **said)
    place = tmp_path / "termination-log"
    termination.leave(place, left)
    assert place.stat().st_size <= termination.BYTES
    read = termination.read(place)
    assert isinstance(read, PointerEvent)
    assert (read.run, read.previous) == ("3c0ffee3", "0ddba115")
    assert {name: getattr(read, name) for name in said} == said
    assert read.message.startswith("mmm")
