"""The `kronos` command as a user and a script meet it: outputs, messages and exit codes."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path
from typing import Any, get_args

import pytest

from kronos_operator import crd
from kronos_operator.cli import checks, main, quickstart
from kronos_operator.cli.failure import report
from kronos_operator.cli.init import Size, usual_window
from kronos_operator.cli.logs import newest_log, readable
from kronos_operator.loading import load_models
from kronos_trainer.config import STARTS, StageName, Timeframe, load_run


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and none of the user's variables."""
    monkeypatch.chdir(tmp_path)
    for name in (
        "KRONOS_DATA_PATH",
        "KRONOS_OUTPUT_PATH",
        "KRONOS_TOKENIZER_PATH",
        "KRONOS_PREDICTOR_PATH",
        "KRONOS_DEBUG",
    ):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def write_model(name: str, bars: str) -> str:
    assert main(["init", "--timeframe", "1d", "--size", "tiny", "--data", bars, "--name", name]) == 0
    return f"{name}.yaml"


def bars() -> list[str]:
    """Lines of a file of bars that is long enough for the usual windows."""
    days = [date(2020, 1, 1) + timedelta(days=index) for index in range(1500)]
    rows = [f"{day},1,2,1,{1 + index % 7 / 10},5,8\n" for index, day in enumerate(days)]
    return ["timestamps,open,high,low,close,volume,amount\n", *rows]


@pytest.fixture
def model() -> str:
    """A file whose bars exist."""
    Path("bars.csv").write_text("".join(bars()))
    return write_model("model-a", "bars.csv")


@pytest.mark.parametrize("size", list(STARTS))
def test_init_writes_a_valid_file_of_every_size(size: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "--timeframe", "4h", "--data", "my bars: #1.csv", "--size", size, "-o", "made.yaml"]) == 0
    (loaded,) = load_models([Path("made.yaml")])
    assert loaded.model.metadata.name == "model-4h"
    assert loaded.model.spec.data.source.path == "my bars: #1.csv"
    assert loaded.model.spec.predictor == STARTS[size].predictor
    assert main(["init", "--timeframe", "4h", "--data", "other", "-o", "made.yaml"]) == 64
    assert "--force" in capsys.readouterr().err
    assert "my bars" in Path("made.yaml").read_text()


def test_init_never_writes_a_file_that_does_not_load(capsys: pytest.CaptureFixture[str], workplace: Path) -> None:
    assert main(["init", "--timeframe", "1d", "--data", "x", "--lookback", "600"]) == 64
    assert capsys.readouterr().err.startswith("error: nothing written: spec.window: lookback 600")
    assert main(["init", "--data", "x"]) == 64
    assert "--timeframe" in capsys.readouterr().err
    assert list(workplace.iterdir()) == []


@pytest.mark.parametrize("timeframe", list(Timeframe))
def test_every_timeframe_has_a_window_that_fits_the_shortest_context(timeframe: Timeframe) -> None:
    assert sum(usual_window(timeframe.value)) <= min(start.max_context for start in STARTS.values())


