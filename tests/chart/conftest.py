"""The chart, rendered by the real helm. Every test here needs the binaries of hack/cluster/binaries."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# The support module beside this file; pytest's importlib mode leaves it out of the path.
sys.path.insert(0, str(Path(__file__).parent))

from rendering import Chart


@pytest.fixture(scope="session")
def chart() -> Chart:
    return Chart()
