"""The operator's image as the cluster runs it."""

from __future__ import annotations

import json

import release
from live import Live, wait_until

MOST_BYTES = 300_000_000


def test_the_operators_image_is_small_and_runs_without_torch_and_without_rights(operator: Live) -> None:
    def sizes() -> set[int]:
        nodes = json.loads(operator.kubectl("get", "nodes", "-o", "json"))["items"]
        images = [image for node in nodes for image in node["status"]["images"]]
        return {image["sizeBytes"] for image in images if "localhost/kronos-operator:dev" in (image["names"] or [])}

    (size,) = wait_until("the node tells of the image", sizes)
    assert size < MOST_BYTES

    def inside(code: str) -> str:
        place = [f"deployment/{release.NAME}", "-n", release.SYSTEM]
        return operator.kubectl("exec", *place, "--", "python", "-c", code).strip()

    assert inside("from importlib.util import find_spec; print(find_spec('torch'), find_spec('pandas'))") == "None None"
    assert inside("import os; print(os.getuid(), bool(os.statvfs('/').f_flag & os.ST_RDONLY))") == "65532 True"
