"""Draws with Matplotlib into SVG that becomes a part of a page: small, byte-stable, coloured by the page's own style.

Ink is `currentColor`, other colours are classes of the style sheet, so that a figure follows the page into the dark and
onto paper. Text stays text. Every figure is drawn twice, and the page shows the one that fits.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from xml.etree import ElementTree as ET

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

INK, FAINT = "#101418", "#d0d4d8"
MODEL, START, PUBLISHED, NAIVE, OTHER = "#1f6fb2", "#c8621b", "#7a4fa3", "#5b6670", "#a3adb5"
SEEN, TRAIN, VALIDATION, EMBARGO, TEST = "#b9a27c", "#8fa8bd", "#d9b44a", "#c94f4f", "#3f8f6b"
PAPER = "#fefefe"  # the page behind
CLASSES = {
    FAINT: "faint", MODEL: "model", START: "start", PUBLISHED: "published", NAIVE: "naive", OTHER: "other",
    PAPER: "paper", SEEN: "seen", TRAIN: "train", VALIDATION: "validation", EMBARGO: "embargo", TEST: "test",
}  # fmt: skip
_SVG, _LINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
_NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")
_KEPT_ATTRIBUTES = frozenset({
    "d", "x", "y", "width", "height", "transform", "viewBox", "fill", "stroke", "stroke-width", "stroke-dasharray",
    "stroke-dashoffset", "stroke-opacity", "fill-opacity", "opacity", "stroke-linecap", "text-anchor", "clip-path",
    "clip-rule", "font-size", "font-weight", "id", "href",
})  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """Of a figure: its width in points, and the class of the page's style that shows it."""

    name: str
    width: float

    @property
    def narrow(self) -> bool:
        """Whether panels stand below each other."""
        return self is NARROW


WIDE, NARROW = Shape("wide", 760.0), Shape("narrow", 340.0)

DIGIT = 6.6  # points, of the widest fonts that a page may be shown in
RIGHT, GAP = 14.0, 8.0  # points beside a panel, and between rows of them

Draw = Callable[[Figure, Shape], None]


def drawn(
    title: str, draw: Draw, *, height: float, narrow_height: float, shapes: Sequence[Shape] = (WIDE, NARROW)
) -> Markup:
    """A figure in every shape, as SVG. Heights are in points; `title` is read out where it cannot be seen."""
    return Markup("").join(
        Markup(_svg(title, draw, shape, narrow_height if shape.narrow else height)) for shape in shapes
    )


