"""A report in a real browser without a network: light, dark, on a phone and on paper."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import report_examples as examples
from browser import Page, browser

from kronos_trainer import report
from kronos_trainer.backtest.document import Backtest
from kronos_trainer.config import ModelRef, RunPaths
from kronos_trainer.report.__main__ import main
from kronos_trainer.storage import durable

LONG = "<script>alert(1)</script>" + "LONGNAME" * 8


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output of four models: judged, judged on five symbols, not judged, failed; and the page of all of them."""
    root = tmp_path_factory.mktemp("outputs")
    symbols = ["IBM", "AAPL", "MSFT", LONG, "600519 贵州茅台"]
    traded = RunPaths(root, ModelRef(name="judged"), "run-7d21c0").backtest.summary
    found = Backtest(hash=examples.HASHES["evaluation"], verdict="May be luck", sentence=f"Long or flat: {LONG}")
    durable.write_text(traded, found.dump())
    for example, failure in (
        (examples.judged(root, name="judged"), None),
        (examples.judged(root, name="symbols", symbols=symbols, gain=-0.15, dates=21), None),
        (examples.trained(root, "trained"), None),
        (examples.trained(root, "failed", stages=("tokenizer",)), "no bars at data/us-daily; " + LONG),
    ):
        report.write(example.run, example.paths, failure)
    assert main(["--all", "--root", str(root)]) == 0
    return root


def files(root: Path) -> dict[str, Path]:
    found = {path.parents[2].name: path for path in root.glob("models/default/*/runs/*/report.html")}
    return found | {"all": root / "report.html"}


@pytest.mark.parametrize("name", ["judged", "symbols", "trained", "failed", "all"])
def test_it_opens_without_a_network_at_every_size(page: Page, root: Path, name: str) -> None:
    file = files(root)[name]
    page.requests.clear()
    page.messages.clear()
    papers = set()
    for width, dark in ((1280, False), (900, True), (390, False)):
        page.open(file, width=width, dark=dark)
        assert page.ask("document.documentElement.scrollWidth") == width, "it scrolls sideways"
        papers.add(page.ask("getComputedStyle(document.body).backgroundColor"))
        assert page.ask("document.fonts.status") == "loaded"
        shown = page.ask(
            "[...document.querySelectorAll('svg.wide, svg.narrow')].filter(one => one.checkVisibility())"
            ".map(one => one.getAttribute('class')).join()"
        )
        assert set(shown.split(",")) <= {"narrow" if width == 390 else "wide", ""}
        # Styles apply: the policy allows the page's own.
        assert page.ask("getComputedStyle(document.querySelector('main')).maxWidth") != "none"
        cut = page.ask(
            "[...document.querySelectorAll('svg text')].filter(one => one.checkVisibility()).filter(one => {"
            "const box = one.getBoundingClientRect(); return box.left < 0 || box.right > innerWidth"
            "}).map(one => one.textContent).join()"
        )
        assert cut == ""
    assert len(papers) == 2, "dark is not light"
    assert set(page.requests) == {file.resolve().as_uri()}
    assert page.messages == []
    printed = page.pdf()
    assert printed.startswith(b"%PDF") and len(printed) > 5000


def test_no_labels_of_a_figure_lie_over_each_other(page: Page, root: Path) -> None:
    overlaps = """[...document.querySelectorAll('svg')].filter(one => one.checkVisibility()).flatMap(figure => {
        const boxes = [...figure.querySelectorAll('text')].map(one => [one.textContent, one.getBoundingClientRect()]);
        return boxes.flatMap(([name, a], index) => boxes.slice(index + 1).filter(([_, b]) =>
            Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 &&
            Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4).map(([other]) => name + ' / ' + other));
    }).join(', ')"""
    for width in (900, 390):
        page.open(files(root)["judged"], width=width)
        assert page.ask(overlaps) == ""
        sizes = page.ask(
            "[...document.querySelectorAll('svg text')].filter(one => one.checkVisibility())"
            ".map(one => one.getBoundingClientRect().height)"
        )
        assert len(sizes) > 40 and min(sizes) > 9, "too small to read"


def test_a_symbol_is_chosen_without_a_script(page: Page, root: Path) -> None:
    page.open(files(root)["symbols"], width=900)
    visible = (
        "[...document.querySelectorAll('.choice figcaption')].filter(one => one.checkVisibility())"
        ".map(one => one.innerText)"
    )
    assert [re.sub(r" ·.*", "", one) for one in page.ask(visible)] == ["Best", "Median", "Worst"]
    assert all("IBM" in one for one in page.ask(visible))
    page.ask("document.querySelector('label[for=fan4]').click()")
    assert all(LONG in one for one in page.ask(visible)) and len(page.ask(visible)) == 3


def test_models_are_sorted_without_a_script(page: Page, root: Path) -> None:
    page.open(files(root)["all"], width=1280)
    order = (
        "[...document.querySelectorAll('.row')].sort((a, b) => a.getBoundingClientRect().top - "
        "b.getBoundingClientRect().top).map(one => one.querySelector('a').textContent)"
    )
    assert page.ask(order) == ["failed", "judged", "symbols", "trained"]
    click = "[...document.querySelectorAll('.head > :nth-child(%d) label')].find(one => one.checkVisibility()).click()"
    page.ask(click % 1)
    assert page.ask(order) == ["trained", "symbols", "judged", "failed"]
    page.ask(click % 4)
    assert page.ask(order)[:2] == ["judged", "symbols"], "the best over the start first"
    page.ask(click % 4)
    assert page.ask(order)[:2] == ["symbols", "judged"]
