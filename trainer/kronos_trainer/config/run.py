"""One stage of one run: what the trainer is handed, how it ends, and where its files lie."""

from __future__ import annotations

import json
import pathlib
from enum import IntEnum, StrEnum

from pydantic import AwareDatetime, Field, ValidationError

from kronos_trainer.config.result import StageResult
from kronos_trainer.config.spec import (
    CheckpointPolicy,
    Comet,
    Contract,
    Data,
    Name,
    PathText,
    ProgressPolicy,
    Promotion,
    Timeframe,
    Training,
    WeightsStage,
    Window,
)
from kronos_trainer.config.staged import Staged, stage_fields
from kronos_trainer.stages import StageName

# Raised by hand when the same config no longer yields the same numbers; it enters every stage hash.
NUMERICS_VERSION = 2


class ExitCode(IntEnum):
    """How the trainer ends (sysexits where one fits)."""

    DONE = 0
    CRASHED = 1
    CONFIG = 64
    DATA = 65
    INPUT_MISSING = 66
    DIVERGED = 70
    OUT_OF_MEMORY = 71  # of the GPU
    MEMORY_LIMIT = 72  # main memory: the kernel killed a rank
    STORAGE = 74
    STOPPED = 75
    ENVIRONMENT = 78


class StopCause(StrEnum):
    """Field `cause` of the error line: the reasons to end with STOPPED."""

    STOPPED = "Stopped"
    NODES_DID_NOT_MEET = "NodesDidNotMeet"


FINAL_CODES = frozenset(
    {ExitCode.CONFIG, ExitCode.DATA, ExitCode.INPUT_MISSING, ExitCode.DIVERGED, ExitCode.ENVIRONMENT}
)

# A gang has one cause: the first of these that any rank ended with.
CAUSE_ORDER = (64, 65, 66, 70, 78, 71, 72, 74, 75)


def gang_cause(codes: list[int]) -> int:
    """The one exit code of a gang whose ranks ended with these codes."""
    for code in CAUSE_ORDER:
        if code in codes:
            return code
    return next((code for code in codes if code != 0), 0)


class ModelRef(Contract):
    """Which KronosModel a run belongs to."""

    namespace: Name = Field("default", description="Namespace; 'default' without a cluster.")
    name: Name = Field(description="Name of the KronosModel.")

    @property
    def key(self) -> str:
        """Its name for people: with the namespace, unless that is the default one."""
        return self.name if self.namespace == "default" else f"{self.namespace}/{self.name}"


class Reuse(Contract):
    """A stage that an earlier run trained with the same hash."""

    run: Name = Field(description="Id of the run that trained it.")
    hash: str = Field(min_length=8, max_length=64, description="Its stage hash.")


class WarmStart(Contract):
    """The published run whose weights `init.published` stands for."""

    run: Name = Field(description="Id of that run.")
    digests: dict[StageName, str] = Field(description="SHA-256 of its weights, of each stage.")

    @classmethod
    def published(cls, current: str | bytes) -> WarmStart:
        """The run that the text of a current.json names. Raises ValueError, KeyError or TypeError for a damaged one."""
        document = json.loads(current)
        digests = {stage: document[stage]["digest"] for stage in StageName.with_weights()}
        return cls(run=document["run"], digests=digests)


class RunConfig(Staged):
    """run.json: one stage, complete; the trainer reads nothing else."""

    model: ModelRef = Field(description="Which model this is.")
    run: Name = Field(description="Run id: the same for all stages, and for a repeated identical run.")
    stage: StageName = Field(description="The stage to do.")
    stage_hashes: dict[StageName, str] = Field(description="Hash of each stage of the run.")
    model_created: AwareDatetime | None = Field(
        None, description="When the KronosModel was created; absent without a cluster. Its attempts are counted anew."
    )
    attempt: int = Field(0, ge=0, description="Rises with every start; a higher one fences off a lower one.")
    out_of_memory_restarts: int = Field(0, ge=0, description="How often the micro-batch is to be reduced.")
    publish: bool = Field(description="Whether this is the run's last stage, which publishes current.json.")
    stage_fields(
        vars(),
        "reuse_{}",
        lambda stage: (Reuse | None, Field(None, description=f"The {stage} to copy into this run; absent: its own.")),
        StageName.with_weights(),
    )
    warm_start: WarmStart | None = Field(
        None, description="What init.published stands for; absent: what is published when the stage begins."
    )

    timeframe: Timeframe = Field(description="Length of a bar.")
    data: Data = Field(description="The bars.")
    window: Window = Field(description="Window lengths, in bars.")
    stage_fields(
        vars(),
        "{}",
        lambda stage: (
            stage.field_type,
            Field(... if stage.config.by_default else None, description=f"The {stage} stage."),
        ),
    )
    training: Training = Field(description="What the stages share.")
    promotion: Promotion = Field(Promotion(), description="When the run replaces the published one.")
    checkpoint: CheckpointPolicy = Field(description="When state is saved.")
    progress: ProgressPolicy = Field(ProgressPolicy(), description="How often progress is reported.")
    comet: Comet | None = Field(None, description="Comet reporting.")

    bars: PathText = Field(description="File, directory or URI of the bars, as the trainer sees it.")
    output: PathText = Field(description="Root directory of all results, or a URI that they are mirrored to.")
    gpu_required: bool = Field(False, description="End with 78 instead of training on CPU.")
    grace_seconds: int = Field(120, ge=15, description="Seconds from SIGTERM to SIGKILL.")

    @property
    def stages(self) -> list[StageName]:
        """The stages of the run, in their order, also those that it takes over or leaves untrained."""
        return [stage for stage in StageName if stage in self.stage_hashes]

    @property
    def weights_stage(self) -> WeightsStage:
        """The config of the stage that is to be trained: one that produces weights."""
        return self.weights_stages()[self.stage]

    def reuse_of(self, stage: StageName) -> Reuse | None:
        """Where the weights of a stage are to be copied from; None for the run's own."""
        reuse: Reuse | None = getattr(self, f"reuse_{stage}", None)
        return reuse

    def paths(self, root: pathlib.Path | None = None) -> RunPaths:
        """Where this run's files lie, under `output` unless another root is given."""
        return RunPaths(root or pathlib.Path(self.output), self.model, self.run)

    def dump(self) -> str:
        """The text of run.json."""
        return self.model_dump_json(by_alias=True, exclude_none=True, indent=2) + "\n"


