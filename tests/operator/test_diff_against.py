"""`kronos diff --against REF`: a real Git repository, and what merging a change in it would train."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from kronos_operator.cli import main
from kronos_operator.hashing import stage_hashes
from kronos_operator.loading import load_models
from kronos_trainer.config import ModelRef, RunPaths, StageName, StageResult

MODEL = """
apiVersion: kronos.io/v1alpha1
kind: KronosModel
metadata: {{name: {name}, namespace: desk}}
spec:
  timeframe: 1d
  window: {{lookback: 90, horizon: 10}}
  data: {{source: {{claim: {{name: bars}}}}}}
  tokenizer: {{epochs: 4}}
  predictor: {{epochs: {epochs}}}
  evaluation: {{samples: {samples}}}
"""


def write(name: str, epochs: int = 10, samples: int = 100) -> Path:
    file = Path("models", f"{name}.yaml")
    file.parent.mkdir(exist_ok=True)
    file.write_text(MODEL.format(name=name, epochs=epochs, samples=samples))
    return file


def git(*arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)


def measured(file: Path, seconds: float, device: str = "cuda:0") -> None:
    """Leaves the results of a run on two GPUs."""
    (loaded,) = load_models([file])
    paths = RunPaths(Path("outputs"), ModelRef(namespace="desk", name=file.stem), "run-1")
    for stage, value in stage_hashes(loaded.model.spec).items():
        result = StageResult(
            stage=stage, hash=value, run="run-1", seconds=seconds, epochs=4, world_size=2, device=device
        )
        paths.stage(stage).directory.mkdir(parents=True)
        paths.stage(stage).result.write_text(result.dump())


@pytest.fixture(autouse=True)
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four models on branch main, of which two were trained on GPUs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KRONOS_OUTPUT_PATH", "outputs")
    git("init", "-q", "-b", "main")
    for name in ("longer", "judged", "same", "gone"):
        write(name)
    measured(Path("models/longer.yaml"), 3600)
    git("add", "models")
    git("commit", "-q", "-m", "models")


def changed() -> None:
    """What a pull request does: more epochs, other samples, a new model, one less."""
    write("longer", epochs=15)
    write("judged", samples=50)
    write("new")
    Path("models/gone.yaml").unlink()


def found(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["diff", "models", "--against", "main", "--json", *arguments]) == 0
    return {one["model"].removeprefix("desk/"): one for one in json.loads(capsys.readouterr().out)}


def actions(one: dict[str, Any]) -> list[str]:
    return [stage["action"] for stage in one["stages"]]


def test_a_merge_trains_what_differs_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert {one["change"] for one in found(capsys).values()} == {"unchanged"}
    changed()
    told = found(capsys)
    assert {name: one["change"] for name, one in told.items()} == {
        "longer": "changed",
        "judged": "changed",
        "same": "unchanged",
        "new": "new",
        "gone": "removed",
    }
    assert actions(told["longer"]) == ["keep", "train", "score"]
    assert actions(told["judged"]) == ["keep", "keep", "score"] and actions(told["same"]) == ["keep"] * 3
    assert actions(told["new"]) == ["train", "train", "score"] and actions(told["gone"]) == []
    assert told["longer"]["changes"] == [{"field": "spec.predictor.epochs", "before": 10, "after": 15}]
    # An hour on two GPUs for 10 epochs: half as much again for 15, and nothing for what is kept or only judged.
    assert told["longer"]["cost"]["gpu_hours"] == pytest.approx(3.0)
    assert told["judged"]["cost"]["gpu_hours"] == told["gone"]["cost"]["gpu_hours"] == 0
    assert told["new"]["cost"] == {"gpu_hours": None, "note": "not measured yet"}


def test_what_the_last_run_tells_nothing_about_has_no_hours(capsys: pytest.CaptureFixture[str]) -> None:
    measured(Path("models/same.yaml"), 3600, device="cpu")
    write("same", epochs=20)
    assert found(capsys)["same"]["cost"]["note"] == "predictor not measured yet"
    file = write("longer")
    file.write_text(file.read_text().replace("epochs: 10", "epochs: 10, init: {scratch: {size: small}}"))
    assert found(capsys)["longer"]["cost"]["note"] == "predictor is of another size"
    file.write_text(
        file.read_text().replace("horizon: 10", "horizon: 110").replace(", init: {scratch: {size: small}}", "")
    )
    assert found(capsys)["longer"]["cost"]["gpu_hours"] == pytest.approx(
        2 * (2 + 2)
    )  # of bars twice as many, both stages


def test_the_comment_of_a_pull_request(capsys: pytest.CaptureFixture[str]) -> None:
    changed()
    file = write("longer", epochs=15)
    text = file.read_text().replace("namespace: desk", 'namespace: desk, annotations: {note: "@all | <b>x</b>"}')
    file.write_text(text)
    capsys.readouterr()
    assert main(["diff", "-f", "models", "--against", "HEAD", "--markdown"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(
        "### Merging this trains 2 models, about 3.0 GPU hours and 1 not measured yet and judges 1 model again\n"
    )
    assert "| desk/longer | changed | keep tokenizer, train predictor, score evaluation | 3.0 |" in out
    assert "| desk/gone | removed | – | – |" in out and "desk/same" not in out
    assert "| spec.predictor.epochs | 10 | 15 |" in out
    assert "&#64;all \\| &lt;b&gt;x&lt;/b&gt;" in out and "<b>" not in out
    git("add", "models")
    git("commit", "-q", "-m", "merged")
    assert main(["diff", "-f", "models", "--against", "HEAD", "--markdown"]) == 0
    assert capsys.readouterr().out == "### Merging this trains nothing\n\nNo model changes (4 looked at).\n"


def test_what_git_cannot_tell_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path_factory: Any) -> None:
    assert main(["diff", "models", "--against", "nowhere"]) == 64
    assert "nowhere is no commit here; fetch it first (git fetch)" in capsys.readouterr().err
    outside = tmp_path_factory.mktemp("outside") / "m.yaml"
    outside.write_text(MODEL.format(name="m", epochs=1, samples=2))
    assert main(["diff", str(outside), "--against", "main"]) == 64
    assert "not a git repository" in capsys.readouterr().err
    assert main(["diff", "models", "--against", "main", "--set", "predictor.epochs=2"]) == 64
    assert main(["diff", "models", "--markdown"]) == 64
    # A file that was broken before is no fault of this change.
    Path("models/bad.yaml").write_text(MODEL.format(name="bad", epochs=-1, samples=100))
    git("add", "models")
    git("commit", "-q", "-m", "bad")
    write("bad")
    capsys.readouterr()
    assert main(["diff", "models", "--against", "main", "--json"]) == 0
    captured = capsys.readouterr()
    assert {one["model"]: one["change"] for one in json.loads(captured.out)}["desk/bad"] == "new"
    assert captured.err.startswith("note: at main: models/bad.yaml:") and "epochs" in captured.err


def test_hours_in_a_cluster_are_those_of_the_status() -> None:
    from kronos_operator.api import KronosModel
    from kronos_operator.cli.costs import _of_status

    (loaded,) = load_models([Path("models/longer.yaml")])
    stages = [
        {"stage": stage, "hash": value, "metrics": {"seconds": 1800.0}}
        for stage, value in stage_hashes(loaded.model.spec).items()
        if stage.has_weights
    ]
    body = json.loads(loaded.model.model_dump_json(by_alias=True, exclude_none=True))
    body["status"] = {"run": {"id": "0a1b2c3d", "gpus": 8, "stages": stages}}
    key, cost = _of_status(KronosModel.from_server(body))
    assert key == "desk/longer" and cost.hours == {StageName.TOKENIZER: 4.0, StageName.PREDICTOR: 4.0}