def plain(axes: Axes, *, title: str = "", horizontal: bool = True) -> None:
    """Reduces a panel to its data, faint lines and a title above its left edge."""
    axes.grid(axis="y" if horizontal else "x", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=10.5, length=0, pad=4)
    for side in ("top", "left", "right"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    if title:
        axes.set_title(title, loc="left", fontsize=11, color=INK, pad=7)


def _svg(title: str, draw: Draw, shape: Shape, height: float) -> str:
    file = io.StringIO()
    with _look(title + shape.name):
        figure = Figure(figsize=(shape.width / 72, height / 72), dpi=72, facecolor="none")
        canvas = FigureCanvasSVG(figure)
        draw(figure, shape)
        _arrange(figure, shape.width, height)
        nameless = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        canvas.print_svg(file, metadata=nameless)  # type: ignore[no-untyped-call]
    root = ET.fromstring(file.getvalue())
    root.attrib = {"viewBox": root.attrib["viewBox"], "class": shape.name, "role": "img", "aria-label": title}
    _clean(root)
    _drop_unused(root)
    return ET.tostring(root, encoding="unicode", short_empty_elements=True)


def _arrange(figure: Figure, width: float, height: float) -> None:
    """Gives every panel the room that its labels leave. Lengths are in points.

    Matplotlib's own engines lay every text out several times, which takes as long as all the rest.
    """
    panels = [(axes, spec) for axes in figure.axes if (spec := axes.get_subplotspec()) is not None]
    grid = panels[0][1].get_gridspec()
    rows, columns = grid.get_geometry()
    left, above, below = [0.0] * columns, [0.0] * rows, [0.0] * rows
    for axes, spec in panels:
        row, column = spec.rowspan.start, spec.colspan.start
        left[column] = max(left[column], DIGIT * _longest_label(axes) + 6)
        above[row] = max(above[row], 22 if axes.get_title(loc="left") else 6)
        labels = 18 if axes.xaxis.get_tick_params().get("labelbottom", True) else 4
        below[row] = max(below[row], labels + (14 if axes.get_xlabel() else 0))
    widths = _parts(width - sum(left) - RIGHT * columns, grid.get_width_ratios())
    heights = _parts(height - sum(above) - sum(below) - GAP * (rows - 1), grid.get_height_ratios())
    for axes, spec in panels:
        row, column = spec.rowspan.start, spec.colspan.start
        x = sum(left[: column + 1]) + sum(widths[:column]) + RIGHT * column
        y = height - sum(above[: row + 1]) - sum(below[:row]) - sum(heights[: row + 1]) - GAP * row
        axes.set_position((x / width, y / height, widths[column] / width, heights[row] / height))


def _parts(length: float, ratios: ArrayLike) -> list[float]:
    shares = np.asarray(ratios, dtype=float)
    return [float(part) for part in length * shares / shares.sum()]


def _longest_label(axes: Axes) -> int:
    """Characters of the longest label on the left."""
    low, high = sorted(axes.get_ylim())
    ticks = axes.yaxis.get_major_locator()()
    labels = axes.yaxis.get_major_formatter().format_ticks(list(ticks))
    return max((len(label) for tick, label in zip(ticks, labels, strict=True) if low <= tick <= high), default=0)


def _look(salt: str) -> AbstractContextManager[None]:
    """Matplotlib's settings. Points of a figure are pixels of the page where the figure is as wide as the page."""
    return matplotlib.rc_context(
        {
            "svg.hashsalt": salt,
            "svg.fonttype": "none",
            "font.size": 11.0,
            "text.color": INK,
            "axes.labelcolor": INK,
            "axes.edgecolor": FAINT,
            "axes.facecolor": "none",
            "axes.linewidth": 0.8,
            "axes.formatter.useoffset": False,
            "axes.unicode_minus": True,
            "lines.linewidth": 1.6,
            "lines.solid_capstyle": "round",
            "path.simplify": True,
            "text.parse_math": False,
        }
    )


def _clean(element: ET.Element) -> None:
    """Makes an element and what is in it part of a page: no names of XML, no styles of its own, short numbers."""
    element.tag = element.tag.removeprefix(_SVG)
    element.text = None if element.text is None or not element.text.strip() else element.text
    element.tail = None
    for child in list(element):
        if child.tag in (f"{_SVG}metadata", f"{_SVG}style"):
            element.remove(child)
        else:
            _clean(child)
    if element.tag == "svg":
        return
    given = {name.removeprefix(_LINK): value for name, value in element.attrib.items()}
    given |= _declared(given.pop("style", ""))
    attributes, classes = {}, []
    for name, value in given.items():
        if name in ("fill", "stroke"):
            value = value.lower()
            if value in CLASSES:
                classes.append(f"{name[0]}-{CLASSES[value]}")
                continue
            value = "currentColor" if value == INK else value
        if name in _KEPT_ATTRIBUTES:
            attributes[name] = value if name in ("id", "href", "clip-path") else _NUMBER.sub(_rounded, value)
    if element.tag == "text":
        attributes.setdefault("fill", "currentColor")
    if classes:
        attributes["class"] = " ".join(classes)
    if "d" in attributes:
        attributes["d"] = re.sub(r"\s*\n\s*|\s+", " ", attributes["d"]).strip()
    element.attrib = attributes


def _declared(style: str) -> dict[str, str]:
    """The declarations of a style attribute as attributes; of a font its size and weight alone."""
    found: dict[str, str] = {}
    for declaration in style.split(";"):
        name, _, value = declaration.partition(":")
        name, value = name.strip(), value.strip()
        if name == "font":
            size = re.search(r"([\d.]+)px", value)
            found |= {"font-size": size[1]} if size else {}
            found |= {"font-weight": "600"} if re.match(r"(bold|[6-9]00)\b", value) else {}
        elif name:
            found[name] = value
    return found


def _rounded(found: re.Match[str]) -> str:
    text = f"{float(found[0]):.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def _drop_unused(root: ET.Element) -> None:
    """Removes ids that nothing refers to, and groups and definitions that have become empty."""
    text = ET.tostring(root, encoding="unicode")
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', text))

    def walk(element: ET.Element) -> None:
        for child in list(element):
            walk(child)
        children: list[ET.Element] = []
        for child in element:
            if child.attrib.get("id") not in used:
                child.attrib.pop("id", None)
            if child.tag in ("g", "defs") and len(child) == 0:
                continue
            if child.tag == "g" and not child.attrib:
                children += list(child)
            else:
                children.append(child)
        element[:] = children

    walk(root)
