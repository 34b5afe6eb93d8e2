"""The runbook has an entry for each condition, reason, exit code and alert: all are collected from the code."""

from __future__ import annotations

import ast
import re
from enum import StrEnum
from pathlib import Path

import pytest
import yaml

from kronos_operator import api
from kronos_operator.api import Outcome, Phase, StopReason
from kronos_operator.reconcile import unreadable
from kronos_trainer.config import ExitCode, StageName, StopCause

ROOT = Path(__file__).parents[2]
CODE = ROOT / "operator" / "kronos_operator"
PAGE = (ROOT / "docs" / "runbook.md").read_text()
ALERTS = ROOT / "charts" / "kronos-operator" / "files" / "alerts.yaml"

# Words in CamelCase of the modules that give reasons, which are none: what others say and the operator reads, ...
READ = """
    Complete SuccessCriteriaMet FailureTarget DisruptionTarget DeadlineExceeded FailedCreate FailedCreatePod
    FailedMount FailedAttachVolume PodScheduled OOMKilled Evicted QuotaReserved Admitted Inadmissible
    AdmissionCheck PodsReadyTimeout ErrImagePull ImagePullBackOff InvalidImageName ErrImageNeverPull
    RegistryUnavailable CreateContainerConfigError CreateContainerError RunContainerError PersistentVolume
    ReadWriteMany Running NoExecute True False Unknown
"""
# ... what it writes into other fields than a reason, or uses by itself.
WRITTEN = """
    Indexed FailJob Never Background Foreground Service Worker Master In None Job PyTorchJob Normal Warning Reconcile
    RunBegan StageSucceeded AttemptFailed AttemptStopped RunEnded Scoring
"""
# Words of Kubernetes for a disruption, which the operator passes on.
PASSED_ON = {"EvictionByEvictionAPI", "PreemptionByScheduler", "DeletionByPodGC", "TerminationByKubelet"}


def words(package: str) -> set[str]:
    """The strings in CamelCase of a package's modules, but for lists of names that it exports."""
    found: set[str] = set()
    for file in (CODE / package).glob("*.py"):
        if file.name == "__init__.py":
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found |= set(re.findall(r"^[A-Z][a-z]+(?:[A-Z]+[a-z]*)*$|^OOMKilled$", node.value))
    return found


SPOKEN = words("plan") | words("reconcile") | words("backends")
CONDITIONS = {"Ready", "Stalled", "Progressing", "Available", "Finished", "StorageShared"} | {
    stage.condition for stage in StageName
}


def reasons() -> set[str]:
    enums: tuple[type[StrEnum], ...] = (Outcome, StopReason, StopCause, Phase)
    by_stage = {f"{'Training' if stage.has_weights else 'Scoring'}{stage.capitalize()}" for stage in StageName}
    outcomes = {stage.outcome for stage in StageName}
    listed = {value.value for enum in enums for value in enum}
    return (SPOKEN - set(READ.split()) - set(WRITTEN.split())) | by_stage | outcomes | listed | {unreadable.REASON}


def entries(heading: str) -> dict[str, tuple[str, str]]:
    """Rows of the tables below a heading and its subheadings: meaning and advice by the first cell."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.+) \| (.+) \|$", section, re.MULTILINE)
    names = [name for name, *_ in rows]
    assert len(names) == len(set(names)), f"twice: {sorted({name for name in names if names.count(name) > 1})}"
    return {name: (meaning, advice) for name, meaning, advice in rows}


def test_every_reason_has_an_entry_and_no_entry_is_of_a_reason_that_is_gone() -> None:
    told = entries("Reasons")
    known = reasons() - CONDITIONS
    assert sorted(known - set(told)) == [], "write what it means and what to do into docs/runbook.md"
    assert sorted(set(told) - known - PASSED_ON) == [], "no code gives these reasons"
    assert all(len(meaning) > 10 and len(advice) > 5 for meaning, advice in told.values())
    assert len(told) > 60


def test_every_condition_has_an_entry() -> None:
    described = api.Status.model_json_schema(by_alias=True)["$defs"]["Condition"]["properties"]["type"]["description"]
    assert set(entries("Conditions")) == CONDITIONS
    assert CONDITIONS - {"StorageShared"} == set(re.findall(r"\b[A-Z]\w+", described))
    assert {word for word in SPOKEN if word in CONDITIONS} == CONDITIONS - {one.condition for one in StageName}


def test_every_exit_code_and_alert_has_an_entry() -> None:
    assert sorted(map(int, entries("Exit codes"))) == sorted(ExitCode)
    (group,) = yaml.safe_load(ALERTS.read_text())
    assert sorted(entries("Alerts")) == sorted(rule["alert"] for rule in group["rules"])


@pytest.mark.parametrize("names", [READ, WRITTEN], ids=["read", "written"])
def test_what_is_said_to_be_no_reason_is_still_there(names: str) -> None:
    assert sorted(set(names.split()) - SPOKEN) == []
