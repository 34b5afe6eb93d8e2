"""Settings of upstream's finetuning scripts → the spec of a KronosModel. Pure; used by `kronos import-config`.

Upstream is shiyu-coder/Kronos: `finetune/config.py` for Qlib data, and the YAML files of `finetune_csv`. A setting is
translated, or listed with the reason why it is not: none is dropped without a word.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from kronos_trainer.config.starts import STARTS

CSV_SECTIONS = ("data", "training", "model_paths", "experiment", "device", "distributed")

_HUB = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9_.-]+")
_PLACEHOLDER = re.compile(r"path/to|x{3,}|your[_-]", re.IGNORECASE)
_RELEASED = ("Kronos-Tokenizer-base", "Kronos-Tokenizer-2k", "Kronos-mini", "Kronos-small", "Kronos-base")
_RESULTS = "results lie in outputs/models/NAMESPACE/MODEL/runs/RUN"
_OWN = "a run's predictor uses the tokenizer of the run"
_BACKTEST = "there is no backtest here; the evaluation judges the forecasts (docs/evaluation.md)"

# Why a setting has no field of its own here.
_LEFT_OUT = {
    "instrument": "every symbol of the store is read; for some, copy their directories, or import upstream's pickles",
    "dataset_begin_time": "the ranges of data.split say which bars are used",
    "dataset_end_time": "the ranges of data.split say which bars are used",
    "dataset_path": "upstream's pickles: kronos data import train_data.pkl val_data.pkl test_data.pkl --out DIR",
    "feature_list": "always open, high, low, close, volume and amount",
    "time_feature_list": "always minute, hour, weekday, day and month",
    "log_interval": "progress is reported by time: progress.everySeconds",
    "training.log_interval": "progress is reported by time: progress.everySeconds",
    "training.num_workers": "windows are cut on the fly, without workers",
    "num_workers": "windows are cut on the fly, without workers",
    "comet_name": "an experiment is called after the model and its run",
    "tokenizer_save_folder_name": _RESULTS,
    "predictor_save_folder_name": _RESULTS,
    "finetuned_tokenizer_path": _OWN,
    "finetuned_predictor_path": "forecasts take the published run: kronos forecast --model NAME",
    "inference_T": "an option of the forecast: kronos forecast --temperature",
    "inference_top_p": "an option of the forecast: kronos forecast --top-p",
    "inference_top_k": "an option of the forecast: kronos forecast --top-k",
    "inference_sample_count": "an option of the forecast: kronos forecast --samples",
    "model_paths.base_path": _RESULTS,
    "model_paths.base_save_path": _RESULTS,
    "model_paths.tokenizer_save_name": _RESULTS,
    "model_paths.basemodel_save_name": _RESULTS,
    "model_paths.finetuned_tokenizer": _OWN,
    "experiment.name": "a model is called after exp_name",
    "experiment.description": "a model has no description",
    "experiment.use_comet": "upstream never read it; here: comet: {project: NAME}",
    "experiment.skip_existing": "stages that are finished are always reused",
    "device.device_id": "CUDA_VISIBLE_DEVICES chooses the GPU",
    "distributed.use_ddp": "with several GPUs training is always distributed, and upstream never read it",
    "distributed.backend": "NCCL with GPUs, gloo without",
}


@dataclass(frozen=True, kw_only=True)
class ImportedSpec:
    """A spec as in a KronosModel file, and what a reader should know of it, each with upstream's name in front."""

    name: str | None
    spec: dict[str, Any]
    changed: tuple[str, ...]  # taken over, with another value or meaning
    left_out: tuple[str, ...]  # without a counterpart


