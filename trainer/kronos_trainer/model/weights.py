"""Weights as upstream's directories (config.json, model.safetensors), and where a stage's first weights come from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Generic, TypeVar

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch.overrides import TorchFunctionMode

from kronos_trainer.config.spec import PredictorInit, TokenizerInit
from kronos_trainer.errors import ConfigError, InputMissing
from kronos_trainer.model.directory import CONFIG, WEIGHTS, present
from kronos_trainer.model.hub import download
from kronos_trainer.model.predictor import KronosPredictor, PredictorConfig
from kronos_trainer.model.sizes import PREDICTORS, TOKENIZERS
from kronos_trainer.model.tensors import write_tensors
from kronos_trainer.model.tokenizer import KronosTokenizer, TokenizerConfig

_Config = TypeVar("_Config", TokenizerConfig, PredictorConfig)
_Model = TypeVar("_Model", KronosTokenizer, KronosPredictor)

Published = Callable[[], tuple[Path, str]] | None  # finds a directory of weights, and the words for it

_NAMES = {TokenizerConfig: "tokenizer", PredictorConfig: "predictor"}
_JSON_TYPES: dict[str, tuple[type, ...]] = {"int": (int,), "float": (float, int), "bool": (bool,)}


@dataclass(frozen=True)
class Initial(Generic[_Model]):
    """A stage's first weights, and where they came from: hub:<repo>@<commit>, path:<directory>,
    published:<run>@<digest> or scratch:<size>."""

    model: _Model
    origin: str


def load_tokenizer(directory: Path) -> KronosTokenizer:
    """The tokenizer in a directory, in eval mode.

    Raises InputMissing when a file is absent or damaged, ConfigError when it does not hold a tokenizer.
    """
    config = _read_config(directory, TokenizerConfig)
    with _Uninitialised():
        model = KronosTokenizer(config)
    return _fill(model, directory)


def load_predictor(directory: Path) -> KronosPredictor:
    """The predictor in a directory, in eval mode.

    Raises InputMissing when a file is absent or damaged, ConfigError when it does not hold a predictor.
    """
    config = _read_config(directory, PredictorConfig)
    with _Uninitialised():
        model = KronosPredictor(config)
    return _fill(model, directory)


def save_weights(model: KronosTokenizer | KronosPredictor, directory: Path) -> None:
    """Write a directory that upstream's `from_pretrained` loads. Raises OSError.

    Not atomic: the caller writes aside and renames.
    """
    directory.mkdir(parents=True, exist_ok=True)
    write_tensors(directory / WEIGHTS, {name: _plain(tensor) for name, tensor in model.state_dict().items()})
    (directory / CONFIG).write_text(json.dumps(asdict(model.config), indent=2, sort_keys=True))
    (directory / "README.md").write_text(_model_card(model))


def scratch_tokenizer(size: str, seed: int) -> KronosTokenizer:
    """A randomly initialised tokenizer, the same for equal seeds whatever was drawn before."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return KronosTokenizer(TOKENIZERS[size])


