"""`kronos import-config` on files written for these tests in the layout of upstream's settings."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kronos_operator.api import Spec
from kronos_operator.cli import main
from kronos_operator.loading import load_models
from kronos_operator.upstream import UnreadableSettings, read_config_py, read_csv_yaml
from kronos_trainer.config import ImportedSpec, spec_of_config_py, spec_of_csv_yaml

CONFIG_PY = """\
import os

BARS_A_DAY = 1
raise SystemExit("this file is read, never run")


class Config:
    def __init__(self):
        self.qlib_data_path = "/bars/cn_data"
        self.instrument = "csi300"
        self.dataset_begin_time = "2011-01-01"
        self.dataset_end_time = "2025-06-05"
        self.lookback_window = 60 * BARS_A_DAY
        self.predict_window = 12
        self.max_context = 256
        self.feature_list = ["open", "high", "low", "close", "vol", "amt"]
        self.time_feature_list = ["minute", "hour", "weekday", "day", "month"]
        self.train_time_range = ["2011-01-01", "2022-12-31"]
        self.val_time_range = ["2022-09-01", "2024-06-30"]
        self.test_time_range = ["2024-04-01", "2025-06-05"]
        self.backtest_time_range = ["2024-07-01", "2025-06-05"]
        self.dataset_path = "./data/processed"
        self.clip = 4.0
        self.epochs = 20
        self.log_interval = 100
        self.batch_size = 48
        self.n_train_iter = 1000 * self.batch_size
        self.n_val_iter = 100 * self.batch_size
        self.tokenizer_learning_rate = 2e-4
        self.predictor_learning_rate = 4e-5
        self.accumulation_steps = 2
        self.adam_beta1 = 0.8
        self.adam_beta2 = 0.98
        self.adam_weight_decay = 0.05
        self.seed = 7
        self.use_comet = True
        self.comet_config = {"api_key": "do-not-copy-me", "project_name": "csi", "workspace": "desk"}
        self.comet_tag = "first"
        self.comet_name = "first"
        self.save_path = "./results"
        self.tokenizer_save_folder_name = "tok"
        self.predictor_save_folder_name = "pred"
        self.pretrained_tokenizer_path = "path/to/Kronos-Tokenizer-base"
        self.pretrained_predictor_path = "./weights/mine"
        self.finetuned_tokenizer_path = f"{self.save_path}/{self.tokenizer_save_folder_name}/checkpoints/best_model"
        self.backtest_n_symbol_hold = 50
        self.backtest_benchmark = self._benchmark(self.instrument)
        self.inference_T = 0.6
        if self.use_comet:
            self.inference_top_k = 0
        self.own_field = -3
        self.first, self.second = 1, 2

    def _benchmark(self, name):
        return {"csi300": "SH000300"}[name]
"""

CSV_YAML = """\
data:
  data_path: /bars/HK_09988_kline_5min_all.csv
  lookback_window: 512
  predict_window: 48
  max_context: 512
  clip: 5.0
  train_ratio: 0.8
  val_ratio: 0.1
  test_ratio: 0.1
training:
  tokenizer_epochs: 12
  basemodel_epochs: 8
  batch_size: 32
  log_interval: 50
  num_workers: 6
  seed: 42
  tokenizer_learning_rate: 0.0002
  predictor_learning_rate: 0.000001
  adam_beta1: 0.9
  adam_beta2: 0.95
  adam_weight_decay: 0.1
  accumulation_steps: 1
model_paths:
  pretrained_tokenizer: NeoQuasar/Kronos-Tokenizer-2k
  pretrained_predictor: /xxx/pretrained/Kronos-mini
  exp_name: HK_ali_09988
  base_path: /results/
  base_save_path: ""
  finetuned_tokenizer: ""
  tokenizer_save_name: tokenizer
  basemodel_save_name: basemodel
experiment:
  name: kronos
  description: one symbol
  use_comet: false
  train_tokenizer: true
  train_basemodel: true
  skip_existing: false
