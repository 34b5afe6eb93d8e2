"""What a local run of a model would do, decided before anything starts. Shown by `kronos plan`, done by `execute`."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from kronos_operator.api import KronosModel, Outcome, Run
from kronos_operator.hashing import Digests
from kronos_operator.local.bars_record import BarsRecord
from kronos_operator.local.digests import digests_of
from kronos_operator.local.files import ModelFiles, read_model, write_run
from kronos_operator.local.reasons import why_again, why_new
from kronos_operator.local.refusals import refusals, weights_path
from kronos_operator.local.settings import LocalError, LocalSettings
from kronos_operator.local.warm_start import warm_start, with_start
from kronos_operator.plan import Request, StageAction, StartAttempt, begin, preview
from kronos_trainer.config import ExitCode, RunConfig, RunPaths, StageName, WarmStart

if TYPE_CHECKING:
    from kronos_operator.loading import Loaded

TRAINER = (sys.executable, "-m", "kronos_trainer")


@dataclass(frozen=True, kw_only=True)
class PlannedStage:
    """What becomes of one stage, and why."""

    stage: StageName
    action: str  # train · score · reuse <run> · complete · skipped
    reason: str

    @property
    def due(self) -> bool:
        """Whether a run would do it."""
        return self.action in (StageAction.TRAIN, StageAction.SCORE)


@dataclass(frozen=True, kw_only=True)
class LocalRun:
    """A model with everything that running it here needs."""

    model: KronosModel
    root: Path
    bars: str
    digests: Digests
    bars_record: BarsRecord | None  # what the bars' digest was taken of
    warm_start: WarmStart | None  # what init.published stands for
    begun: Run  # as it begins
    stages: tuple[PlannedStage, ...] = ()
    notes: tuple[str, ...]
    files: ModelFiles  # as they were when this was decided

    @property
    def key(self) -> str:
        """Name of the model, with its namespace unless that is the default one."""
        return self.model.ref.key

    @property
    def run(self) -> str:
        """Run id."""
        return self.begun.id

    @property
    def stored(self) -> KronosModel:
        """The model as it is kept for a later command, wherever that is started: its bars by their full path.

        Where a revision is given it stays as it was written, for then the path has a part in the hashes.
        """
        spec = self.model.spec
        if self.digests.bars is None or spec.data.source.path is None:
            return self.model
        source = spec.data.source.model_copy(update={"path": self.bars})
        data = spec.data.model_copy(update={"source": source})
        return self.model.model_copy(update={"spec": spec.model_copy(update={"data": data})})

    @property
    def stage_hashes(self) -> Mapping[StageName, str]:
        """Hash of every stage."""
        return self.begun.stage_hashes

    @property
    def paths(self) -> RunPaths:
        """Where the run's files lie."""
        return RunPaths(self.root, self.model.ref, self.run)

    @property
    def run_configs(self) -> dict[StageName, RunConfig]:
        """run.json of each stage that is asked for, as its next attempt would get it."""
        run = self.begun
        return {
            stage.stage: self.run_config(
                StartAttempt(
                    run=run.id,
                    stage=stage.stage,
                    attempt=run.attempt + position,
                    stage_hashes=run.stage_hashes,
                    out_of_memory_restarts=run.restarts.out_of_memory if position == 0 else 0,
                    publish=stage.publish,
                    reuse=run.reuse,
                )
            )
            for position, stage in enumerate(stage for stage in run.stages if stage.wanted)
        }

    def must_be_as_prepared(self) -> None:
        """Raises LocalError (74) if another command has run the model since this was decided."""
        if read_model(self.root, self.model.ref) != self.files:
            raise LocalError(ExitCode.STORAGE, "was run by another command meanwhile; run this one again to go on")

    def run_config(self, start: StartAttempt) -> RunConfig:
        """run.json of one attempt."""
        config = start.run_config(self.model, bars=self.bars, output=str(self.root))
        return config.model_copy(update={"warm_start": self.warm_start})


