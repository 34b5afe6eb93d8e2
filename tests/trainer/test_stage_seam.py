"""A stage is a seam: one that produces scores is added by what docs/architecture.md lists, and by nothing else.

The list is carried out on a copy of both packages, which runs in processes of its own.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from kronos_operator.api import Spec
from kronos_operator.hashing import run_id, stage_hashes
from kronos_trainer.config import StageName
from kronos_trainer.forecast.published import published_weights

ROOT = Path(__file__).parents[2]
ROW = """
    BACKTEST = "backtest", "back", "BacktestStage", "Backtest of the finished model."
"""
CONFIG = '''

class BacktestStage(StageConfig):
    """Backtest of the finished model."""

    windows: int = Field(4, ge=1, le=65536, description="Validation windows that are scored.")
'''
MODULE = '''
"""The stage that scores the finished model."""

from kronos_trainer.config import StageName, StageResult
from kronos_trainer.model.kinds import PREDICTOR, TOKENIZER
from kronos_trainer.model.weights import load_net


def backtest(work):
    import torch

    def read():
        return load_net(TOKENIZER, work.weights(StageName.TOKENIZER)), load_net(
            PREDICTOR, work.weights(StageName.PREDICTOR)
        )

    tokenizer, predictor = work.ranks.on_first(read)
    windows = torch.arange(work.run.backtest.windows)
    values = work.splits.validation.values(windows)
    with torch.no_grad():
        error = (tokenizer.reconstruct(values) - values).square().mean()
    found = {"windows": len(windows), "squaredError": error.item(), "layers": predictor.config.n_layers}
    return StageResult(scores=found)
'''
FORECAST_NEEDS = {"path", "digest", "hash"}


def edit(path: Path, *pairs: tuple[str, str]) -> None:
    text = path.read_text()
    for after, added in pairs:
        assert text.count(after) == 1, f"{path.name}: {after}"
        text = text.replace(after, after + added)
    path.write_text(text)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both packages with one stage more, added in four files."""
    directory = tmp_path_factory.mktemp("tree")
    for package in ("operator/kronos_operator", "trainer/kronos_trainer"):
        shutil.copytree(ROOT / package, directory / package, ignore=shutil.ignore_patterns("__pycache__"))
    trainer = directory / "trainer" / "kronos_trainer"
    edit(trainer / "stages.py", ('"Evaluation of the finished model, the last stage."\n', ROW.lstrip("\n")))
    with (trainer / "config" / "spec.py").open("a") as file:
        file.write(CONFIG)
    (trainer / "training" / "backtest.py").write_text(MODULE)
    edit(
        trainer / "training" / "stages.py",
        ("StageName.PREDICTOR: Trains(PREDICTOR, predictor_task),\n", "    StageName.BACKTEST: Scores(backtest),\n"),
        (
            "from kronos_trainer.model.kinds import PREDICTOR, TOKENIZER, Kind\n",
            "from kronos_trainer.training.backtest import backtest\n",
        ),
    )
    return directory


def python(tree: Path, *arguments: str, cwd: Path) -> str:
    """What a process with this stage prints."""
    environ = os.environ | {
        "PYTHONPATH": os.pathsep.join(str(tree / side) for side in ("operator", "trainer")),
        "TMPDIR": str(cwd),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, *arguments], env=environ, cwd=cwd, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def kronos(tree: Path, *arguments: str, cwd: Path) -> str:
    main = "import sys; from kronos_operator.cli import main; sys.exit(main(sys.argv[1:]))"
    return python(tree, "-c", main, *arguments, cwd=cwd)


def model(bars: str = "bars.csv", **spec: Any) -> dict[str, Any]:
    stage = {"init": {"scratch": {"size": "tiny"}}, "epochs": 1, "batchSize": 16, "microBatchSize": 16}
    return {
        "apiVersion": "kronos.io/v1alpha1",
        "kind": "KronosModel",
        "metadata": {"name": "seam"},
        "spec": {
            "timeframe": "1d",
            "data": {"source": {"path": bars}},
            "window": {"lookback": 12, "horizon": 3},
            "tokenizer": stage,
            "predictor": stage,
            "evaluation": {"enabled": False},
            "training": {"precision": "fp32", "windowsPerEpoch": 16, "validationWindows": 16},
        }
        | spec,
    }


def test_a_stage_that_produces_scores_runs_last_and_publishes_what_a_forecast_needs(
    tree: Path, bars_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(model(str(bars_file), backtest={})))
    outputs = tmp_path / "outputs"
    done = json.loads(kronos(tree, "run", "-f", "model.yaml", "--json", cwd=tmp_path))
    (summary,) = done if isinstance(done, list) else done["models"]
    run = outputs / "models" / "default" / "seam" / "runs" / summary["run"]
    result = json.loads((run / "backtest" / "result.json").read_text())
    assert result["stage"] == "backtest" and result["run"] == summary["run"]
    assert result["scores"].keys() == {"windows", "squaredError", "layers"} and result["scores"]["windows"] == 4
    assert not result.keys() & {"epochs", "steps", "digest", "origin"}
    assert sorted(path.name for path in (run / "backtest").iterdir()) == ["result.json", "run.json"]
    assert json.loads((run / "backtest" / "run.json").read_text())["publish"] is True
    assert json.loads((run / "predictor" / "run.json").read_text())["publish"] is False

    current = json.loads((run.parents[1] / "current.json").read_text())
    assert current["run"] == summary["run"] and current["backtest"] == {"hash": result["hash"]}
    assert all(current[stage].keys() == FORECAST_NEEDS for stage in ("tokenizer", "predictor"))
    published_weights(outputs, None, "seam").require()
    (text,) = (outputs / "logs").glob("training_report_*.txt")
    assert re.search(r"^backtest +squaredError +\d\.\d+$", text.read_text(), re.MULTILINE)

    # Other scores of the same run: nothing is trained again.
    kronos(tree, "run", "-f", "model.yaml", "--set", "backtest.windows=2", cwd=tmp_path)
    assert [path.name for path in run.parent.iterdir()] == [summary["run"]]
    assert json.loads((run / "predictor" / "run.json").read_text())["attempt"] == 1
    again = json.loads((run / "backtest" / "result.json").read_text())
    assert (again["scores"]["windows"], again["attempt"]) == (2, 3)
    scores = {one["name"]: one["value"] for one in json.loads((run / "report.json").read_text())["scores"]}
    assert scores == again["scores"]


