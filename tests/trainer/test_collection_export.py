"""`kronos export`: what upstream loads is what was trained, bit for bit, and the card says what the run has found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import report_examples as examples
import torch
import yaml
from hub_server import HubServer
from kronos_finance._vendor.kronos_model import Kronos
from kronos_finance._vendor.kronos_model import KronosTokenizer as UpstreamTokenizer
from kronos_finance.model import load_kronos
from test_mirror import Bucket

from kronos_trainer.collection.__main__ import main
from kronos_trainer.config import RunConfig, RunPaths, StageName
from kronos_trainer.model.directory import weights_digest
from kronos_trainer.model.kinds import PREDICTOR, TOKENIZER
from kronos_trainer.model.weights import load_net, save_weights, scratch_net
from kronos_trainer.storage import pointers, stores

Output = pytest.CaptureFixture[str]
TOKEN = "hf_secretwritetoken"


def exportable(root: Path) -> RunPaths:
    """A judged and published run with tiny nets."""
    example = examples.judged(root, symbols=("IBM", "FB"), promotion={"decision": "Published"})
    paths, results = example.paths, {}
    for number, kind in enumerate((TOKENIZER, PREDICTOR)):
        files = paths.stage(StageName(kind.name))
        save_weights(scratch_net(kind, "tiny", 7 + number), files.best)
        result = files.completed()
        assert result is not None
        files.result.write_text(result.model_copy(update={"digest": weights_digest(files.best)}).dump())
        results[StageName(kind.name)] = result.model_copy(update={"digest": weights_digest(files.best)})
    run: RunConfig = example.run
    pointers.publish(paths, pointers.document(paths, run, results), pointers.By.TRAINING)
    return paths


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    """Whether all weights and buffers are equal to the bit."""
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(
        first[name].dtype == second[name].dtype
        and first[name].contiguous().numpy().tobytes() == second[name].contiguous().numpy().tobytes()
        for name in first
    )


def test_upstreams_loader_reads_every_bit(tmp_path: Path, capsys: Output) -> None:
    paths = exportable(tmp_path / "outputs")
    to = tmp_path / "out"
    assert main(["export", "model-b-1d", "--root", str(tmp_path / "outputs"), "--to", str(to)]) == 0
    assert capsys.readouterr().out == f"{to}\n"
    weights = [
        f"{stage}/{name}" for stage in ("predictor", "tokenizer") for name in ("config.json", "model.safetensors")
    ]
    files = sorted(path.relative_to(to).as_posix() for path in to.rglob("*") if path.is_file())
    assert files == ["README.md", "calibration.json", *weights]
    for name in weights:
        stage, _, file = name.partition("/")
        assert (to / name).read_bytes() == (paths.run_dir / stage / "best" / file).read_bytes()
    assert same(UpstreamTokenizer.from_pretrained(str(to / "tokenizer")), scratch_net(TOKENIZER, "tiny", 7))
    assert same(Kronos.from_pretrained(str(to / "predictor")), scratch_net(PREDICTOR, "tiny", 8))
    assert same(load_net(PREDICTOR, to / "predictor"), scratch_net(PREDICTOR, "tiny", 8))
    wrapped = load_kronos(str(to / "predictor"), str(to / "tokenizer"))
    assert wrapped is not None
    # What is there already is not written over.
    assert main(["export", "model-b-1d", "--root", str(tmp_path / "outputs"), "--to", str(to)]) == 64
    assert "exists already" in capsys.readouterr().err


def test_the_card_says_what_the_run_has_found(tmp_path: Path) -> None:
    paths = exportable(tmp_path / "outputs")
    for stage in StageName:  # as `kronos pull` brings it
        paths.stage(stage).config.unlink(missing_ok=True)
    assert main(["export", "model-b-1d", "--root", str(tmp_path / "outputs"), "--to", str(tmp_path / "out")]) == 0
    _, front, text = (tmp_path / "out" / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(front) == {
        "license": "mit",
        "library_name": "kronos",
        "pipeline_tag": "time-series-forecasting",
        "tags": ["kronos", "time-series", "finance", "k-line"],
        "base_model": ["NeoQuasar/Kronos-small", "NeoQuasar/Kronos-Tokenizer-base"],
        "base_model_relation": "finetune",
    }
    found = json.loads(paths.stage(StageName.EVALUATION).evaluation.read_text())
    own = found["forecasters"]["finetuned"]
    start = next(one for one in found["comparisons"] if one["rival"] == "start")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    cells = {row[0]: row[1:] for row in rows}
    assert cells["the weights it started from"][0] == f"+{100 * start['improvement']:.0f} %"
    assert cells["CRPS"][0] == f"{own['metrics']['crps']:#.4g}"
    low, high = own["intervals"]["coverage80"]
    assert cells["closes inside the 80 % band"][:2] == ["71 %", f"{100 * low:.0f} % to {100 * high:.0f} %"]
    assert cells["test"] == ["2012-01-24", "2013-03-02"]
    assert "--lookback 90" in text and "--horizon 15" in text and "before 2024-07-01" in text
    assert str(tmp_path) not in text and "us-daily" not in text  # nothing of where it was trained

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        assert main(["export", "model-b-1d", "--root", "outputs", "--to", "own", "--licence", "cc-by-4.0"]) == 0
    assert "license: cc-by-4.0\n" in (tmp_path / "own" / "README.md").read_text()


def test_the_licence_goes_back_through_warm_starts_and_is_not_made_up(tmp_path: Path) -> None:
    paths = exportable(tmp_path)
    first = paths.runs / "run-first"
    for stage, origin in (("tokenizer", "scratch:tiny"), ("predictor", "hub:NeoQuasar/Kronos-base@1")):
        files = paths.stage(StageName(stage))
        result = files.completed()
        assert result is not None
        (first / stage).mkdir(parents=True)
        (first / stage / "result.json").write_text(result.model_copy(update={"origin": origin}).dump())
        files.result.write_text(result.model_copy(update={"origin": "published:run-first@1"}).dump())
    assert main(["export", "model-b-1d", "--root", str(tmp_path), "--to", str(tmp_path / "one")]) == 0
    assert "license: mit\n" in (tmp_path / "one" / "README.md").read_text()
    files = paths.stage(StageName.PREDICTOR)
    files.result.write_text(files.result.read_text().replace("published:run-first@1", "path:/home/me/weights"))
    assert main(["export", "model-b-1d", "--root", str(tmp_path), "--to", str(tmp_path / "two")]) == 0
    text = (tmp_path / "two" / "README.md").read_text()
    assert "license:" not in text and "None was stated" in text and "/home/me" not in text


def test_damaged_weights_and_impossible_targets_are_refused(tmp_path: Path, capsys: Output) -> None:
    paths = exportable(tmp_path)
    command = ["export", "model-b-1d", "--root", str(tmp_path)]
    for to, words in (("hf://name", "hf://OWNER/NAME"), ("s3://bucket/x", "hf://OWNER/NAME")):
        assert main([*command, "--to", to]) == 64
        assert words in capsys.readouterr().err
    assert main([*command, "--to", str(tmp_path / "out"), "--public"]) == 64
    with (paths.stage(StageName.PREDICTOR).best / "model.safetensors").open("ab") as file:
        file.write(b"x")
    assert main([*command, "--to", str(tmp_path / "out")]) == 66
    assert "does not contain the weights" in capsys.readouterr().err
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".aside*"))


def test_a_model_behind_a_uri_is_fetched_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths, bucket = exportable(tmp_path / "outputs"), Bucket()
    monkeypatch.setitem(stores._KINDS, "s3", lambda *args, **options: bucket)
    for file in (path for path in paths.model_dir.rglob("*") if path.is_file()):
        bucket.put(f"team/{file.relative_to(tmp_path / 'outputs').as_posix()}", file.read_bytes())
    here, there = (str(tmp_path / name) for name in ("here", "there"))
    assert main(["export", "model-b-1d", "--root", "s3://bucket/team", "--to", there]) == 0
    assert main(["export", "model-b-1d", "--root", str(tmp_path / "outputs"), "--to", here]) == 0
    assert subprocess.run(["diff", "-r", here, there]).returncode == 0


def test_the_hub_gets_the_export_in_one_commit(tmp_path: Path) -> None:
    exportable(tmp_path / "outputs")
    command = [sys.executable, "-m", "kronos_trainer.collection", "export", "model-b-1d", "--root", "outputs"]

    def export(*options: str, token: str = TOKEN) -> subprocess.CompletedProcess[str]:
        environ = {"HF_ENDPOINT": hub.address, "HF_TOKEN": token, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(tmp_path)}
        return subprocess.run(
            [*command, *options], env=os.environ | environ, cwd=tmp_path, capture_output=True, text=True, timeout=120
        )

    with HubServer(TOKEN) as hub:
        assert export("--to", "out").returncode == 0 and hub.requests == []  # nothing is sent unless it is asked for
        refused = export("--to", "hf://me/model", token="hf_other")
        assert refused.returncode == 78 and "cannot upload to me/model" in refused.stderr
        assert "HF_TOKEN" in refused.stderr and "Traceback" not in refused.stderr and hub.commits == []
        done = export("--to", "hf://me/model")
        assert done.returncode == 0, done.stderr
        assert (done.stdout, done.stderr) == (f"{hub.address}/me/model\n", "")
        (files,) = hub.commits
        assert files == {
            path.relative_to(tmp_path / "out").as_posix(): path.read_bytes()
            for path in (tmp_path / "out").rglob("*")
            if path.is_file()
        }
        assert hub.repositories["me/model"]["visibility"] == "private"
        assert export("--to", "hf://me/open", "--public").returncode == 0
        assert hub.repositories["me/open"]["visibility"] == "public"
    for said in (refused, done):
        assert "hf_" not in said.stdout + said.stderr.replace("HF_TOKEN", "")