def prepare(loaded: Loaded, settings: LocalSettings) -> LocalRun:
    """What running the model here would do. Raises LocalError where it cannot be run."""
    for refusal in refusals(loaded, settings):
        raise LocalError(refusal.exit_code, f"{loaded.file}: {refusal}")
    model, notes = _for_this_machine(loaded)
    root = settings.root(model.spec)
    digests, bars_record = digests_of(loaded, settings)
    files = read_model(root, model.ref)
    start = warm_start(model, digests, files, anew=settings.force)
    digests = with_start(digests, model.spec, start)
    trigger = datetime.now(UTC).isoformat(timespec="milliseconds") if settings.force else ""
    request = Request(
        spec=model.spec,
        digests=digests,
        trigger=trigger,
        stages=settings.stages,
        # What did not fit into memory last time will not fit this time.
        out_of_memory={(run.run, run.stage): run.out_of_memory_restarts for run in files.started},
    )
    begun = begin(request, _latest(files, request), files.trained, files.published, time.time())
    if begun.outcome is Outcome.FAILED:
        missing = next(stage.stage for stage in begun.stages if not stage.done)
        raise LocalError(
            ExitCode.INPUT_MISSING,
            f"{begun.message}: train it with `kronos run -f {loaded.file} --stage {missing}`, or run without --stage, "
            f"or set {missing.path_variable} to a trained one and {missing}.epochs to 0",
        )
    ready = LocalRun(
        model=model,
        root=root,
        bars=settings.bars(loaded),
        digests=digests,
        bars_record=bars_record,
        warm_start=start,
        begun=begun,
        notes=notes,
        files=files,
    )
    return replace(ready, stages=_planned(ready))


def write_run_configs(run: LocalRun, directory: Path) -> list[Path]:
    """Writes `<stage>.json` for each stage that is asked for, and returns the files."""
    written = []
    for stage, config in run.run_configs.items():
        written.append(directory / f"{stage}.json")
        write_run(config, written[-1])
    return written


def _for_this_machine(loaded: Loaded) -> tuple[KronosModel, tuple[str, ...]]:
    """The model with paths that hold from any directory, without what only a cluster can do, and what was changed."""
    model = loaded.model
    spec, notes = model.spec, []
    changes: dict[str, object] = {}
    if spec.suspend:
        changes["suspend"] = False
        notes.append("spec.suspend is ignored: a local run begins when it is started")
    if spec.resources.nodes > 1:
        notes.append(f"resources.nodes {spec.resources.nodes} counts as 1 on this machine")
    if spec.storage is not None and spec.storage.uri is not None:
        notes.append(f"storage.uri {spec.storage.uri} is not used by a local run")
    for stage, config in spec.weights_stages().items():
        weights = weights_path(loaded, stage)
        if weights is not None:
            init = config.init.model_copy(update={"path": str(weights)})
            changes[stage.value] = config.model_copy(update={"init": init})
    return model.model_copy(update={"spec": spec.model_copy(update=changes)}), tuple(notes)


def _latest(files: ModelFiles, request: Request) -> Run | None:
    """The run to go on with: the newest that was started with the same hashes; without one, only the attempt counts."""
    same = [run for run in files.started if run.stage_hashes == request.stage_hashes]
    if not files.started:
        return None
    run = same[0] if same else files.started[0]
    held = files.held.get(run.run)
    stages = () if held is None else (held,)
    return Run(id=run.run, stage_hashes=run.stage_hashes, attempt=files.next_attempt, stages=stages)


def _planned(run: LocalRun) -> tuple[PlannedStage, ...]:
    stages: list[PlannedStage] = []
    for one in preview(run.begun, run.files.trained):
        reason = one.reason
        if one.action in (StageAction.TRAIN, StageAction.SCORE):
            reason = _why(one.stage, run, [stage.stage for stage in stages if stage.action == StageAction.TRAIN])
        action = f"{one.action} {one.run}" if one.action is StageAction.REUSE else one.action.value
        stages.append(PlannedStage(stage=one.stage, action=action, reason=reason))
    return tuple(stages)


def _why(stage: StageName, run: LocalRun, retrained: list[StageName]) -> str:
    config = run.run_configs[stage]
    again = why_again(config, run.files)
    if again is not None:
        return again
    if run.begun.trigger:
        return "asked for with --force"
    return why_new(config, run.files, run.bars_record, retrained=retrained)
