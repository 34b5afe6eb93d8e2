"""What a stage leaves for others: weights or scores and result.json; with the last stage also a pointer and the report.

The pointer is current.json, or candidate.json where the promotion gate has held the run. Called by rank 0 around the
training loop. Every function may be repeated after an interruption: what is complete is left alone, and each file is
written only once all that it speaks of is in place: result.json, then the pointer, then the report.
"""

from __future__ import annotations

import platform
import shutil
from enum import Enum
from importlib.metadata import version
from pathlib import Path

from kronos_trainer import report
from kronos_trainer.config import By, Decision, Reuse, RunConfig, RunPaths, StageName, StageResult
from kronos_trainer.errors import InputMissing
from kronos_trainer.model.directory import weights_digest
from kronos_trainer.model.predictor import KronosPredictor
from kronos_trainer.model.tokenizer import KronosTokenizer
from kronos_trainer.model.weights import initial_net, save_weights
from kronos_trainer.storage import durable, pointers
from kronos_trainer.storage.checkpoint import Checkpoints
from kronos_trainer.storage.lineage import pretrained_until
from kronos_trainer.storage.warm_start import published_weights
from kronos_trainer.training.stages import kind_of


def is_complete(run: RunConfig, paths: RunPaths) -> bool:
    """Whether nothing is left to do: the stage is there with the same hash and, if it is the last, its run is decided.

    Decided: it is published, or held, or somebody has set the pointer by hand since; and the run has its report.
    """
    result = _result(run, paths, run.stage)
    if result is None:
        return False
    return not run.publish or (_step(run, paths, result) is _Step.NONE and paths.report.is_file())


def settle(run: RunConfig, paths: RunPaths) -> StageResult | None:
    """The result of a stage that has nothing to do, published if the run says so; None if it has.

    That is a stage that was complete already, or one without epochs, whose initial weights are exported. A run that
    was judged beside one that is no longer published has to be judged again.
    """
    there = _result(run, paths, run.stage)
    if there is None and run.runs(run.stage):
        return None
    if there is not None and run.publish and _step(run, paths, there) is _Step.JUDGE:
        return None
    result = _materialise(run, paths, run.stage)
    if run.publish:
        _finish(run, paths, result, _step(run, paths, result))
    return result


def ensure_weights(run: RunConfig, paths: RunPaths, stage: StageName) -> Path:
    """Directory of the weights of a stage that this run's stage reads, inside the run's own directory.

    They are the run's own, or copied from the run that trained them, or the initial weights where that stage has no
    epochs. Raises InputMissing where there are none.
    """
    _materialise(run, paths, stage)
    return paths.stage(stage).best


def finish_stage(
    run: RunConfig, paths: RunPaths, trained: StageResult, model: KronosTokenizer | KronosPredictor
) -> StageResult:
    """Exports the best checkpoint and returns the stage's result as it was written; publishes if the run says so.

    `trained` is what the training knows of the result: whose it is and what is known of the weights is filled in here.
    `model` is the bare module of the stage; it holds the best weights afterwards.
    """
    weights, _ = Checkpoints(paths.stage(run.stage)).best_weights()
    model.load_state_dict(weights)
    _forget_report(run, paths)
    written = _export(run, paths, run.stage, model, trained)
    if run.publish:
        _finish(run, paths, written, _Step.MOVE)
    return written


def finish_scores(run: RunConfig, paths: RunPaths, scored: StageResult) -> StageResult:
    """Writes the result of a stage that produces scores and returns it; with the last stage, carries out its decision.

    `scored` is what the stage knows of the result, and what the gate has decided: whose it is is filled in here.
    """
    _forget_report(run, paths)
    written = _written(run, paths, run.stage, scored)
    if run.publish:
        _finish(run, paths, written, _Step.MOVE)
    return written


def _forget_report(run: RunConfig, paths: RunPaths) -> None:
    """Removes the report of an earlier result: after a crash before the next one is written it would stay for good."""
    if run.publish:
        with durable.storing(paths.report):
            paths.report.unlink(missing_ok=True)


class _Step(Enum):
    """What is left to do for a run whose last stage is complete."""

    NONE = "nothing"
    MOVE = "move the pointer as was decided"
    JUDGE = "judge it again: another run is published than the one that it was compared with"


def _step(run: RunConfig, paths: RunPaths, result: StageResult) -> _Step:
    current, promotion = pointers.current(paths), result.promotion
    published = "" if current is None else current.run
    if current is not None and published == run.run:
        hashes = {stage: (current.wire.get(stage) or {}).get("hash") for stage in run.stages}
        return _Step.NONE if hashes == run.stage_hashes else _Step.MOVE
    if current is not None and result.hash in current.overrules.get(run.run, ()):
        return _Step.NONE  # set by hand after the decision, and stays until a run is judged anew
    if promotion is None:
        return _Step.MOVE
    if promotion.published != published:
        return _Step.JUDGE
    if promotion.decision != Decision.HELD:
        return _Step.MOVE
    held = pointers.candidate(paths)
    done = held is not None and held.run == run.run and held.is_open(current)
    return _Step.NONE if done else _Step.MOVE


