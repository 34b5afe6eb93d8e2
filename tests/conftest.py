"""What a folder's tests need beyond Python, as the marker by which `make` chooses them."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
MARKERS = {"chart": "cluster", "cluster": "cluster", "e2e": "e2e"}

# A shell starts what runs in its background with SIGINT ignored, and nohup with SIGHUP, which children that are
# interrupted would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_configure(config: pytest.Config) -> None:
    """Only tests marked `gpu` see a GPU: a gang of two is to train on a machine with one, and figures are a CPU's."""
    if config.option.markexpr != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


@pytest.hookimpl(tryfirst=True)  # before -m deselects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        marker = MARKERS.get(item.path.relative_to(TESTS).parts[0])
        if marker is not None:
            item.add_marker(marker)
        if item.get_closest_marker("gpu") is not None and not _sees_a_gpu():
            item.add_marker(pytest.mark.skip(reason="needs a GPU: make gpu"))


def _sees_a_gpu() -> bool:
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return False
    import torch  # which only tests of the trainer need

    return torch.cuda.is_available()
