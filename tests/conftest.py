"""What a folder's tests need beyond Python, as the marker by which `make` chooses them, and which keep together."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
MARKERS = {"chart": "cluster", "cluster": "cluster", "e2e": "e2e"}
# Files whose tests start ranks that train in step: two such gangs on two cores wait for each other's ranks, so these
# files keep to one worker of pytest-xdist. Any other file does too, since its tests share what they have trained or
# started.
GANGS = frozenset(
    f"{name}.py"
    for name in (
        "operator/test_tutorial",
        "trainer/test_evaluation",
        "trainer/test_failures",
        "trainer/test_launch",
        "trainer/test_local_run",
        "trainer/test_resume",
        "trainer/test_stage_seam",
        "trainer/test_two_ranks",
    )
)

# A shell starts what runs in its background with SIGINT ignored, and nohup with SIGHUP, which children that are
# interrupted would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.hookimpl(tryfirst=True)  # before -m deselects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        marker = MARKERS.get(item.path.relative_to(TESTS).parts[0])
        if marker is not None:
            item.add_marker(marker)
        file = item.path.relative_to(TESTS).as_posix()
        item.add_marker(pytest.mark.xdist_group("gangs" if file in GANGS else file))
