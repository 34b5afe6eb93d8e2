"""What a training needs of this machine, one check each: found, what is wrong, and the command that mends it.

Used by `kronos doctor` and `kronos quickstart`.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kronos_operator.cli.children import TRAINER_INSTALL, ask

GIB = 2**30
DISK_LOW = 10 * GIB
DISK_NEEDED = GIB
IMPORT_SECONDS = 120.0  # a cold import of torch from a slow disk
HUB_SECONDS = 30.0

_TORCH = """
import json, torch
cuda = torch.cuda.is_available()
print(json.dumps({
    "version": torch.__version__,
    "cuda": torch.version.cuda,
    "available": cuda,
    "nccl": ".".join(map(str, torch.cuda.nccl.version())) if cuda and torch.distributed.is_nccl_available() else None,
}))
"""

_HUB = """
import json, sys
from huggingface_hub import HfApi, try_to_load_from_cache
repo, revision = sys.argv[1], sys.argv[2] or None
if isinstance(try_to_load_from_cache(repo, "model.safetensors", revision=revision), str):
    answer = {"where": "in the local cache"}
else:
    try:
        answer = {"where": "on the hub, commit " + HfApi().model_info(repo, revision=revision, timeout=5).sha[:12]}
    except Exception as error:
        answer = {"error": type(error).__name__ + ": " + (str(error).strip().splitlines() or [""])[0]}
