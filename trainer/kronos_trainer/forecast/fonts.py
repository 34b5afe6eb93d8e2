"""Fonts with the glyphs of a title, in whatever script a symbol is written. Called by the plot."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

DEFAULT = "DejaVu Sans"  # comes with matplotlib: Latin, Greek, Cyrillic, Arabic and Hebrew, but no Chinese
_LIKELY = ("cjk", "noto", "source han", "wenquanyi", "droid", "pingfang", "heiti", "yahei", "gothic", "unicode")
_BOXES = "Last Resort"  # comes with matplotlib, and has a box for every sign
_ABSENT = "?"

# a title may be drawn in another weight than it asks for
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)


def fonts_for(text: str) -> tuple[list[str], str, str | None]:
    """Families that have the signs of `text`, the text without the signs that none has, and a note on these."""
    missing = {sign for sign in text if not sign.isspace()} - _signs(font_manager.findfont(DEFAULT))
    families = [DEFAULT]
    for family, file in _others() if missing else ():
        if not missing:
            break
        found = missing & _signs(file)
        if found:
            families.append(family)
            missing -= found
    if not missing:
        return families, text, None
    shown = "".join(_ABSENT if sign in missing else sign for sign in text)
    return (
        families,
        shown,
        f"no font on this machine has {''.join(sorted(missing))}; install one, such as fonts-noto-cjk",
    )


def _others() -> Iterator[tuple[str, str]]:
    """Family and file of every other font, the likeliest first."""
    fonts = {font.name: font.fname for font in font_manager.fontManager.ttflist if not font.name.startswith(_BOXES)}
    fonts.pop(DEFAULT, None)
    yield from sorted(fonts.items(), key=lambda font: (not any(word in font[0].lower() for word in _LIKELY), font[0]))


def _signs(file: str) -> set[str]:
    try:
        return {chr(code) for code in FT2Font(file).get_charmap()}
    except (RuntimeError, OSError, ValueError):
        return set()  # a font that cannot be read has no signs
