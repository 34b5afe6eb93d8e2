"""`kronos suspend`, `resume`, `retrain`, `cancel` and `diff` on local runs, with a fake trainer."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kronos_operator import local
from kronos_operator.cli import main
from kronos_operator.cli.completion import model_names

FAKE = (sys.executable, str(Path(__file__).parent / "fixtures" / "fake_trainer.py"))
MODEL = """
apiVersion: kronos.io/v1alpha1
kind: KronosModel
metadata: {name: m}
spec:
  timeframe: 1d
  data: {source: {path: bars.csv}}
  retry: {maxRestarts: 0}
  tokenizer: {epochs: 1, init: {scratch: {size: tiny}}}
  predictor: {epochs: 1, init: {scratch: {size: tiny}}}
"""


class Place:
    """A working directory in which models are run by the fake trainer."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.on_progress: Callable[[], None] = lambda: None

    def starts(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.directory / "starts").read_text().splitlines()]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    made = Place(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in ("KRONOS_DATA_PATH", "KRONOS_OUTPUT_PATH", "KRONOS_TOKENIZER_PATH", "KRONOS_PREDICTOR_PATH"):
        monkeypatch.delenv(name, raising=False)
    execute = local.execute

    def run(runs: Any, settings: Any, notify: Any) -> Any:
        def notified(key: str, event: dict[str, Any]) -> None:
            notify(key, event)
            if event.event == "progress":
                made.on_progress()

        environ = os.environ | {"FAKE_SCRIPT": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}
        return execute(runs, settings, notified, trainer_command=FAKE, environ=environ)

    monkeypatch.setattr(local, "execute", run)
    (tmp_path / "bars.csv").write_text("timestamps,open\n")
    (tmp_path / "m.yaml").write_text(MODEL)
    return made


@pytest.mark.parametrize("command", ["suspend", "cancel"])
def test_a_run_is_stopped_from_elsewhere_and_gone_on_with_by_name(
    place: Place, command: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (place.directory / "m-tokenizer").write_text("wait")
    codes: list[int] = []
    place.on_progress = lambda: codes.append(main([command, "m"]))
    assert main(["run", "-f", "m.yaml"]) == 75
    assert codes == [0]
    assert (
        f"m: process {os.getpid()} saves its progress and stops; `kronos resume m` continues" in capfd.readouterr().out
    )
    assert [start["stage"] for start in place.starts()] == ["tokenizer"]

    place.on_progress = lambda: None
    # From another directory, and after the file is gone.
    (place.directory / "m.yaml").unlink()
    elsewhere = place.directory / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("KRONOS_OUTPUT_PATH", str(place.directory / "outputs"))
    assert main(["resume", "m"]) == 0
    first, again, predictor, evaluation = place.starts()
    assert (again["stage"], again["run"], again["attempt"]) == ("tokenizer", first["run"], 1)
    assert (predictor["stage"], evaluation["stage"]) == ("predictor", "evaluation")
    assert main([command, "m"]) == 66
    assert "m is not being trained on this machine (succeeded)" in capfd.readouterr().err


def test_retrain_trains_every_stage_once_more(place: Place) -> None:
    assert main(["run", "-f", "m.yaml"]) == 0
    assert main(["resume", "m"]) == 0
    assert len(place.starts()) == 3
    assert main(["retrain", "m"]) == 0
    assert [start["stage"] for start in place.starts()[3:]] == ["tokenizer", "predictor", "evaluation"]
    assert len({start["run"] for start in place.starts()}) == 2


def test_diff_compares_with_the_latest_run(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", "-f", "m.yaml"]) == 0
    assert capsys.readouterr().out.startswith("m: new\n")
    assert main(["run", "-f", "m.yaml"]) == 0
    capsys.readouterr()
    assert main(["diff", "-f", "m.yaml"]) == 0
    assert capsys.readouterr().out.startswith("m: nothing changes\n")
    assert main(["diff", "-f", "m.yaml", "--set", "predictor.learningRate=0.5", "--json"]) == 0
    (document,) = json.loads(capsys.readouterr().out)
    assert document["changes"] == [{"field": "spec.predictor.learningRate", "before": 2e-05, "after": 0.5}]
    assert [stage["action"].split()[0] for stage in document["stages"]] == ["reuse", "train", "score"]


def test_configured_models_are_listed_beside_trained_ones(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    Path("old.yaml").write_text(MODEL.replace("{name: m}", "{name: old}"))
    assert main(["run", "-f", "old.yaml"]) == 0
    Path("old.yaml").unlink()
    Path("lost.yaml").write_text(MODEL.replace("{name: m}", "{name: lost}").replace("bars.csv", "absent.csv"))

    def listed(*options: str) -> dict[str, tuple[str, str | None]]:
        capsys.readouterr()
        assert main(["list", ".", "--json", *options]) == 0
        return {one["name"]: (one["state"], one["file"]) for one in json.loads(capsys.readouterr().out)}

    others = {"lost": ("cannot run", "lost.yaml"), "old": ("succeeded", None)}
    assert listed() == {"m": ("not trained", "m.yaml")} | others
    assert main(["run", "-f", "m.yaml", "--stage", "tokenizer"]) == 0
    assert listed()["m"] == ("tokenizer trained", "m.yaml")
    (place.directory / "m-predictor").write_text("65")
    assert main(["run", "-f", "m.yaml"]) == 65
    assert listed()["m"] == ("failed", "m.yaml")
    (place.directory / "m-predictor").unlink()
    assert main(["run", "-f", "m.yaml"]) == 0
    assert listed() == {"m": ("trained", "m.yaml")} | others
    assert listed("--set", "predictor.learningRate=0.5")["m"] == ("changed", "m.yaml")
    capsys.readouterr()
    assert main(["list", "."]) == 0
    assert "absent.csv does not exist" in capsys.readouterr().err


def test_runs_are_listed_newest_first_with_what_became_of_them(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "-f", "m.yaml"]) == 0
    (place.directory / "m-predictor").write_text("65")
    assert main(["run", "-f", "m.yaml", "--set", "predictor.learningRate=0.5"]) == 65
    capsys.readouterr()
    assert main(["runs", "m", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(one["stage"], one["state"], one["exitCode"], one["published"]) for one in found] == [
        ("predictor", "failed", 65, False),  # with the tokenizer of the first run
        ("tokenizer", "succeeded", 0, True),
        ("predictor", "succeeded", 0, True),
        ("evaluation", "succeeded", 0, True),
    ]
    assert all(one["seconds"] >= 0 and one["startedAt"] for one in found)
    assert len({one["hash"] for one in found}) == 4
    assert main(["runs", "m"]) == 0
    shown = capsys.readouterr().out
    assert "failed (65)" in shown
    (scored,) = [line for line in shown.splitlines() if "evaluation" in line]
    assert scored.split()[-1] == "Better"
    assert main(["runs", "absent"]) == 66


def test_the_verdict_is_told_wherever_a_run_is_shown(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    words = "Better: CRPS 4.1 % lower than start's (1.2 to 6.9 %), on 40 dates"

    def shown(*command: str) -> str:
        capsys.readouterr()
        assert main([*command]) == 0
        return capsys.readouterr().out

    assert main(["run", "-f", "m.yaml"]) == 0
    first = json.loads(shown("status", "m", "--json"))[0]["run"]
    (place.directory / "m-evaluation").write_text("held")
    changed = ("-f", "m.yaml", "--set", "predictor.learningRate=0.5")
    out = shown("run", *changed)
    for line in (f"  verdict      {words}", "  promotion    Held: not better", "  report       outputs/"):
        assert line in out
    assert "kronos forecast" not in out  # what it would take is not this run
    (place.directory / "m-evaluation").write_text("0")
    document = json.loads(shown("run", *changed, "--set", "promotion.onUndecided=publish", "--json"))
    (document,) = document if isinstance(document, list) else document["models"]
    assert document["evaluation"]["promotion"] == "Published" and document["evaluation"]["improvement"] == 0.041
    assert document["forecast"].startswith("kronos forecast") and document["report"].endswith("report.html")

    (listed,) = json.loads(shown("list", "--json"))
    assert listed["verdict"] == "Better" and listed["published"] != first
    header, row = shown("list").splitlines()
    assert header.split() == ["MODEL", "STATE", "PUBLISHED", "VERDICT", "IMPROVED", "AGE", "DATA", "TO", "SIZE"]
    assert row.split()[:7] == ["m", "succeeded", listed["published"], "Better", "+4.1", "%", row.split()[6]]
    assert shown("list", ".").splitlines()[1].split()[3:6] == row.split()[3:6]
    out = shown("status", "m")
    assert out.splitlines()[1].split()[-1] == "Better"
    assert f"verdict    {words}\n" in out and "report     outputs/models/default/m/runs/" in out
    assert "evaluation score" in " ".join(shown("plan", "-f", "m.yaml", "--set", "evaluation.samples=7").split())


def test_a_list_tells_of_what_is_published_not_of_what_was_trained_last(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = place.directory / "outputs/models/team/copied"  # as `kronos pull` leaves it: without a run.json
    for run, verdict, gain, end in (("aaaa", "Better", 0.041, "2024-03-02"), ("bbbb", "Worse", -0.2, "2024-06-01")):
        rival = {"rival": "naive", "verdict": verdict, "improvement": gain}
        result = {
            "stage": "evaluation",
            "hash": "0123456789ab",
            "finishedAt": "2024-07-01T00:00:00Z",
            "data": {"spans": {"train": ["2020-01-01T00:00:00", "2024-01-01T00:00:00"], "test": ["2024-01-01", end]}},
            "evaluation": {"verdict": verdict, "comparisons": [rival]},
        }
        (directory / "runs" / run / "evaluation").mkdir(parents=True)
        (directory / "runs" / run / "evaluation" / "result.json").write_text(json.dumps(result))
    (directory / "current.json").write_text(json.dumps({"run": "aaaa", "publishedAt": "2024-08-01T00:00:00+00:00"}))
    size = sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())

    assert main(["list", "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)
    shown = {"published": "aaaa", "verdict": "Better", "improvement": 0.041, "against": "naive", "bytes": size}
    assert listed.items() >= shown.items() and listed["since"] == "2024-08-01T00:00:00+00:00"
    assert listed["dataThrough"] == "2024-03-01"  # a span ends with the first instant after it
    assert main(["list", "-n", "team"]) == 0
    assert "team/copied  copied  aaaa       Better     +4.1 %" in capsys.readouterr().out
    assert main(["list", "-n", "other"]) == 0
    assert "team" not in capsys.readouterr().out
    monkeypatch.setenv("KRONOS_OUTPUT_PATH", "s3://bucket/team")
    assert main(["list"]) == 64
    assert "s3://bucket/team" in capsys.readouterr().err


def test_the_shell_is_proposed_the_models_that_were_run_here(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("default/alpha", "default/beta", "team/alpine"):
        (place.directory / "kept" / "models" / name).mkdir(parents=True)
    monkeypatch.setenv("KRONOS_OUTPUT_PATH", "kept")
    assert model_names("al") == ["alpha", "alpine"]


def test_the_command_to_forecast_with_finds_the_model_and_its_bars(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "m.yaml", "--set", "storage.path=kept", "--json"]) == 0
    (summary,) = json.loads(capsys.readouterr().out)
    assert summary["forecast"].startswith("kronos forecast --model m --root kept --input bars.csv --horizon 10 ")
    released = ["--set", "tokenizer.epochs=0", "--set", "tokenizer.init.hub.repo=a/b"]
    assert main(["run", "m.yaml", *released, "--set", "data.source.uri=s3://b/us", "--json"]) == 0
    (summary,) = json.loads(capsys.readouterr().out)
    assert summary["forecast"].startswith("kronos forecast --model m --input BARS.csv ")


def test_a_model_that_is_elsewhere_is_told_from_one_that_is_nowhere(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("m.yaml").write_text(MODEL.replace("{name: m}", "{name: model-m, namespace: team}"))
    assert main(["run", "m.yaml", "--stage", "tokenizer"]) == 0
    capsys.readouterr()
    for name, way_out in (
        ("model-m", "; it exists in another namespace: --namespace team\n"),
        ("modle-m", " (found: team/model-m); did you mean model-m?\n"),
        ("other", " (found: team/model-m); set KRONOS_OUTPUT_PATH for another directory\n"),
    ):
        assert main(["status", name]) == 66
        assert capsys.readouterr().err.endswith(way_out)


def test_what_was_never_run_cannot_be_steered(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("suspend", "resume", "retrain", "cancel"):
        assert main([command, "m"]) == 66
        assert "no model m in " in capsys.readouterr().err