def _finish(run: RunConfig, paths: RunPaths, result: StageResult, step: _Step) -> None:
    """Moves the pointer, if that is left to do, and writes the report."""
    if step is _Step.NONE and paths.report.is_file():
        return
    results = {stage: _materialise(run, paths, stage) for stage in run.stages}
    promotion = result.promotion
    if step is _Step.MOVE and promotion is not None and promotion.decision == Decision.HELD:
        pointers.hold(paths, run.run, published=promotion.published, message=promotion.message)
    elif step is _Step.MOVE:
        by = By.TRAINING if promotion is None else By.GATE
        pointers.publish(paths, pointers.document(paths, run, results), by)
    report.write(run, paths)


def _result(run: RunConfig, paths: RunPaths, stage: StageName) -> StageResult | None:
    """The stage's result if it is complete with this run's hash."""
    return paths.stage(stage).completed(run.stage_hashes[stage])


def _materialise(run: RunConfig, paths: RunPaths, stage: StageName) -> StageResult:
    """Makes sure that the stage's weights and result lie in this run's directory, and returns the result."""
    result = _result(run, paths, stage)
    if result is not None:
        if stage.has_weights:
            pointers.verify(paths.stage(stage), result)
        return result
    reuse = run.reuse_of(stage)
    if reuse is not None:
        return _copied(run, paths, stage, reuse)
    if stage.has_weights and not run.runs(stage):
        return _initial(run, paths, stage)
    unchanged = (
        f", or use one unchanged: set {stage.path_variable} to its directory (or {stage}.init) and {stage}.epochs to 0"
    )
    raise InputMissing(
        f"the {run.stage} requires a trained {stage}, and {paths.stage(stage).result} is missing: train it with "
        f"`kronos run -f FILE --stage {stage}`{unchanged if stage.has_weights else ''}"
    )


def _copied(run: RunConfig, paths: RunPaths, stage: StageName, reuse: Reuse) -> StageResult:
    source = RunPaths(paths.root, run.model, reuse.run).stage(stage)
    result = source.completed(reuse.hash)
    if result is None:
        raise InputMissing(
            f"the {stage} of run {reuse.run} (hash {reuse.hash}) is to be reused, but {source.result} is not its "
            f"result; train it again with `kronos run -f FILE --stage {stage}`"
        )
    pointers.verify(source, result)
    target = paths.stage(stage)
    durable.write_directory(target.best, lambda aside: _copy(source.best, aside))
    durable.write_text(target.result, result.dump())
    return result


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target, dirs_exist_ok=True)


def _initial(run: RunConfig, paths: RunPaths, stage: StageName) -> StageResult:
    """Exports the initial weights of a stage without epochs as its result."""

    def published() -> tuple[Path, str]:
        return published_weights(run, paths, stage)

    first = initial_net(kind_of(stage), run.weights_stages()[stage].init, run.training.seed, published)
    model: KronosTokenizer | KronosPredictor = first.model
    parameters = sum(parameter.numel() for parameter in model.parameters())
    untrained = StageResult(
        epochs=0,
        steps=0,
        parameters=parameters,
        origin=first.origin,
        pretrained_until=pretrained_until(run, paths, stage),
    )
    return _export(run, paths, stage, model, untrained)


def _export(
    run: RunConfig,
    paths: RunPaths,
    stage: StageName,
    model: KronosTokenizer | KronosPredictor,
    trained: StageResult,
) -> StageResult:
    best = paths.stage(stage).best
    durable.write_directory(best, lambda aside: save_weights(model, aside))
    weights = {"digest": weights_digest(best), "bytes": sum(path.stat().st_size for path in best.iterdir())}
    return _written(run, paths, stage, trained.model_copy(update=weights))


def _written(run: RunConfig, paths: RunPaths, stage: StageName, known: StageResult) -> StageResult:
    """Writes result.json, with which the stage is complete, and returns it."""
    result = known.model_copy(
        update={
            "stage": stage.value,
            "hash": run.stage_hashes[stage],
            "run": run.run,
            "attempt": run.attempt,
            "model": run.model.model_dump(),
            "software": {
                "python": platform.python_version(),
                **{name: version(name) for name in ("torch", "kronos-operator")},
            },
        }
    )
    durable.write_text(paths.stage(stage).result, result.dump())
    return result
