"""`kronos_trainer.load` and what a model knows of its run, and docs/notebook.ipynb with a real kernel."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import report_examples as examples
from nbclient import NotebookClient

from kronos_trainer import Forecaster, load, report
from kronos_trainer.config import StageName
from kronos_trainer.errors import InputMissing
from kronos_trainer.evaluation.document import Evaluation
from kronos_trainer.model.kinds import PREDICTOR, TOKENIZER
from kronos_trainer.model.weights import save_weights, scratch_net
from kronos_trainer.storage import durable

NOTEBOOK = Path(__file__).parents[2] / "docs" / "notebook.ipynb"
SYMBOLS = ("IBM", "<b>AAPL")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output root with a model that is published, judged and reported."""
    root = tmp_path_factory.mktemp("outputs")
    example = examples.judged(root, symbols=SYMBOLS, dates=24)
    report.write(example.run, example.paths)
    for kind, stage in ((TOKENIZER, "tokenizer"), (PREDICTOR, "predictor")):
        best = example.paths.stage(StageName(stage)).best
        shutil.rmtree(best, ignore_errors=True)
        save_weights(scratch_net(kind, "tiny", 1), best)
    run = example.run
    parts = {part: {"path": f"runs/{run.run}/{part}/best"} for part in ("tokenizer", "predictor")}
    published = {
        "run": run.run,
        "timeframe": "1d",
        "window": run.window.model_dump(by_alias=True),
        "data": {"digest": "", "clip": 5.0, "timeZone": None, "calendar": None},
        **parts,
    }
    durable.write_json(example.paths.current, published)
    return root


@pytest.fixture(scope="module")
def model(root: Path) -> Forecaster:
    return load("model-b-1d", root=root, device="cpu")


def test_an_evaluation_is_frames_of_its_document(model: Forecaster) -> None:
    found = model.evaluation
    assert model.run is not None
    document = Evaluation.load((model.run / "evaluation" / "evaluation.json").read_text())
    assert document.summary is not None and found.verdict == document.summary.verdict
    for one in document.comparisons:
        row = found.comparisons.loc[one.rival]
        assert (row["verdict"], row["improvement"], row["p_better"]) == (one.verdict, one.improvement, one.p_better)
    for name, one in document.forecasters.items():
        assert found.metrics.loc[name, "crps"] == one.metrics["crps"]
        np.testing.assert_array_equal(found.losses["crps"][name], np.array(one.losses["crps"], float))
        np.testing.assert_array_equal(found.by_step["crps"][name], np.array(one.by_step["crps"], float))
        wanted = [one.by_symbol.get(symbol, {}).get("crps") for symbol in SYMBOLS]
        np.testing.assert_array_equal(found.by_symbol["crps"][name], np.array(wanted, float))
    assert found.losses.index.equals(pd.DatetimeIndex(document.dates))
    assert list(found.by_step.index) == list(range(1, document.horizon + 1)) and list(found.by_symbol.index) == [
        *SYMBOLS
    ]


def test_a_notebook_shows_the_page_of_the_run_and_runs_nothing_of_it(model: Forecaster) -> None:
    shown = model.report()
    html = shown._repr_html_()
    assert shown.path.name == "report.html" and html.count("<") == 2  # of the frame alone
    assert html.lower().startswith('<iframe sandbox srcdoc="&lt;!doctype html')


def test_what_was_not_judged_or_is_of_no_run_says_so(root: Path, tmp_path: Path) -> None:
    run = load("model-b-1d", root=root).run
    assert run is not None
    bare = load(run / "tokenizer" / "best", run / "predictor" / "best", device="cpu")
    for ask in (lambda: bare.evaluation, bare.report):
        with pytest.raises(InputMissing, match="of no run"):
            ask()
    copy = shutil.copytree(run, tmp_path / "run")
    (copy / "evaluation" / "evaluation.json").write_text("[1")
    (copy / "report.html").unlink()
    damaged = load(copy, device="cpu")
    with pytest.raises(InputMissing, match=r"evaluation\.json: damaged"):
        _ = damaged.evaluation
    with pytest.raises(InputMissing, match=r"report\.html is absent; `kronos report NAME --run run`"):
        damaged.report()
    shutil.rmtree(copy / "evaluation")
    with pytest.raises(InputMissing, match="was not judged"):
        _ = damaged.evaluation


def test_importing_costs_neither_torch_nor_pandas() -> None:
    code = "import sys, kronos_trainer as k; k.load, k.Sampling; print({'torch', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_notebook_runs(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    close = 50 + random.normal(0, 0.5, 200).cumsum()
    prices = {"open": close, "high": close + 1, "low": close - 1, "close": close, "volume": 1e6}
    bars = tmp_path / "data" / "bars" / "us" / "daily" / "IBM.csv"
    bars.parent.mkdir(parents=True)
    pd.DataFrame({"timestamps": pd.bdate_range("2020-01-01", periods=200), **prices}).to_csv(bars, index=False)
    (tmp_path / "outputs").symlink_to(root)
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [set(output.get("data", {})) for cell in notebook.cells for output in cell.get("outputs", ())]
    assert sum("image/png" in kinds for kinds in shown) == 2  # the band and the errors by step
    assert sum("text/html" in kinds for kinds in shown) == 5  # four tables and the report
