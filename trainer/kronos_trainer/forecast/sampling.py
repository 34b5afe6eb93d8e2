"""How a forecast is sampled, checked before torch is imported."""

from __future__ import annotations

from dataclasses import dataclass

from kronos_trainer.errors import ConfigError

MOST_SAMPLES = 100_000  # more paths would fill the memory and move no quantile


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a forecast is sampled. The defaults are those of upstream's `KronosPredictor.predict`.

    Raises ConfigError naming the value that is out of range.
    """

    temperature: float = 1.0
    """Divides the logits: below 1 sharpens, above 1 flattens."""
    top_k: int = 0
    """Draw among the k likeliest tokens; 0: among all. 1 makes the forecast deterministic."""
    top_p: float = 0.9
    """Of those, draw among the likeliest that together exceed this probability; 1: among all."""
    samples: int = 1
    """Paths per series."""
    seed: int = 0
    """The same seed, history and weights give the same forecast."""

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf"):
            raise ConfigError(f"temperature {self.temperature:g} must be above 0; for no randomness use top-k 1")
        if self.top_k < 0:
            raise ConfigError(f"top-k {self.top_k} must be 0 (all tokens) or more")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top-p {self.top_p:g} must be above 0 and at most 1")
        if not 1 <= self.samples <= MOST_SAMPLES:
            raise ConfigError(f"samples {self.samples} must be 1 or more, and at most {MOST_SAMPLES}")