def scratch_predictor(size: str, seed: int) -> KronosPredictor:
    """A randomly initialised predictor, the same for equal seeds whatever was drawn before."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return KronosPredictor(PREDICTORS[size])


def initial_tokenizer(init: TokenizerInit, seed: int, published: Published = None) -> Initial[KronosTokenizer]:
    """First weights of a tokenizer stage; `published` finds what `init.published` stands for.

    Raises as `load_tokenizer`, and BadEnvironment when a download fails.
    """
    if init.scratch is not None:
        return Initial(scratch_tokenizer(init.scratch.size, seed), f"scratch:{init.scratch.size}")
    directory, origin = _locate(init, published)
    return Initial(load_tokenizer(directory), origin)


def initial_predictor(init: PredictorInit, seed: int, published: Published = None) -> Initial[KronosPredictor]:
    """First weights of a predictor stage; `published` finds what `init.published` stands for.

    Raises as `load_predictor`, and BadEnvironment when a download fails.
    """
    if init.scratch is not None:
        return Initial(scratch_predictor(init.scratch.size, seed), f"scratch:{init.scratch.size}")
    directory, origin = _locate(init, published)
    return Initial(load_predictor(directory), origin)


def weights_digest(directory: Path) -> str:
    """SHA-256, in hex, over config.json and model.safetensors. Raises InputMissing when one is absent."""
    total = hashlib.sha256()
    for name in (CONFIG, WEIGHTS):
        with present(directory, name).open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def _locate(init: TokenizerInit | PredictorInit, published: Published) -> tuple[Path, str]:
    if init.published:
        assert published is not None
        return published()
    if init.hub is not None:
        snapshot = download(init.hub)
        return snapshot.directory, f"hub:{init.hub.repo}@{snapshot.commit}"
    assert init.path is not None  # the contract has checked that exactly one is given
    return Path(init.path), f"path:{init.path}"


def _read_config(directory: Path, kind: type[_Config]) -> _Config:
    """The configuration of a kind. Keys it does not know are ignored, as upstream does."""
    path = present(directory, CONFIG)
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise InputMissing(f"{path}: damaged, not JSON ({error}); copy the weights there again") from None
    wanted = fields(kind)
    missing = [field.name for field in wanted if not isinstance(found, dict) or field.name not in found]
    if missing:
        raise ConfigError(
            f"{path}: not a Kronos {_NAMES[kind]}: lacks {', '.join(missing)}; tokenizer and predictor are separate "
            "directories, check that they are not swapped"
        )
    for field in wanted:
        value, types = found[field.name], _JSON_TYPES[str(field.type)]
        if not isinstance(value, types) or isinstance(value, bool) != (bool in types):
            raise ConfigError(f"{path}: {field.name} must be of type {field.type}, not {json.dumps(value)}")
    try:
        return kind(**{field.name: found[field.name] for field in wanted})
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None


class _Uninitialised(TorchFunctionMode):
    """Nets made inside leave out the drawing of first weights, which takes long for large ones.

    (The meta device, the usual way, imports torch's compiler once anything is computed there, which takes seconds.)
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if kwargs and "tensor" in kwargs else args[0]
        return func(*args, **(kwargs or {}))


def _fill(model: _Model, directory: Path) -> _Model:
    """The model with the weights of a directory."""
    path = present(directory, WEIGHTS)
    try:
        tensors = safetensors.torch.load_file(path)
    except SafetensorError as error:
        raise InputMissing(f"{path}: damaged or incomplete ({error}); copy or download it again") from None
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    problems = [f"{name} is missing" for name in expected if name not in tensors]
    problems += [f"{name} is unknown" for name in tensors if name not in expected]
    problems += [
        f"{name} has shape {list(tensors[name].shape)} instead of {list(shape)}"
        for name, shape in expected.items()
        if name in tensors and tuple(tensors[name].shape) != shape
    ]
    if problems:
        shown = "; ".join(problems[:3]) + (f"; and {len(problems) - 3} more" if len(problems) > 3 else "")
        raise ConfigError(f"{path}: does not fit the {CONFIG} beside it: {shown}")
    model.load_state_dict(tensors)
    return model.eval()


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    """Numbers as float32, indices as they are."""
    return tensor.float() if tensor.is_floating_point() else tensor


def _model_card(model: KronosTokenizer | KronosPredictor) -> str:
    name = "KronosTokenizer" if isinstance(model, KronosTokenizer) else "Kronos"
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return (
        "---\nlibrary_name: kronos\ntags:\n- kronos\n- time-series\n---\n\n"
        f"# {name}\n\n"
        f"Weights of a `{name}` with {parameters:,} parameters, trained by kronos-operator.\n\n"
        f"Upstream Kronos loads this directory: `{name}.from_pretrained(path)`.\n"
    )