print(json.dumps(answer))
"""


@dataclass(frozen=True, kw_only=True)
class Check:
    """The outcome of one check. `mend` is a command or a short advice."""

    name: str
    state: Literal["ok", "warn", "fail"]
    found: str
    mend: str | None = None


@dataclass(frozen=True)
class HubWeights:
    """Weights that a model starts from; `required` when no other start was declared."""

    repo: str
    revision: str | None
    required: bool


def check_python() -> Check:
    """The interpreter that will also run the trainer."""
    version = ".".join(map(str, sys.version_info[:3]))
    return Check(name="python", state="ok", found=f"{version} ({sys.executable})")


def check_libraries() -> Check:
    """The rest of the trainer extra, looked up without importing it."""
    missing = [
        name for name in ("numpy", "pandas", "pyarrow", "safetensors", "huggingface_hub") if not _installed(name)
    ]
    if missing:
        return Check(name="libraries", state="fail", found=f"{', '.join(missing)} not installed", mend=TRAINER_INSTALL)
    return Check(name="libraries", state="ok", found="the trainer extra is installed")


def check_compute() -> list[Check]:
    """torch, the GPUs with their memory, and NCCL between them."""
    gpus = _gpus()
    if not _installed("torch"):
        return [
            Check(name="torch", state="fail", found="not installed", mend=TRAINER_INSTALL),
            *_gpu_checks(gpus, None),
        ]
    torch = ask(_TORCH, seconds=IMPORT_SECONDS)
    if "error" in torch:
        mend = f"{TRAINER_INSTALL} --force-reinstall"
        return [Check(name="torch", state="fail", found=torch["error"], mend=mend), *_gpu_checks(gpus, None)]
    build = f"CUDA {torch['cuda']}" if torch["cuda"] else "CPU build"
    return [Check(name="torch", state="ok", found=f"{torch['version']} ({build})"), *_gpu_checks(gpus, torch)]


def _gpu_checks(gpus: Sequence[str], torch: Mapping[str, Any] | None) -> list[Check]:
    if not gpus:
        mend = "the tiny size trains on a CPU in minutes: kronos init --size tiny"
        return [Check(name="gpu", state="warn", found="none found by nvidia-smi; training runs on the CPU", mend=mend)]
    checks = [Check(name=f"gpu {index}", state="ok", found=text) for index, text in enumerate(gpus)]
    if torch is None:
        return checks
    if not torch["available"]:
        built = (
            "was built without CUDA" if not torch["cuda"] else f"(CUDA {torch['cuda']}) cannot use the installed driver"
        )
        mend = "pip install --force-reinstall torch, in a build for this driver's CUDA version (nvidia-smi shows it)"
        checks.append(Check(name="cuda", state="fail", found=f"torch {built}", mend=mend))
    elif torch["nccl"] is None:
        mend = "pip install --force-reinstall torch, in a Linux build with NCCL"
        checks.append(Check(name="nccl", state="warn" if len(gpus) == 1 else "fail", found="torch has none", mend=mend))
    else:
        checks.append(Check(name="nccl", state="ok", found=torch["nccl"]))
    return checks


def check_output(output: Path) -> list[Check]:
    """Room and permission where checkpoints and results go."""
    place = _existing(output)
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        mend = f"sudo chown $USER {place}, or export KRONOS_OUTPUT_PATH=DIR"
        return [Check(name="output", state="fail", found=f"{place}: {error.strerror}", mend=mend)]
    free = shutil.disk_usage(place).free
    found = f"{free / GIB:.1f} GiB free for {output}"
    mend = "free some space, or export KRONOS_OUTPUT_PATH=DIR on a larger disk"
    checks = [Check(name="output", state="ok", found=f"{output} is writable")]
    if free < DISK_NEEDED:
        return [*checks, Check(name="disk", state="fail", found=found, mend=mend)]
    if free < DISK_LOW:
        return [*checks, Check(name="disk", state="warn", found=found, mend=mend)]
    return [*checks, Check(name="disk", state="ok", found=found)]


def check_data(path: Path, *, required: bool) -> Check:
    """Whether bars can be read at a path."""
    from kronos_trainer.config import bar_files_below

    mend = "kronos data sample writes real bars to try with; KRONOS_DATA_PATH names another directory"
    if not path.exists():
        return Check(name="data", state="fail" if required else "warn", found=f"{path} does not exist", mend=mend)
    try:
        if path.is_dir():
            entries = len(bar_files_below(path))
            if not entries:
                return Check(
                    name="data",
                    state="fail" if required else "warn",
                    found=f"{path} holds no file of bars",
                    mend=mend,
                )
            return Check(name="data", state="ok", found=f"{path}: {entries} file{'s' if entries > 1 else ''}")
        with path.open("rb"):
            return Check(name="data", state="ok", found=str(path))
    except OSError as error:
        return Check(name="data", state="fail", found=f"{path}: {error.strerror}", mend=f"chmod -R u+rX {path}")


def check_weights(weights: HubWeights) -> Check:
    """Whether pretrained weights are cached or can be downloaded."""
    answer = (
        ask(_HUB, weights.repo, weights.revision or "", seconds=HUB_SECONDS)
        if _installed("huggingface_hub")
        else {"error": "huggingface_hub is not installed"}
    )
    if "error" not in answer:
        return Check(name="weights", state="ok", found=f"{weights.repo}: {answer['where']}")
    mend = (
        f"download once with a connection: hf download {weights.repo}; or name local weights (init.path), "
        "or start from random ones (init.scratch)"
    )
    state: Literal["warn", "fail"] = "fail" if weights.required else "warn"
    return Check(name="weights", state=state, found=f"{weights.repo}: {answer['error']}", mend=mend)


def check_weight_directory(path: Path) -> Check:
    """Whether local weights are whole."""
    missing = [name for name in ("config.json", "model.safetensors") if not (path / name).is_file()]
    if missing:
        mend = "name a directory that a finished stage (best/) or a download from the hub left"
        return Check(name="weights", state="fail", found=f"{path} lacks {' and '.join(missing)}", mend=mend)
    return Check(name="weights", state="ok", found=str(path))


def check_comet(environ: Mapping[str, str], *, wanted: bool) -> Check:
    """Whether metrics can be reported to Comet; training goes on without."""
    key, installed = "COMET_API_KEY" in environ, _installed("comet_ml")
    if not wanted:
        return Check(name="comet", state="ok", found="ready" if key and installed else "not used")
    if not installed:
        return Check(
            name="comet", state="warn", found="comet_ml is not installed", mend="pip install 'kronos-operator[comet]'"
        )
    if not key:
        return Check(name="comet", state="warn", found="COMET_API_KEY is not set", mend="export COMET_API_KEY=...")
    return Check(name="comet", state="ok", found="ready")


def _gpus() -> list[str]:
    """One text per NVIDIA GPU: name, free and total memory, driver."""
    query = ["nvidia-smi", "--query-gpu=name,memory.free,memory.total,driver_version", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    gpus = []
    for line in done.stdout.splitlines():
        name, free, total, driver = (cell.strip() for cell in line.split(","))
        gpus.append(f"{name}, {_mebibytes(free)} free of {_mebibytes(total)}, driver {driver}")
    return gpus


def _mebibytes(text: str) -> str:
    return f"{int(text) / 1024:.0f} GiB" if text.isdigit() else text


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _existing(path: Path) -> Path:
    """The path itself or its nearest parent that exists."""
    absolute = path.absolute()
    return next(place for place in (absolute, *absolute.parents) if place.exists())