def test_validate_names_every_fault_with_its_line(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = Path(model).read_text().replace("    epochs: 30\n", "    epoch: 30\n", 1)
    Path("bad.yaml").write_text(text)
    line = next(number for number, row in enumerate(text.splitlines(), 1) if "epoch: 30" in row)
    capsys.readouterr()

    assert main(["validate", "-f", model, "-f", "bad.yaml"]) == 64
    out, err = capsys.readouterr()
    assert out == "ok  model-a.yaml  model-a\n"
    assert err == f"error: bad.yaml:{line}: spec.tokenizer.epoch: unknown field; did you mean epochs?\n"

    Path("twice.yaml").write_text(Path(model).read_text())
    assert main(["validate", model, "-f", "twice.yaml"]) == 64
    out, err = capsys.readouterr()
    assert (out, "model default/model-a is already defined at twice.yaml:4" in err) == (
        "ok  twice.yaml  model-a\n",
        True,
    )

    assert main(["validate", "-f", "bad.yaml", "--json"]) == 64
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert (problem["line"], problem["field"]) == (line, "spec.tokenizer.epoch")


def test_validate_says_what_a_run_would_refuse_of_the_bars(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = bars()
    Path("bars.csv").write_text("".join(lines[:2]))
    capsys.readouterr()
    assert main(["validate", "-f", model]) == 65
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: model-a.yaml: spec.data: no symbol has a window in the train split")

    lines[10] = lines[10].replace(",1,2,1,", ",1,2,0,")
    Path("bars.csv").write_text("".join(lines))
    assert main(["validate", "-f", model, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["problems"] == []
    assert any("some prices are 0" in note and "line 11" in note for note in document["notes"])


def test_files_are_taken_in_every_way_that_a_shell_gives_them(
    model: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kronos_operator.cli.bars.check_bars", lambda *_: None)  # reading them takes a second
    Path("claims.yaml").write_text("apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: bars}\n")
    mixed = [["."], ["-f", "."], ["-f", "claims.yaml", model], ["claims.yaml", model]]
    for inputs in ([model], ["-f", model], *mixed):
        for command in ("validate", "plan", "diff"):
            capsys.readouterr()
            assert main([command, *inputs]) == 0
            out, err = capsys.readouterr()
            assert "model-a" in out
            assert ("claims.yaml: skipped, no KronosModel" in err) == (inputs in mixed)
    assert main(["validate"]) == 64
    assert "- reads standard input" in capsys.readouterr().err


def test_init_and_validate_say_that_bars_are_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    file = write_model("model-a", "absent.csv")
    out, err = capsys.readouterr()
    assert out == "wrote model-a.yaml; once that is fixed: kronos run -f model-a.yaml\n"
    assert err.startswith("note: model-a.yaml:15: spec.data.source.path: ") and "absent.csv does not exist" in err
    assert main(["validate", file]) == 66
    assert capsys.readouterr() == ("", err.replace("note: ", "error: "))
    # A claim is a cluster's: that it has no directory here is no mistake of the file.
    Path(file).write_text(Path(file).read_text().replace('path: "absent.csv"', "claim: {name: bars}"))
    assert main(["validate", file]) == 0
    assert "data/bars (claim bars on this machine) does not exist" in capsys.readouterr().err


def test_init_names_bars_as_its_file_sees_them(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workplace / "bars.csv").write_text("x")
    arguments = ["init", "--timeframe", "1d", "--data", "bars.csv", "--size", "tiny", "-o", "models/made.yaml"]
    assert main(arguments) == 0
    assert capsys.readouterr().err == ""
    assert 'path: "../bars.csv"' in Path("models/made.yaml").read_text()


def test_init_writes_into_a_directory_and_says_where_it_cannot(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["init", "--timeframe", "1d", "--data", "x", "--name", "model-a"]
    Path("models").mkdir()
    assert main([*arguments, "-o", "models"]) == 0
    assert Path("models/model-a.yaml").is_file()
    Path("file").write_text("")
    assert main([*arguments, "-o", "file/made.yaml"]) == 74
    assert capsys.readouterr().err.endswith("error: file/made.yaml cannot be written: file exists\n")


def test_plan_says_what_is_done_and_where_values_come_from(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["plan", "-f", model, "--set", "predictor.epochs=2", "--json"]) == 0
    (document,) = json.loads(capsys.readouterr().out)
    assert [(step["stage"], step["action"]) for step in document["steps"]] == [
        ("tokenizer", "train"),
        ("predictor", "train"),
        ("evaluation", "score"),
    ]
    origins = {one["field"]: (one["value"], one["where"]) for one in document["values"]}
    assert origins["predictor.epochs"] == (2, "--set predictor.epochs=2")
    assert origins["timeframe"] == ("1d", "model-a.yaml:9")
    assert "training.seed" not in origins

    assert main(["plan", "-f", model, "--all"]) == 0
    assert "training.seed" in capsys.readouterr().out


def test_plan_writes_what_the_trainer_reads(model: str) -> None:
    assert main(["plan", "-f", model, "--write", "runs"]) == 0
    for stage in StageName:
        assert load_run(Path("runs/model-a") / f"{stage}.json").stage is stage


def test_a_model_that_cannot_run_is_shown_beside_those_that_can(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    other = write_model("model-b", "absent.csv")
    capsys.readouterr()
    for command in (["plan"], ["run", "--dry-run"]):
        assert main([*command, "-f", other, "-f", model]) == 66
        out = capsys.readouterr().out
        assert "absent.csv" in out
        assert "not trained yet" in out
    assert main(["run", "-f", other, "--json"]) == 66
    (summary,) = json.loads(capsys.readouterr().out)
    assert summary["model"] == "model-b"
    assert summary["exitCode"] == 66


def test_usage_errors_are_one_line(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    for arguments in (
        ["run"],
        ["run", "-f", model, "--mode", "both"],
        ["status", "absent"],
        ["logs", "absent"],
        ["nonsense"],
    ):
        assert main(arguments) in (64, 66)
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert "absent" in arguments or " --help" in err or " reads standard input" in err
    assert main(["run", model, "--mode", "both"]) == 64
    help_for = "help: kronos run --help"
    assert capsys.readouterr().err == (
        f"error: Invalid value for '--mode': 'both' is not one of 'sequential', 'parallel'; {help_for}\n"
    )


def test_the_version_is_an_option_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == main(["version"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == second and first.startswith("kronos-operator ")


def test_a_fault_of_ours_shows_a_traceback_only_on_request(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> str:
        raise LookupError("not there")

    monkeypatch.setattr(crd, "crd_yaml", broken)
    assert main(["crd"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: LookupError: not there\n")
    assert "KRONOS_DEBUG=1" in err
    assert "Traceback" not in err
    monkeypatch.setenv("KRONOS_DEBUG", "1")
    assert main(["crd"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_doctor_names_the_command_that_mends(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("taken").write_text("")
    monkeypatch.setenv("KRONOS_OUTPUT_PATH", "taken/outputs")
    monkeypatch.setattr(checks, "_installed", lambda module: module not in ("torch", "pandas"))
    monkeypatch.setenv("PATH", "")
    capsys.readouterr()
    assert main(["doctor", "-f", model, "--json"]) == 78
    found = {check["name"]: check for check in json.loads(capsys.readouterr().out)}
    assert {name for name, check in found.items() if check["state"] == "fail"} == {"torch", "libraries", "output"}
    assert found["torch"]["mend"] == "pip install 'kronos-operator[trainer]'"
    assert "KRONOS_OUTPUT_PATH" in found["output"]["mend"]
    assert found["gpu"]["state"] == "warn"
    assert "weights" not in found  # scratch needs none

    assert main(["doctor", "-f", model]) == 78
    assert "fail torch      not installed\n                pip install" in capsys.readouterr().out


def test_models_share_gpus_only_where_several_run_at_once(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", model, "--workers-per-gpu", "2"]) == 64
    assert "--workers-per-gpu: needs --mode parallel" in " ".join(capsys.readouterr().err.split())


def test_gpus_are_told_with_their_memory(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = workplace / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA H100, 80000, 81559, 570.1'\necho 'NVIDIA H100, 1024, 81559, 570.1'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{workplace}:/bin")
    assert checks._gpus() == [
        "NVIDIA H100, 78 GiB free of 80 GiB, driver 570.1",
        "NVIDIA H100, 1 GiB free of 80 GiB, driver 570.1",
    ]


SMALL = "NeoQuasar/Kronos-small"
OFFLINE = """
import json, sys
print(json.dumps({"kind": "ConnectError", "error": "ConnectError: Name or service not known"}))
"""


def test_without_bars_and_hub_doctor_fails_and_names_the_commands_that_mend_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(checks, "check_compute", list)
    monkeypatch.setattr(checks, "_HUB", OFFLINE)
    assert main(["doctor", "--json"]) == 78
    failed = [one for one in json.loads(capsys.readouterr().out) if one["state"] == "fail"]
    data, tokenizer, predictor = sorted(failed, key=lambda one: (one["name"], "Tokenizer" not in one["found"]))
    assert (data["found"], tokenizer["name"]) == ("no bars: data does not exist", "weights")
    assert data["mend"].startswith("kronos data sample --out data ")
    assert predictor["found"].startswith(f"no weights: {SMALL} at 901c26c")
    assert f"hf download {SMALL} --revision 901c26c1332695a2a8f243eb2f37243a37bea320 " in predictor["mend"]
    assert "HF_ENDPOINT" in predictor["mend"] and "kronos quickstart --tiny" in predictor["mend"]

    monkeypatch.setattr(checks, "_HUB", "import time; time.sleep(60)")
    monkeypatch.setattr(checks, "HUB_SECONDS", 0.1)
    assert checks.check_weights(checks.HubWeights(SMALL, None)).found == f"no weights: {SMALL}: no answer within 0.1 s"


def test_quickstart_offers_tiny_random_weights_where_no_others_can_be_had(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained: list[list[str]] = []

    def train(loaded: list[Any], settings: object) -> int:
        trained.append(
            [str(getattr(one.model.spec, stage).init) for one in loaded for stage in StageName.with_weights()]
        )
        return 0

    monkeypatch.setattr(checks, "check_compute", list)
    monkeypatch.setattr(checks, "_HUB", OFFLINE)
    monkeypatch.setattr(quickstart, "train", train)
    released = [model, "--set", "predictor.init.hub.repo=a/b", "--stage", "predictor"]
    assert main(["quickstart", "--yes", *released]) == 78
    assert "kronos quickstart --tiny" in capsys.readouterr().out
    assert trained == []

    monkeypatch.setattr(quickstart, "interactive", lambda: True)
    monkeypatch.setattr(quickstart.Confirm, "ask", lambda question, default: True)
    assert main(["quickstart", model, "--stage", "predictor"]) == 0
    Path("real.yaml").write_text(Path(model).read_text().replace("{scratch: {size: tiny}}", "{hub: {repo: a/b}}"))
    assert main(["quickstart", "real.yaml", "--stage", "predictor"]) == 0
    assert trained[0] == trained[1] and "tiny" in trained[1][1]
    assert main(["quickstart", "real.yaml", "--tiny", "--yes"]) == 0


def test_quickstart_asks_only_on_a_terminal(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quickstart", "-f", model]) == 64
    assert "--yes" in capsys.readouterr().err
    assert main(["quickstart", "--yes"]) == 66
    assert "kronos init" in capsys.readouterr().err


def test_logs_choose_the_latest_and_read_progress_aloud(workplace: Path) -> None:
    for age, name in enumerate(("r1-tokenizer-0.log", "r1-predictor-1.log")):
        (workplace / name).write_text("")
        os.utime(workplace / name, (100 + age, 100 + age))
    assert newest_log(workplace, None) == workplace / "r1-predictor-1.log"
    assert newest_log(workplace, "tokenizer") == workplace / "r1-tokenizer-0.log"

    event = {"kronos": 1, "event": "progress", "stage": "predictor", "phase": "training", "percent": 12.0, "loss": 4.5}
    assert readable("a", json.dumps(event)) == "a predictor training  12%  loss 4.5000"
    assert readable("a", "W1124 torch says something") == "W1124 torch says something"
    skipped = {"kronos": 1, "event": "checkpointSkipped", "step": 3, "message": "step-3: torn; resuming from step 2"}
    assert readable("a", json.dumps(skipped)) == "a: step-3: torn; resuming from step 2"


@pytest.mark.parametrize(
    "rest",
    [
        '": 1, "ev',
        '": ' + "[" * 20000 + "]" * 20000 + "}",
        '": 1, "event": "result", "stage": "tokenizer"}',
        '": 1, "event": "result", "stage": "tokenizer", "result": 5}',
        '": 1, "event": "progress", "stage": "tokenizer", "percent": "x", "etaSeconds": "soon"}',
        f'": 1, "event": "progress", "stage": "tokenizer", "loss": {"9" * 400}}}',
    ],
)
def test_a_line_that_only_begins_like_the_trainers_ends_no_command(rest: str) -> None:
    line = '{"kronos' + rest
    assert readable("a", line) == line


def test_what_a_log_holds_cannot_steer_the_terminal(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Names of symbols come from files of bars."""
    log = workplace / "outputs" / "logs" / "default" / "a" / "r1-tokenizer-0.log"
    log.parent.mkdir(parents=True)
    note = {"kronos": 1, "event": "note", "stage": "tokenizer", "message": "\x1b]0;title\x07[red]FB[/red] \x9b2Jgone"}
    log.write_text(f"{json.dumps(note)}\n\x1b[2Jcleared \u202etxt\n")
    assert main(["logs", "a"]) == 0
    assert capsys.readouterr().out == "a: [red]FB[/red] gone\ncleared \ufffdtxt\n"


def test_the_sizes_of_init_are_those_of_the_contract() -> None:
    assert get_args(Size) == tuple(STARTS)


def test_help_loads_nothing_heavy_and_a_pipe_gets_no_control_characters() -> None:
    program = (
        "import sys; sys.modules['torch'] = None; from kronos_operator.cli import main; main(['--help']); "
        "heavy = any(name in sys.modules for name in ('pydantic', 'yaml', 'pandas', 'kubernetes')); "
        "main(['run', '--nonsense']); main(['data']); "
        "sys.exit(heavy or any(name in sys.modules for name in ('kronos_operator.api', 'yaml', 'pandas')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "quickstart" in done.stdout
    assert "\x1b" not in done.stdout


def test_a_full_disk_ends_any_command_with_74(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out.yaml")) == 74
    assert capsys.readouterr().err == "error: out.yaml cannot be written: No space left on device; free disk space\n"
