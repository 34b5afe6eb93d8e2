"""Weights as upstream's directories (config.json, model.safetensors), and where a stage's first weights come from."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Generic

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch.overrides import TorchFunctionMode

from kronos_trainer.config.spec import Init
from kronos_trainer.errors import ConfigError, InputMissing
from kronos_trainer.model.directory import CONFIG, WEIGHTS, present
from kronos_trainer.model.hub import download
from kronos_trainer.model.kinds import PREDICTOR, TOKENIZER, Config, Kind, Net
from kronos_trainer.model.predictor import KronosPredictor
from kronos_trainer.model.tensors import write_tensors
from kronos_trainer.model.tokenizer import KronosTokenizer

Published = Callable[[], tuple[Path, str]] | None  # finds a directory of weights, and the words for it

_JSON_TYPES: dict[str, tuple[type, ...]] = {"int": (int,), "float": (float, int), "bool": (bool,)}


@dataclass(frozen=True)
class Initial(Generic[Net]):
    """A stage's first weights, and where they came from: hub:<repo>@<commit>, path:<directory>,
    published:<run>@<digest> or scratch:<size>."""

    model: Net
    origin: str


def load_net(kind: Kind[Net, Config], directory: Path) -> Net:
    """The net in a directory, in eval mode.

    Raises InputMissing when a file is absent or damaged, ConfigError when it does not hold a net of this kind.
    """
    config = _read_config(directory, kind)
    with _Uninitialised():
        model = kind.net(config)
    return _fill(model, directory)


def save_weights(model: KronosTokenizer | KronosPredictor, directory: Path) -> None:
    """Write a directory that upstream's `from_pretrained` loads. Raises OSError.

    Not atomic: the caller writes aside and renames.
    """
    directory.mkdir(parents=True, exist_ok=True)
    write_tensors(directory / WEIGHTS, {name: _plain(tensor) for name, tensor in model.state_dict().items()})
    (directory / CONFIG).write_text(json.dumps(asdict(model.config), indent=2, sort_keys=True))
    (directory / "README.md").write_text(_model_card(model))


def scratch_net(kind: Kind[Net, Config], size: str, seed: int) -> Net:
    """A randomly initialised net, the same for equal seeds whatever was drawn before."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return kind.net(kind.sizes[size])


def initial_net(kind: Kind[Net, Config], init: Init, seed: int, published: Published = None) -> Initial[Net]:
    """First weights of the stage that trains a net; `published` finds what `init.published` stands for.

    Raises as `load_net`, and BadEnvironment when a download fails.
    """
    if init.scratch is not None:
        return Initial(scratch_net(kind, init.scratch.size, seed), f"scratch:{init.scratch.size}")
    directory, origin = _locate(init, published)
    return Initial(load_net(kind, directory), origin)


def _locate(init: Init, published: Published) -> tuple[Path, str]:
    if init.published:
        assert published is not None
        return published()
    if init.hub is not None:
        snapshot = download(init.hub)
        return snapshot.directory, f"hub:{init.hub.repo}@{snapshot.commit}"
    assert init.path is not None  # the contract has checked that exactly one is given
    return Path(init.path), f"path:{init.path}"


def _read_config(directory: Path, kind: Kind[Net, Config]) -> Config:
    """The configuration of a kind. Keys it does not know are ignored, as upstream does."""
    path = present(directory, CONFIG)
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise InputMissing(f"{path}: damaged, not JSON ({error}); copy the weights again") from None
    wanted = fields(kind.config)
    missing = [field.name for field in wanted if not isinstance(found, dict) or field.name not in found]
    if missing:
        raise ConfigError(
            f"{path}: not a Kronos {kind.name}: lacks {', '.join(missing)}; tokenizer and predictor are separate "
            "directories, check that they are not swapped"
        )
    for field in wanted:
        value, types = found[field.name], _JSON_TYPES[str(field.type)]
        if not isinstance(value, types) or isinstance(value, bool) != (bool in types):
            raise ConfigError(f"{path}: {field.name} must be of type {field.type}, not {json.dumps(value)}")
    try:
        return kind.config(**{field.name: found[field.name] for field in wanted})
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


def _fill(model: Net, directory: Path) -> Net:
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
    name = (TOKENIZER if isinstance(model, KronosTokenizer) else PREDICTOR).upstream
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return (
        "---\nlibrary_name: kronos\ntags:\n- kronos\n- time-series\n---\n\n"
        f"# {name}\n\n"
        f"Weights of a `{name}` with {parameters:,} parameters, trained by kronos-operator.\n\n"
        f"Upstream Kronos loads this directory: `{name}.from_pretrained(path)`.\n"
    )