device: {use_cuda: true, device_id: 1}
distributed: {use_ddp: false, backend: nccl}
"""


def converted(tmp_path: Path, name: str, text: str, *options: str) -> tuple[Spec, str]:
    """The spec that a file is converted to, and the text of the KronosModel."""
    (tmp_path / name).write_text(text)
    written = tmp_path / "made.yaml"
    assert main(["import-config", str(tmp_path / name), "-o", str(written), *options]) == 0
    (loaded,) = load_models([written])
    return loaded.model.spec, written.read_text()


def test_config_py_becomes_a_valid_model_without_being_run(tmp_path: Path) -> None:
    spec, text = converted(tmp_path, "config.py", CONFIG_PY, "--gpus", "4")
    assert (spec.timeframe, spec.data.source.path, spec.data.clip) == ("1d", "/bars/cn_data", 4.0)
    assert (spec.window.lookback, spec.window.horizon, spec.window.max_context) == (60, 12, 256)
    ranges = spec.data.split.ranges
    assert ranges is not None and ranges.test is not None
    assert (ranges.train.start, ranges.train.end) == ("2011-01-01", "2023-01-01"), "upstream's end is included"
    assert (ranges.validation.start, ranges.test.start, ranges.test.end) == ("2023-01-01", "2024-07-01", "2025-06-06")
    tokenizer, predictor = spec.tokenizer, spec.predictor
    assert (tokenizer.batch_size, tokenizer.micro_batch_size, predictor.micro_batch_size) == (192, 24, 48)
    assert (tokenizer.learning_rate, predictor.learning_rate, predictor.epochs) == (2e-4, 4e-5, 20)
    assert (predictor.betas, predictor.weight_decay) == ([0.8, 0.98], 0.05)
    assert (spec.training.windows_per_epoch, spec.training.validation_windows) == (48000, 4800)
    assert tokenizer.init.hub is not None and tokenizer.init.hub.repo == "NeoQuasar/Kronos-Tokenizer-base"
    assert predictor.init.path == "./weights/mine"
    assert spec.comet is not None
    assert (spec.comet.project, spec.comet.workspace, spec.comet.tags) == ("csi", "desk", ["first"])
    assert (spec.resources.gpus_per_node, spec.training.seed) == (4, 7)
    assert "do-not-copy-me" not in text and "COMET_API_KEY" in text
    for computed in ("backtest_benchmark: computed by code", "inference_top_k: computed by code", "second: computed"):
        assert computed in text
    assert "own_field = -3: not known here" in text and "best_model'" in text


def test_csv_yaml_becomes_a_valid_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec, _ = converted(tmp_path, "config_ali.yaml", CSV_YAML)
    err = capsys.readouterr().err
    assert (spec.timeframe, spec.data.source.path) == ("5m", "/bars/HK_09988_kline_5min_all.csv")
    assert (spec.window.lookback, spec.window.horizon) == (464, 48)
    assert "note: data.lookback_window: 464 instead of 512" in err
    assert (spec.tokenizer.epochs, spec.predictor.epochs, spec.predictor.learning_rate) == (12, 8, 1e-6)
    hubs = [stage.init.hub and stage.init.hub.repo for stage in (spec.tokenizer, spec.predictor)]
    assert hubs == ["NeoQuasar/Kronos-Tokenizer-2k", "NeoQuasar/Kronos-mini"]
    (loaded,) = load_models([tmp_path / "made.yaml"])
    assert loaded.model.metadata.name == "hk-ali-09988"


def test_what_is_not_trained_and_what_begins_at_random(tmp_path: Path) -> None:
    text = CSV_YAML.replace("train_tokenizer: true", "train_tokenizer: false\n  pre_trained_predictor: false")
    text = text.replace("test_ratio: 0.1", "test_ratio: 0").replace("val_ratio: 0.1", "val_ratio: 0.2")
    spec, _ = converted(tmp_path, "a.yaml", text.replace("use_cuda: true", "use_cuda: false"), "--timeframe", "15m")
    assert (spec.timeframe, spec.tokenizer.epochs, spec.resources.gpus_per_node) == ("15m", 0, 0)
    assert spec.predictor.init.scratch is not None and spec.predictor.init.scratch.size == "mini"
    assert spec.evaluation is not None and not spec.evaluation.enabled


def leaves(tree: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, name))
        else:
            yield (*path, name)


def another(value: Any) -> Any:
    match value:
        case bool():
            return not value
        case int() | float():
            return value * 2 if value else 1
        case [str(first), str(last)] if first[:2] == "20":
            return [first.replace("20", "19", 1), last.replace("-", "-0")[:4] + "-12-30"]
        case list():
            return [*value, "other"]
        case _:
            return f"{value}2"


CSV: dict[str, Any] = yaml.safe_load(CSV_YAML.replace("0.000001", "1.0e-6"))
PY = read_config_py(CONFIG_PY)


@pytest.mark.parametrize("path", list(leaves(CSV)), ids=".".join)
def test_no_setting_of_a_csv_yaml_is_dropped(path: tuple[str, ...]) -> None:
    def meant(tree: dict[str, Any]) -> ImportedSpec:
        return spec_of_csv_yaml(tree, timeframe=None, gpus=1)

    changed = copy.deepcopy(CSV)
    changed[path[0]][path[1]] = another(CSV[path[0]][path[1]]) if path[1] != "data_path" else "/other_15m.csv"
    assert meant(changed) != meant(CSV)


@pytest.mark.parametrize("path", list(leaves(PY.values)), ids=".".join)
def test_no_setting_of_a_config_py_is_dropped(path: tuple[str, ...]) -> None:
    def meant(tree: dict[str, Any]) -> ImportedSpec:
        return spec_of_config_py(tree, {}, timeframe=None, gpus=1)

    changed = copy.deepcopy(PY.values)
    place = changed if len(path) == 1 else changed[path[0]]
    place[path[-1]] = another(place[path[-1]])
    if path[-1] == "api_key":
        assert meant(changed) == meant(PY.values), "a key is never repeated, not even in a comment"
    else:
        assert meant(changed) != meant(PY.values)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("config.py", "class Other: pass", "has no class Config"),
        ("config.py", "def (", "is not Python, line 1"),
        ("config.py", CONFIG_PY.replace("= 48\n", "= 'many'\n"), "batch_size: a whole number is expected"),
        ("config.py", CONFIG_PY.replace("self.clip = 4.0", "self.clip = 4000"), "spec.data.clip"),
        ("a.yaml", "- 1", "has no sections data, training"),
        ("a.yaml", "a: [", "not valid YAML"),
        ("a.yaml", CSV_YAML.replace("_5min", ""), "give --timeframe"),
        ("a.yaml", CSV_YAML.replace("train_ratio: 0.8", "train_ratio: lots"), "data.train_ratio"),
        ("a.yaml", CSV_YAML.replace("train_ratio: 0.8", "train_ratio: 0.95"), "must sum to 1; they sum to 1.05"),
        ("config.py", CONFIG_PY.replace('"2022-12-31"]', '"last year"]'), "train_time_range"),
    ],
)
def test_bad_settings_are_refused_by_name_and_nothing_is_written(
    name: str, text: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text(text)
    assert main(["import-config", str(tmp_path / name), "-o", str(tmp_path / "made.yaml")]) == 64
    err = capsys.readouterr().err
    assert words in err and "Traceback" not in err
    assert not (tmp_path / "made.yaml").exists()


def test_only_harmless_expressions_are_evaluated() -> None:
    huge = "class Config:\n    def __init__(self):\n        self.x = 'a' * 10**9\n        self.y = __import__('os')\n"
    found = read_config_py(huge + "        self.z = 2 * 3 / 0\n        for self.w in (1, 2):\n            pass\n")
    assert found.values == {} and sorted(found.unread) == ["w", "x", "y", "z"]
    with pytest.raises(UnreadableSettings, match="is given twice"):
        read_csv_yaml("data: {a: 1, a: 2}")