@dataclass
class _Settings:
    """Upstream's settings, by their names; what is taken is gone."""

    values: dict[str, Any]
    changed: list[str] = field(default_factory=list)

    def take(self, name: str, default: Any = None) -> Any:
        return self.values.pop(name, default)

    def whole(self, name: str, default: int) -> int:
        """A whole number. Raises ValueError naming the setting."""
        value = self.take(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ValueError(f"{name}: a whole number is expected; found {value!r}")
        return value

    def share(self, name: str, default: float) -> float:
        """A number. Raises ValueError naming the setting."""
        value = self.take(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{name}: a number is expected; found {value!r}")
        return float(value)

    def note(self, name: str, text: str) -> None:
        self.changed.append(f"{name}: {text}")

    def finish(self, name: str | None, spec: dict[str, Any], unread: Mapping[str, str]) -> ImportedSpec:
        left_out = [
            f"{key} = {value!r}: {_BACKTEST if key.startswith('backtest_') else _LEFT_OUT.get(key, 'not known here')}"
            for key, value in self.values.items()
        ]
        left_out += [f"{key}: {why}" for key, why in unread.items()]
        return ImportedSpec(name=name, spec=spec, changed=tuple(self.changed), left_out=tuple(left_out))


def spec_of_config_py(
    values: Mapping[str, Any], unread: Mapping[str, str], *, timeframe: str | None, gpus: int
) -> ImportedSpec:
    """The spec of the attributes of upstream's class Config.

    `unread` are attributes whose values only running the file would tell, with why. `gpus` is torchrun's
    --nproc_per_node: upstream's batch size counts per GPU, ours over all. Raises ValueError naming a bad value.
    """
    settings = _Settings(dict(values))
    if timeframe is None:
        settings.note("timeframe", "daily bars, as in upstream's Qlib data; else: --timeframe")
    data: dict[str, Any] = {"source": {"path": settings.take("qlib_data_path", "data")}}
    split = _ranges(settings)
    data |= ({"split": {"ranges": split}} if split else {}) | _given(settings, clip="clip")
    epochs = settings.take("epochs")
    micro = settings.whole("batch_size", 50)
    tokenizer, predictor = _stages(
        settings, "", micro=micro, gpus=gpus, epochs={"tokenizer": epochs, "predictor": epochs}
    )
    training = _given(settings, windowsPerEpoch="n_train_iter", validationWindows="n_val_iter", seed="seed")
    spec = {
        "timeframe": timeframe or "1d",
        "data": data,
        "window": _window(settings, ""),
        "tokenizer": tokenizer | {"init": _init(settings, "pretrained_tokenizer_path", "tokenizer")},
        "predictor": predictor | {"init": _init(settings, "pretrained_predictor_path", "predictor")},
        "training": training,
        "resources": {"gpusPerNode": gpus},
    }
    storage = settings.take("save_path")
    if storage is not None:
        spec["storage"] = {"path": storage}
    spec |= _comet(settings)
    return settings.finish(None, spec, unread)


def spec_of_csv_yaml(values: Mapping[str, Any], *, timeframe: str | None, gpus: int) -> ImportedSpec:
    """The spec of a YAML file of upstream's finetune_csv; `values` are its sections. Else as `spec_of_config_py`."""
    flat = {
        f"{section}.{name}": value
        for section, content in values.items()
        for name, value in (content.items() if isinstance(content, Mapping) else [("", content)])
    }
    settings = _Settings(flat)
    source = settings.take("data.data_path")
    if source is None:
        raise ValueError("data.data_path: names no file of bars")
    timeframe = timeframe or _timeframe_in(str(source), settings)
    data: dict[str, Any] = {"source": {"path": source}, "split": {"fractions": _fractions(settings)}}
    data |= _given(settings, clip="data.clip")
    plain = settings.take("training.epochs", 30)
    epochs = {
        stage: settings.take(f"training.{name}_epochs", plain) if settings.take(f"experiment.train_{name}", True) else 0
        for stage, name in (("tokenizer", "tokenizer"), ("predictor", "basemodel"))
    }
    gpus = gpus if settings.take("device.use_cuda", True) else 0
    micro = settings.whole("training.batch_size", 160)
    tokenizer, predictor = _stages(settings, "training.", micro=micro, gpus=gpus, epochs=epochs)
    pretrained = settings.take("experiment.pre_trained", True)
    inits = {
        stage: _init(
            settings,
            f"model_paths.pretrained_{stage}",
            stage,
            random=not settings.take(f"experiment.pre_trained_{stage}", pretrained),
        )
        for stage in ("tokenizer", "predictor")
    }
    spec: dict[str, Any] = {
        "timeframe": timeframe,
        "data": data,
        "window": _window(settings, "data."),
        "tokenizer": tokenizer | {"init": inits["tokenizer"]},
        "predictor": predictor | {"init": inits["predictor"]},
        "training": {"seed": settings.take("training.seed", 100)},
        "resources": {"gpusPerNode": gpus},
    }
    if data["split"]["fractions"]["test"] == 0:
        spec["evaluation"] = {"enabled": False}
        settings.note("data.test_ratio", "0, so the model is not evaluated: nothing is left to judge it on")
    name = settings.take("model_paths.exp_name")
    return settings.finish(None if name is None else str(name), spec, {})


def _given(settings: _Settings, **names: str) -> dict[str, Any]:
    """The fields here whose settings there are given: here=there."""
    return {here: settings.take(there) for here, there in names.items() if there in settings.values}


def _window(settings: _Settings, prefix: str) -> dict[str, int]:
    lookback = settings.whole(f"{prefix}lookback_window", 90)
    horizon = settings.whole(f"{prefix}predict_window", 10)
    longest = settings.whole(f"{prefix}max_context", 512)
    if lookback + horizon > longest:
        kept = longest - horizon
        settings.note(
            f"{prefix}lookback_window",
            f"{kept} instead of {lookback}: with the horizon it is longer than the context, {longest}",
        )
        lookback = kept
    return {"lookback": lookback, "horizon": horizon, "maxContext": longest}


def _stages(
    settings: _Settings, prefix: str, *, micro: int, gpus: int, epochs: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Both stages but for their initial weights."""
    processes = max(gpus, 1)
    if processes > 1:
        settings.note(f"{prefix}batch_size", f"{micro} on each of {processes} GPUs: batchSize is {micro * processes}")
    chunks = settings.whole(f"{prefix}accumulation_steps", 1) or 1
    smaller = micro // chunks if micro % chunks == 0 else micro
    if chunks > 1:
        settings.note(
            f"{prefix}accumulation_steps",
            f"upstream cuts a batch into {chunks}, and it grows no larger: tokenizer.microBatchSize is {smaller}",
        )
    shared: dict[str, Any] = {"batchSize": micro * processes}
    betas = [settings.take(f"{prefix}adam_beta1", 0.9), settings.take(f"{prefix}adam_beta2", 0.95)]
    shared |= _given(settings, weightDecay=f"{prefix}adam_weight_decay")
    if betas != [0.9, 0.95]:
        settings.note(f"{prefix}adam_beta1", "upstream uses the betas for the predictor alone, here both stages do")
    built = []
    for stage, size in (("tokenizer", smaller), ("predictor", micro)):
        own = _given(settings, learningRate=f"{prefix}{stage}_learning_rate")
        own |= {} if epochs[stage] is None else {"epochs": epochs[stage]}
        built.append(own | shared | {"betas": [*betas], "microBatchSize": size})
    return built[0], built[1]


def _init(settings: _Settings, name: str, stage: str, *, random: bool = False) -> dict[str, Any]:
    """Initial weights: a repository of the hub, a directory, or random ones of the size that the name tells."""
    value = settings.take(name)
    text = "" if value is None else str(value)
    known = next((one for one in _RELEASED if text.rstrip("/").endswith(one)), None)
    usual = getattr(STARTS["small"], stage).init.hub.repo
    if random:
        size = (known or usual).rpartition("-")[2]
        settings.note(name, f"random weights of size {size}, as experiment.pre_trained is false")
        return {"scratch": {"size": size}}
    if not text or _PLACEHOLDER.search(text):
        repo = usual if known is None else f"NeoQuasar/{known}"
        settings.note(name, f"{text or 'absent'} is no path: the released weights {repo} instead")
        return {"hub": {"repo": repo}}
    if _HUB.fullmatch(text):
        settings.note(name, f"{text} is taken for a repository of the hub; a directory would be init.path: ./{text}")
        return {"hub": {"repo": text}}
    return {"path": text}


def _fractions(settings: _Settings) -> dict[str, float]:
    train = settings.share("data.train_ratio", 0.9)
    validation = settings.share("data.val_ratio", 0.1)
    asked = settings.share("data.test_ratio", 0)
    test = round(1 - train - validation, 9)
    if abs(test - asked) > 1e-9:
        settings.note("data.test_ratio", f"{test:g}: upstream's test is whatever the others leave")
    return {"train": train, "validation": validation, "test": max(test, 0.0)}


def _ranges(settings: _Settings) -> dict[str, dict[str, str]]:
    """Explicit spans. Upstream's include their last day, and overlap so that the later ones have their history."""
    spans: dict[str, dict[str, str]] = {}
    before = ""
    for ours, theirs in (("train", "train"), ("validation", "val"), ("test", "test")):
        given = settings.take(f"{theirs}_time_range")
        if given is None:
            continue
        try:
            first, last = map(str, given)
            start, end = max(first, before), _following(last)
        except (TypeError, ValueError):
            raise ValueError(f"{theirs}_time_range: two dates are expected; found {given!r}") from None
        if start != first:
            settings.note(f"{theirs}_time_range", f"{ours} starts at {start} instead of {first}: spans do not overlap")
        spans[ours] = {"start": start, "end": end}
        before = end
    return spans


def _following(last: str) -> str:
    """The first instant after a span that includes `last`."""
    moment = datetime.fromisoformat(last)
    if len(last) == len("2022-12-31"):
        return (moment + timedelta(days=1)).date().isoformat()
    return (moment + timedelta(seconds=1)).isoformat(sep=" ", timespec="seconds")


def _comet(settings: _Settings) -> dict[str, Any]:
    """The field comet, where it is used. A key is never repeated."""
    used, given, tag = settings.take("use_comet"), settings.take("comet_config", {}), settings.take("comet_tag")
    if not isinstance(given, Mapping):
        raise ValueError("comet_config: names and values are expected")
    if not used:
        settings.note("use_comet", f"{used}: nothing is reported to Comet, and comet_config is left out")
        return {}
    comet = {"project": given.get("project_name") or "kronos"}
    comet |= {"workspace": given["workspace"]} if given.get("workspace") else {}
    if given.get("api_key"):
        settings.note("comet_config.api_key", "not copied: set COMET_API_KEY, or comet.apiKeySecret in a cluster")
    return {"comet": comet | ({"tags": [tag]} if tag else {})}


def _timeframe_in(path: str, settings: _Settings) -> str:
    """The length of a bar that a file's name tells, e.g. HK_09988_kline_5min_all.csv. Raises ValueError."""
    found = re.search(r"(?<![0-9])([0-9]+) ?(min|m|h|d|w)(?![a-z0-9])", path.rpartition("/")[2].lower())
    if found is None:
        raise ValueError("the length of a bar is in no setting of upstream's: give --timeframe, e.g. --timeframe 5m")
    timeframe = f"{found[1]}{found[2][0]}"
    settings.note("data.data_path", f"timeframe {timeframe}, by the name of the file; else: --timeframe")
    return timeframe
