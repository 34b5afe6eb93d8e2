"""What a training needs from this machine, one check each: what was found, what is wrong, and the fix.

Used by `kronos doctor` and `kronos quickstart`.
"""

from __future__ import annotations

import errno
import importlib.util
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kronos_operator.cli.children import TRAINER_INSTALL, ask

if TYPE_CHECKING:
    from kronos_operator.loading import Loaded
    from kronos_operator.local import LocalSettings

GIB = 2**30
DISK_LOW = 10 * GIB
DISK_NEEDED = GIB
IMPORT_SECONDS = 120.0  # a cold import of torch from a slow disk
HUB_SECONDS = 20.0  # for all of a hub that is slow: looking it up, connecting, answering

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
files = ("config.json", "model.safetensors")
if all(isinstance(try_to_load_from_cache(repo, file, revision=revision), str) for file in files):
    answer = {"where": "in the local cache"}
else:
    try:
        answer = {"where": "on the hub, commit " + HfApi().model_info(repo, revision=revision, timeout=5).sha[:12]}
    except Exception as error:
        kind = type(error).__name__
        answer = {"kind": kind, "error": kind + ": " + (str(error).strip().splitlines() or [""])[0]}
print(json.dumps(answer))
"""


@dataclass(frozen=True, kw_only=True)
class Check:
    """The outcome of one check. `mend` is the fix: a command or short advice."""

    name: str
    state: Literal["ok", "warn", "fail"]
    found: str
    mend: str | None = None


@dataclass(frozen=True)
class HubWeights:
    """A repository that a model starts from."""

    repo: str
    revision: str | None


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
        mend = "tiny models train on a CPU in minutes: kronos init --size tiny"
        return [Check(name="gpu", state="warn", found="none found by nvidia-smi; training runs on the CPU", mend=mend)]
    checks = [Check(name=f"gpu {index}", state="ok", found=text) for index, text in enumerate(gpus)]
    if torch is None:
        return checks
    if not torch["available"]:
        built = (
            "was built without CUDA" if not torch["cuda"] else f"(CUDA {torch['cuda']}) cannot use the installed driver"
        )
        mend = "pip install --force-reinstall torch, as a build for this driver's CUDA version (see nvidia-smi)"
        checks.append(Check(name="cuda", state="fail", found=f"torch {built}", mend=mend))
    elif torch["nccl"] is None:
        mend = "pip install --force-reinstall torch, as a Linux build with NCCL"
        checks.append(
            Check(
                name="nccl", state="warn" if len(gpus) == 1 else "fail", found="torch was built without it", mend=mend
            )
        )
    else:
        checks.append(Check(name="nccl", state="ok", found=torch["nccl"]))
    return checks


def check_output(output: Path) -> list[Check]:
    """Free space and write permission for checkpoints and results."""
    place = _existing(output)
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        other = "export KRONOS_OUTPUT_PATH=DIR to write elsewhere"
        owner = f"sudo chown $USER {shlex.quote(str(place))}, or " if error.errno == errno.EACCES else ""
        mend = owner + other
        return [Check(name="output", state="fail", found=f"{place}: {error.strerror}", mend=mend)]
    free = shutil.disk_usage(place).free
    found = f"{free / GIB:.1f} GiB free for {output}"
    mend = "free disk space, or export KRONOS_OUTPUT_PATH=DIR on a larger disk"
    checks = [Check(name="output", state="ok", found=f"{output} is writable")]
    if free < DISK_NEEDED:
        return [*checks, Check(name="disk", state="fail", found=found, mend=mend)]
    if free < DISK_LOW:
        return [*checks, Check(name="disk", state="warn", found=found, mend=mend)]
    return [*checks, Check(name="disk", state="ok", found=found)]


def check_data(root: Path) -> Check:
    """Whether the default directory has bars."""
    from kronos_operator.local import bars_fault

    fault = bars_fault(root)
    if not fault:
        return Check(name="data", state="ok", found=f"bars in {root}")
    mend = (
        f"kronos data sample --out {shlex.quote(str(root))} writes sample bars; KRONOS_DATA_PATH sets another "
        "directory, and kronos doctor -f FILE checks the bars of a model"
    )
    return Check(name="data", state="fail", found=f"no bars: {root} {fault}", mend=mend)


def check_inputs(loaded: Loaded, settings: LocalSettings) -> Iterator[Check]:
    """Whether a model's bars, and weights given by path, are on this machine."""
    from kronos_operator.local import refusals, weights_path
    from kronos_trainer.config import StageName

    source = loaded.model.spec.data.source
    missing = {refusal.field.split(".")[0]: refusal for refusal in refusals(loaded, settings)}
    for part, name, place in (
        ("data", "data", None if source.uri is not None else settings.bars(loaded)),
        *((stage, "weights", weights_path(loaded, stage)) for stage in StageName),
    ):
        if part in missing:
            none = f"no {'bars' if name == 'data' else name}"
            yield Check(name=name, state="fail", found=f"{none}: {missing[part].fault}", mend=missing[part].way_out)
        elif place is not None:
            yield Check(name=name, state="ok", found=str(place))


def check_weights(weights: HubWeights) -> Check:
    """Whether pretrained weights are cached or can be downloaded."""
    called = f"{weights.repo}{f' at {weights.revision}' if weights.revision else ''}"
    answer = (
        ask(_HUB, weights.repo, weights.revision or "", seconds=HUB_SECONDS)
        if _installed("huggingface_hub")
        else {"error": "huggingface_hub is not installed"}
    )
    if "error" not in answer:
        return Check(name="weights", state="ok", found=f"{called}: {answer['where']}")
    revision = f" --revision {weights.revision}" if weights.revision else ""
    mend = {
        "RepositoryNotFoundError": "correct init.hub.repo, or set HF_TOKEN if the repository is private",
        "RevisionNotFoundError": "correct init.hub.revision: the repository has no such commit, tag or branch",
    }.get(
        answer.get("kind", ""),
        f"run once while online: hf download {weights.repo}{revision} (HF_ENDPOINT=URL sets a mirror of the hub, "
        "HF_HOME a copied cache); offline, try tiny random weights: kronos quickstart --tiny",
    )
    return Check(name="weights", state="fail", found=f"no weights: {called}: {answer['error']}", mend=mend)


def check_comet(environ: Mapping[str, str], *, wanted: bool) -> Check:
    """Whether metrics can be reported to Comet; training does not need it."""
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
