"""What a stage leaves for others: weights or scores, result.json, and with the last stage its reports and current.json.

Called by rank 0 around the training loop. Every function may be repeated after an interruption: what is complete is
left alone, and each of result.json and current.json is written only once all that it speaks of is in place.
"""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from kronos_trainer import report
from kronos_trainer.config import Reuse, RunConfig, RunPaths, StageName, StagePaths, StageResult, now_text
from kronos_trainer.errors import InputMissing
from kronos_trainer.model.predictor import KronosPredictor
from kronos_trainer.model.tokenizer import KronosTokenizer
from kronos_trainer.model.weights import initial_net, save_weights, weights_digest
from kronos_trainer.storage import durable
from kronos_trainer.storage.checkpoint import Checkpoints
from kronos_trainer.storage.reading import Reading
from kronos_trainer.storage.warm_start import published_weights
from kronos_trainer.training.stages import kind_of


def is_complete(run: RunConfig, paths: RunPaths) -> bool:
    """Whether nothing is left to do: the stage is there with the same hash and, if it is to be, published."""
    return _result(run, paths, run.stage) is not None and (not run.publish or _is_published(run, paths))


def settle(run: RunConfig, paths: RunPaths) -> StageResult | None:
    """The result of a stage that has nothing to do, published if the run says so; None if it has.

    That is a stage that was complete already, or one without epochs, whose initial weights are exported.
    """
    if _result(run, paths, run.stage) is None and run.runs(run.stage):
        return None
    result = _materialise(run, paths, run.stage)
    if run.publish:
        publish(run, paths)
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
    written = _export(run, paths, run.stage, model, trained)
    if run.publish:
        publish(run, paths)
    return written


def finish_scores(run: RunConfig, paths: RunPaths, scored: StageResult) -> StageResult:
    """Writes the result of a stage that produces scores and returns it; publishes if the run says so.

    `scored` is what the stage knows of the result: whose it is is filled in here.
    """
    written = _written(run, paths, run.stage, scored)
    if run.publish:
        publish(run, paths)
    return written


def publish(run: RunConfig, paths: RunPaths) -> None:
    """Makes this run the model's current one. Writes nothing if it is already."""
    if _is_published(run, paths):
        return
    results = {stage: _materialise(run, paths, stage) for stage in run.stages}
    report.write(run, paths)
    current = {
        "run": run.run,
        "publishedAt": now_text("seconds"),
        "model": run.model.model_dump(),
        "timeframe": run.timeframe.value,
        "window": run.window.model_dump(by_alias=True),
        **{stage.value: _published(paths, stage, result) for stage, result in results.items()},
        "data": {"digest": _data_digest(results), **Reading.of(run.data).model_dump(by_alias=True)},
    }
    durable.write_json(paths.current, current)


def _is_published(run: RunConfig, paths: RunPaths) -> bool:
    try:
        current = json.loads(paths.current.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return False
    published = {stage: current.get(stage, {}).get("hash") for stage in run.stages}
    return bool(current["run"] == run.run and published == run.stage_hashes)


def _published(paths: RunPaths, stage: StageName, result: StageResult) -> dict[str, object]:
    """What current.json names of a stage: where its weights lie, or which scores the report has."""
    if not stage.has_weights:
        return {"hash": result.hash}
    best = paths.stage(stage).best.relative_to(paths.model_dir)
    return {"path": str(best), "digest": result.digest, "hash": result.hash}


def _data_digest(results: Mapping[StageName, StageResult]) -> str | None:
    """Digest of the bars that the last trained stage read."""
    read = (results[stage].data for stage in reversed(StageName.with_weights()))
    return next((data.digest for data in read if data is not None), None)


def _result(run: RunConfig, paths: RunPaths, stage: StageName) -> StageResult | None:
    """The stage's result if it is complete with this run's hash."""
    result = paths.stage(stage).completed()
    return result if result is not None and result.hash == run.stage_hashes[stage] else None


def _materialise(run: RunConfig, paths: RunPaths, stage: StageName) -> StageResult:
    """Makes sure that the stage's weights and result lie in this run's directory, and returns the result."""
    result = _result(run, paths, stage)
    if result is not None:
        if stage.has_weights:
            _verify(paths.stage(stage).best, result)
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
    result = source.completed()
    if result is None or result.hash != reuse.hash:
        raise InputMissing(
            f"the {stage} of run {reuse.run} (hash {reuse.hash}) is to be reused, but {source.result} is not its "
            f"result; train it again with `kronos run -f FILE --stage {stage}`"
        )
    _verify(source.best, result)
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
    untrained = StageResult(epochs=0, steps=0, parameters=parameters, origin=first.origin)
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


def _verify(best: Path, result: StageResult) -> None:
    if not best.is_dir() or weights_digest(best) != result.digest:
        raise InputMissing(
            f"{best} does not contain the weights that {StagePaths(best.parent).result} describes; restore the files, "
            f"or remove {best.parent} and run again to retrain the stage"
        )
