"""The measures of an evaluation in the words of people, and the groups in which they are shown."""

from __future__ import annotations

ACCURACY = ("crps", "mae", "rmse", "mase", "wql", "energy")
DIRECTION = ("direction", "majority", "ic", "rankIc", "rankIcir")
VOLATILITY = ("qlike",)
PLAUSIBILITY = ("highBelowBody", "lowAboveBody", "negativeVolume", "priceNotPositive", "firstJump")

LABELS = {
    "crps": "CRPS",
    "mae": "MAE",
    "rmse": "RMSE",
    "mase": "MASE",
    "wql": "WQL",
    "energy": "energy",
    "direction": "direction right",
    "majority": "commoner sign",
    "ic": "IC",
    "rankIc": "rank IC",
    "rankIcir": "rank ICIR",
    "qlike": "QLIKE",
    "highBelowBody": "high below body",
    "lowAboveBody": "low above body",
    "negativeVolume": "volume below 0",
    "priceNotPositive": "price not above 0",
    "firstJump": "first step",
}
SHARES = frozenset({"direction", "majority", "highBelowBody", "lowAboveBody", "negativeVolume", "priceNotPositive"})
PLACES = {"ic": 3, "rankIc": 3, "rankIcir": 2, "firstJump": 2}
"""Digits after the point, of measures that are no losses."""
