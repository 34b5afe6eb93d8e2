"""The pod of a promotion against golden files; `python tests/operator/test_pointer_pod.py` writes those anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from test_manifests import GOLDEN, IMAGE, UID, _Dumper, model

from kronos_operator import names
from kronos_operator.backends import pointer_workload
from kronos_operator.manifests import Manifest, PointerTemplate
from kronos_operator.plan import PointerRequest, Verb
from kronos_trainer import promotion
from kronos_trainer.config import ErrorEvent, ExitCode, parse_line

# A claim, and an object store with its variables.
REQUESTS = {
    "job-2-nodes-gpu-kueue": (Verb.PROMOTE, "3c0ffee3 2026-11-28T12:00:00Z"),
    "pytorchjob-1-node-gpu": (Verb.ROLLBACK, "2026-11-28T12:00:00Z"),
}


def pointer(case: str, text: str | None = None, **changes: object) -> Manifest:
    subject = model(case, **changes)
    verb, usual = REQUESTS[case]
    request = PointerRequest.of(subject, verb, text or usual)
    return pointer_workload(PointerTemplate(model=subject, uid=UID, request=request, image=IMAGE, published="0ddba115"))


def pod(workload: Manifest) -> dict[str, Any]:
    found: dict[str, Any] = workload["spec"]["template"]["spec"]
    return found


def rendered(case: str) -> str:
    return yaml.dump(pointer(case), Dumper=_Dumper, sort_keys=False, width=120)


@pytest.mark.parametrize("case", REQUESTS)
def test_golden(case: str) -> None:
    expected = (GOLDEN / case / "pointer.yaml").read_text()
    assert rendered(case) == expected, "run `python tests/operator/test_pointer_pod.py` and read the difference"


@pytest.mark.parametrize("case", REQUESTS)
def test_it_asks_for_no_gpu_no_queue_and_no_bars_and_belongs_to_no_attempt(case: str) -> None:
    workload = pointer(case)
    assert "gpu" not in str(pod(workload)["containers"][0]["resources"])
    for metadata in (workload["metadata"], workload["spec"]["template"]["metadata"]):
        absent = {names.QUEUE_LABEL, names.RUN_LABEL, names.STAGE_LABEL, names.ATTEMPT_LABEL}
        assert absent.isdisjoint(metadata["labels"])
        assert metadata["labels"][names.MANAGED_BY_LABEL] == names.MANAGED_BY
    assert names.BARS_MOUNT not in str(workload)
    assert names.is_command_name(workload["metadata"]["name"], workload["metadata"]["labels"])
    assert not names.is_attempt_name(workload["metadata"]["name"], workload["metadata"]["labels"])


@pytest.mark.parametrize("case", REQUESTS)
def test_the_trainers_command_takes_what_it_is_given_and_leaves_what_the_operator_reads(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (container,) = pod(pointer(case))["containers"]
    module, *arguments = container["command"][2:]
    assert module == promotion.__spec__.name
    left = tmp_path / "termination-log"
    monkeypatch.setenv("KRONOS_TERMINATION_LOG", str(left))
    here = [f"--root={tmp_path}" if one.startswith("--root=") else one for one in arguments]
    assert promotion.main(here) == ExitCode.INPUT_MISSING
    (said,) = parse_line(left.read_text())
    assert isinstance(said, ErrorEvent) and "no model model-a-4h in namespace quant" in said.message


def test_the_longest_name_leaves_room_for_the_suffix_of_a_pod() -> None:
    subject = model("job-2-nodes-gpu-kueue")
    metadata = subject.metadata.model_copy(update={"name": "m" * names.MODEL_NAME_LENGTH})
    long = subject.model_copy(update={"metadata": metadata})
    assert all(len(f"{PointerRequest.of(long, verb, 'x').name}-abcde") <= 63 for verb in Verb)


def test_an_object_of_the_same_name_and_another_text_have_another_name() -> None:
    subject = model("job-2-nodes-gpu-kueue")
    metadata = subject.metadata.model_copy(update={"uid": "another"})
    again = subject.model_copy(update={"metadata": metadata})
    requests = [(subject, "candidate"), (subject, "candidate 2"), (again, "candidate")]
    assert len({PointerRequest.of(one, Verb.PROMOTE, text).name for one, text in requests}) == 3


def write() -> None:
    """Writes the golden files."""
    for case in REQUESTS:
        (GOLDEN / case / "pointer.yaml").write_text(rendered(case))


if __name__ == "__main__":
    write()
