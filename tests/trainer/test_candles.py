"""Plots of forecasts whose symbols are written in any script, with warnings as errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.ttLib.tables._g_l_y_f import Glyph
from matplotlib import font_manager
from matplotlib.figure import Figure

from kronos_trainer.forecast import candles, fonts
from kronos_trainer.forecast.candles import candles_png


def bars(first: str, rows: int) -> pd.DataFrame:
    close = 10 + np.sin(np.arange(rows))
    return pd.DataFrame(
        {
            "timestamps": pd.bdate_range(first, periods=rows),
            "open": close - 0.1,
            "high": close + 1,
            "low": close - 1,
            "close": close,
            "volume": 5.0,
        }
    )


@pytest.fixture
def only_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A machine with the fonts of matplotlib and one that has 茅 and 台."""
    file = tmp_path / "Ours CJK.ttf"
    builder = FontBuilder(1000, isTTF=True)
    names = [".notdef", "one", "two"]
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord("茅"): "one", ord("台"): "two"})
    builder.setupGlyf({name: Glyph() for name in names})
    builder.setupHorizontalMetrics(dict.fromkeys(names, (500, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Ours CJK", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(file)
    own = [font for font in font_manager.fontManager.ttflist if "matplotlib" in font.fname]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", own)
    font_manager.fontManager.addfont(file)
    return "Ours CJK"


def test_a_font_is_found_for_signs_that_the_default_lacks(only_ours: str) -> None:
    assert fonts.fonts_for("IBM: Ünï–Ω") == (["DejaVu Sans"], "IBM: Ünï–Ω", None)
    assert fonts.fonts_for("茅台 A") == (["DejaVu Sans", only_ours], "茅台 A", None)
    families, shown, note = fonts.fonts_for("茅\U00020000")
    assert (families, shown) == (["DejaVu Sans", only_ours], "茅?") and note is not None and "\U00020000" in note


@pytest.mark.parametrize("symbol", ["IBM", "$SPX$_{x", "茅台", "\U00020000", "שלום", "a\nb\x07", "x" * 500])
def test_any_symbol_is_drawn(symbol: str, only_ours: str) -> None:
    png, note = candles_png(bars("2024-05-01", 50), bars("2024-08-01", 5), symbol)
    assert png.startswith(b"\x89PNG")
    assert (note is None) == (symbol != "\U00020000")


def test_opposite_quantiles_are_bands_and_others_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **options: figures.append(self) or save(self, *args))
    forecast = bars("2024-08-01", 5)
    fan = {level: forecast["close"].to_numpy() + 4 * level for level in (0.025, 0.1, 0.3, 0.5, 0.7, 0.9, 0.96)}
    candles_png(bars("2024-05-01", 50), forecast, "IBM", fan)
    price = figures[0].axes[0]
    texts = [text.get_text() for text in price.get_legend().get_texts()]
    assert texts == ["80 %", "40 %", "2.5 % quantile", "96 % quantile", "median"]
    median = price.get_lines()[-1]
    np.testing.assert_allclose(median.get_ydata(), [bars("2024-05-01", 50)["close"].iloc[-1], *fan[0.5]])
    # no candles are drawn where the fan is
    assert max(path.vertices[:, 0].max() for path in price.collections[0].get_paths()) < 40


def test_the_title_names_symbol_and_days() -> None:
    days = pd.DatetimeIndex(bars("2024-08-01", 5)["timestamps"])
    assert candles._title("IBM", days) == "IBM: 2024-08-01 – 2024-08-07 (5 bars)"
    assert candles._title("A", days[:1] + pd.Timedelta("9h")) == "A: 2024-08-01 09:00 – 2024-08-01 09:00 (1 bars)"
