"""The documentation as a site: it builds without a warning, and reading it fetches nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = {page.stem for page in (ROOT / "docs").glob("*.md")}
# Attributes whose address a browser fetches by itself; a link that a reader may follow is none.
_FETCHED = {"src", "srcset", "poster", "data", "background", "manifest"}
_IN_STYLES = re.compile(r"(?:url\(|@import)\s*['\"]?\s*((?:https?:)?//[^'\")\s]+)", re.IGNORECASE)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it; with --quiet, --strict would count no warning."""
    place = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(place)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr
    return place


class Fetched(HTMLParser):
    """The addresses that a page makes a browser fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.found += [value or "" for name, value in attrs if name in _FETCHED]
        if tag == "link" and given.get("rel") not in ("canonical", "next", "prev", "alternate"):
            self.found.append(given.get("href") or "")
        self.found += _IN_STYLES.findall(given.get("style") or "")


def test_reading_it_fetches_nothing_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert {page.stem for page in pages} == PAGES | {"404"}
    for page in pages:
        text = page.read_text()
        fetched = Fetched()
        fetched.feed(text)
        assert len(fetched.found) > 3
        outside = [one for one in fetched.found if re.match(r"(https?:)?//", one)]
        assert outside + _IN_STYLES.findall(text) == [], page.name
    sheets = list(site.rglob("*.css"))
    assert len(sheets) >= 3
    assert {sheet.name: _IN_STYLES.findall(sheet.read_text()) for sheet in sheets} == {one.name: [] for one in sheets}


def test_every_page_is_found_by_the_search_of_the_site_itself(site: Path) -> None:
    index = (site / "search" / "search_index.json").read_text()
    assert [page for page in PAGES if f'"{page}.html' not in index] == []


def test_links_out_of_docs_became_text(site: Path) -> None:
    text = (site / "quickstart-cluster.html").read_text()
    assert "<code>manifests/examples/claims.yaml</code>" in text and "../manifests" not in text


def test_python_reference_has_what_is_public(site: Path) -> None:
    text = (site / "api.html").read_text()
    wanted = (
        "forecast.load",
        "Forecaster.forecast",
        "Sampling.temperature",
        "errors.DataError",
        "errors.BadEnvironment",
    )
    assert [name for name in wanted if f".{name}" not in text] == []