def load_run(path: pathlib.Path) -> RunConfig:
    """The run config in a file. Raises ValueError naming the file and each bad field."""
    try:
        return RunConfig.model_validate_json(path.read_text())
    except FileNotFoundError:
        raise ValueError(f"{path}: no such run config; `kronos plan --write DIR` writes one per stage") from None
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, item['loc'])) or 'file'}: {item['msg']}" for item in error.errors())
        raise ValueError(f"{path}: {problems}") from None


class RunPaths:
    """Every file name of a model's directory, once."""

    def __init__(self, root: pathlib.Path, model: ModelRef, run: str) -> None:
        self.root = root
        self.model_dir = root / "models" / model.namespace / model.name
        self.runs = self.model_dir / "runs"
        self.run_dir = self.runs / run
        self.current = self.model_dir / "current.json"
        self.lock = self.model_dir / "lock.json"  # who writes there, or did last
        self.flock = self.model_dir / "lock.flock"  # locked while somebody does
        self.report = self.run_dir / "report.html"
        self.facts = self.run_dir / "report.json"
        self.calibration = self.run_dir / "calibration.json"
        self.candidate = self.model_dir / "candidate.json"  # the newest run that was judged and held
        self.readings = self.model_dir / "readings.json"  # evaluations that have read a test span
        self.logs = root / "logs" / model.namespace / model.name
        # No name has an underscore, so no two models share a directory.
        tried = model.name if model.namespace == "default" else f"{model.namespace}_{model.name}"
        self.backtests = root / "backtest_results" / tried
        self.backtest = BacktestPaths(self.backtests / run)
        self.trials = self.backtests / "trials.json"  # strategies that were tried on the model's forecasts

    @staticmethod
    def model_of_backtests(directory: str) -> ModelRef:
        """The model whose `backtests` has this name. Raises ValueError where no model can have it."""
        namespace, _, name = directory.rpartition("_")
        return ModelRef(namespace=namespace or "default", name=name)

    def stage(self, name: StageName) -> StagePaths:
        """Files of one stage of this run."""
        return StagePaths(self.run_dir / name)

    def log(self, run: str, stage: StageName, attempt: int) -> pathlib.Path:
        """Combined output of one attempt."""
        return self.logs / f"{run}-{stage}-{attempt}.log"


class BacktestPaths:
    """Files of a backtest of a run."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.trades = directory / "trades.csv"  # each fill
        self.equity = directory / "equity.csv"  # each bar
        self.summary = directory / "summary.json"
        self.page = directory / "backtest.html"

    @property
    def files(self) -> tuple[pathlib.Path, ...]:
        """All of them, in the order in which they are written: the page is last."""
        return self.trades, self.equity, self.summary, self.page


class StagePaths:
    """Files of one stage."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.config = directory / "run.json"
        self.checkpoints = directory / "checkpoints"
        self.pointer = directory / "checkpoint.json"
        self.metrics = directory / "metrics.jsonl"
        self.best = directory / "best"
        self.evaluation = directory / "evaluation.json"  # of a stage that judges
        self.macro = directory / "macro.json"  # what surrounds its forecasts, of slow bars
        self.scores = directory / "scores.npz"  # what it has scored so far
        self.signals = directory / "signals.npz"  # what the model expected of each symbol at each date
        self.result = directory / "result.json"  # written last: its presence means that the stage is complete

    def completed(self, hash: str | None = None) -> StageResult | None:
        """The stage's result if it is complete, and with this stage hash if one is given; else None."""
        try:
            found = StageResult.load(self.result.read_text())
        except (FileNotFoundError, ValueError):
            return None
        return found if hash in (None, found.hash) else None