OPERATOR = """
import json, sys
from kronos_operator import names
from kronos_operator.api import KronosModel
from kronos_operator.crd import custom_resource_definition
from kronos_operator.hashing import run_id, stage_hashes
from kronos_operator.plan import Observed, plan
from kronos_operator.reconcile.reports import read_report, result_of
from kronos_trainer.config import StageName, StageResult

with_it, without, evaluated = (KronosModel.model_validate(body) for body in json.load(sys.stdin))
stage = StageName.BACKTEST
hashes = stage_hashes(with_it.spec)
decided = plan(with_it, Observed(), 0.0)
(pending,) = [one for one in plan(with_it, Observed(run=plan(without, Observed(), 0.0).run), 0.0).conditions
              if one.type == stage.condition]
said = json.dumps({"kronos": 1, "event": "result", "time": "2026-03-01T08:00:00.000Z",
                   "result": StageResult(stage=stage, scores={"sharpe": 1.5, "none": float("nan")}).short})
result = result_of(read_report([said]), stage)
both = plan(evaluated, Observed(), 0.0)
stages = [one.evolve(done=True, promotion="Held" if one.stage is StageName.EVALUATION else None)
          for one in both.run.stages]
schema = custom_resource_definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
json.dump({
    "hashes": hashes,
    "hashes without": stage_hashes(without.spec),
    "run": run_id(hashes),
    "child": names.child_name("seam", stage, hashes[stage], 3),
    "conditions": [one.type for one in decided.conditions],
    "conditions without": [one.type for one in plan(without, Observed(), 0.0).conditions],
    "pending": [pending.status, pending.reason],
    "publishes": [one.stage for one in decided.run.stages if one.publish],
    "conditions with an evaluation": [one.type for one in both.conditions],
    "publishes after an evaluation": [one.stage for one in both.run.stages if one.publish],
    "published though held": both.run.evolve(stages=tuple(stages)).published,
    "metrics": result.metrics,
    "described": schema["status"]["properties"]["conditions"]["items"]["properties"]["type"]["description"],
    "spec": sorted(schema["spec"]["properties"]["backtest"]["properties"]),
    "artifacts": sorted(schema["status"]["properties"]["artifacts"]["properties"]),
    "run.json": decided.actions[0].run_config(without, bars="b", output="o").dump(),
}, sys.stdout)
"""
BEFORE = ["Ready", "Stalled", "Progressing", "TokenizerTrained", "PredictorTrained", "Available", "Finished"]


def test_the_operators_side_has_the_stage_where_a_model_configures_it_and_nothing_of_it_elsewhere(
    tree: Path, tmp_path: Path
) -> None:
    bodies = [model(backtest={"windows": 2}), model(), model(backtest={}, evaluation={})]
    program = f"import io, sys; sys.stdin = io.StringIO({json.dumps(bodies)!r})\n{OPERATOR}"
    found = json.loads(python(tree, "-c", program, cwd=tmp_path))
    ours = stage_hashes(Spec.model_validate(model()["spec"]))
    assert found["hashes without"] == ours
    assert found["hashes"] == ours | {"backtest": found["hashes"]["backtest"]}
    assert found["run"] == run_id(ours)  # scores do not make another run
    assert found["child"] == f"seam-back-{found['hashes']['backtest'][:8]}-3"
    assert found["conditions without"] == BEFORE
    assert found["conditions"] == [*BEFORE[:5], "BacktestCompleted", *BEFORE[5:]]
    assert found["pending"] == [False, "Pending"]  # the run that goes on was begun without it
    assert found["publishes"] == ["backtest"]
    assert found["conditions with an evaluation"] == [
        *BEFORE[:5],
        "EvaluationCompleted",
        "BacktestCompleted",
        *BEFORE[5:],
    ]
    assert found["publishes after an evaluation"] == ["backtest"]
    assert found["published though held"] is False  # the gate has decided before it
    assert found["metrics"] == {"sharpe": 1.5}
    assert "BacktestCompleted" in found["described"]
    assert found["spec"] == ["windows"]
    assert found["artifacts"] == ["predictor", "run", "tokenizer"]
    assert "backtest" not in json.loads(found["run.json"])


STAGE_MODULES = {
    "kronos_trainer/stages.py",
    "kronos_trainer/training/stages.py",
    "kronos_trainer/training/predictor.py",
}


def test_only_the_tables_and_a_stages_own_module_name_a_stage() -> None:
    named = {
        path.relative_to(side).as_posix()
        for side in (ROOT / "operator", ROOT / "trainer")
        for path in side.rglob("*.py")
        if re.search(r"StageName\.[A-Z]|StageName\(\"", path.read_text())
    }
    assert {path for path in named if not path.startswith("kronos_trainer/forecast/")} == STAGE_MODULES
    assert all(len(stage.short) <= 4 for stage in StageName)
