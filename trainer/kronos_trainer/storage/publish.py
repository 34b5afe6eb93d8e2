"""What a stage leaves for others: `best/`, `result.json`, and with the last stage report.md and `current.json`.

Called by rank 0 around the training loop. Every function may be repeated after an interruption: what is complete is
left alone, and each of result.json and current.json is written only once all that it speaks of is in place.
"""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from kronos_trainer.config import RunConfig, RunPaths, StageName, StagePaths, StageResult
from kronos_trainer.errors import InputMissing
from kronos_trainer.model.predictor import KronosPredictor
from kronos_trainer.model.tokenizer import KronosTokenizer
from kronos_trainer.model.weights import initial_predictor, initial_tokenizer, save_weights, weights_digest
from kronos_trainer.storage import durable
from kronos_trainer.storage.checkpoint import Checkpoints
from kronos_trainer.storage.warm_start import published_weights
from kronos_trainer.training import report


def is_complete(run: RunConfig, paths: RunPaths) -> bool:
    """Whether nothing is left to do: the stage is there with the same hash and, if it is to be, published."""
    return _result(run, paths, run.stage) is not None and (not run.publish or _is_published(run, paths))


def settle(run: RunConfig, paths: RunPaths) -> StageResult | None:
    """The result of a stage that needs no training, published if the run says so; None if it is to be trained.

    That is a stage that was complete already, or one without epochs, whose initial weights are exported.
    """
    if _result(run, paths, run.stage) is None and run.stage_config.epochs > 0:
        return None
    result = _materialise(run, paths, run.stage)
    if run.publish:
        publish(run, paths)
    return result


def ensure_tokenizer(run: RunConfig, paths: RunPaths) -> Path:
    """Directory of the weights of the tokenizer that this run's predictor reads, inside the run's own directory.

    It is the run's own, or copied from the run that trained it, or the initial weights where the tokenizer stage has
    no epochs. Raises InputMissing where there is none.
    """
    _materialise(run, paths, StageName.TOKENIZER)
    return paths.stage(StageName.TOKENIZER).best


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


def publish(run: RunConfig, paths: RunPaths) -> None:
    """Makes this run the model's current one. Writes nothing if it is already."""
    if _is_published(run, paths):
        return
    results = {stage: _materialise(run, paths, stage) for stage in StageName}
    report.write(run, paths, results)
    current = {
        "run": run.run,
        "publishedAt": utc_text(datetime.now(UTC)),
        "model": run.model.model_dump(),
        "timeframe": run.timeframe.value,
        "window": run.window.model_dump(by_alias=True),
        **{
            stage.value: {
                "path": str(paths.stage(stage).best.relative_to(paths.model_dir)),
                "digest": results[stage].digest,
                "hash": results[stage].hash,
            }
            for stage in StageName
        },
        "data": {
            "digest": _data_digest(results),
            "clip": run.data.clip,
            "timeZone": run.data.time_zone,
            "columns": run.data.columns.given if run.data.columns else None,
            "calendar": run.data.calendar,
            "label": run.data.label,
            "adjust": run.data.adjust,
        },
    }
    durable.write_json(paths.current, current)


def _is_published(run: RunConfig, paths: RunPaths) -> bool:
    try:
        current = json.loads(paths.current.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return False
    return bool(
        current["run"] == run.run and all(current[stage]["hash"] == run.stage_hashes[stage] for stage in StageName)
    )


def _data_digest(results: Mapping[StageName, StageResult]) -> str | None:
    """Digest of the bars that the last trained stage read."""
    return next((data.digest for stage in reversed(StageName) if (data := results[stage].data) is not None), None)


def _result(run: RunConfig, paths: RunPaths, stage: StageName) -> StageResult | None:
    """The stage's result if it is complete with this run's hash."""
    result = paths.stage(stage).completed()
    return result if result is not None and result.hash == run.stage_hashes[stage] else None


def _materialise(run: RunConfig, paths: RunPaths, stage: StageName) -> StageResult:
    """Sees to it that the stage's weights and result lie in this run's directory, and returns the result."""
    result = _result(run, paths, stage)
    if result is not None:
        _verify(paths.stage(stage).best, result)
        return result
    if stage is StageName.TOKENIZER and run.reuse_tokenizer is not None:
        return _copy_tokenizer(run, paths)
    stage_config = run.tokenizer if stage is StageName.TOKENIZER else run.predictor
    if stage_config.epochs == 0:
        return _initial(run, paths, stage)
    raise InputMissing(
        f"the predictor requires a trained tokenizer, and {paths.stage(stage).result} is not there: train it with "
        "`kronos run -f FILE --stage tokenizer`, or use one unchanged: set KRONOS_TOKENIZER_PATH to its directory (or "
        "tokenizer.init) and tokenizer.epochs to 0"
        if stage is StageName.TOKENIZER
        else f"the run has no trained predictor: {paths.stage(stage).result} is not there; train it with "
        "`kronos run -f FILE --stage predictor`"
    )


def _copy_tokenizer(run: RunConfig, paths: RunPaths) -> StageResult:
    reuse = run.reuse_tokenizer
    assert reuse is not None
    source = RunPaths(paths.root, run.model, reuse.run).stage(StageName.TOKENIZER)
    result = source.completed()
    if result is None or result.hash != reuse.hash:
        raise InputMissing(
            f"the tokenizer of run {reuse.run} (hash {reuse.hash}) is to be reused, but {source.result} is not its "
            "result; train it again with `kronos run -f FILE --stage tokenizer`"
        )
    _verify(source.best, result)
    target = paths.stage(StageName.TOKENIZER)
    durable.write_directory(target.best, lambda aside: _copy(source.best, aside))
    durable.write_text(target.result, result.dump())
    return result


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target, dirs_exist_ok=True)


def _initial(run: RunConfig, paths: RunPaths, stage: StageName) -> StageResult:
    """Exports the initial weights of a stage without epochs as its result."""

    def published() -> tuple[Path, str]:
        return published_weights(run, paths, stage)

    if stage is StageName.TOKENIZER:
        tokenizer = initial_tokenizer(run.tokenizer.init, run.training.seed, published)
        model: KronosTokenizer | KronosPredictor = tokenizer.model
        origin = tokenizer.origin
    else:
        predictor = initial_predictor(run.predictor.init, run.training.seed, published)
        model, origin = predictor.model, predictor.origin
    parameters = sum(parameter.numel() for parameter in model.parameters())
    untrained = StageResult(epochs=0, steps=0, parameters=parameters, origin=origin)
    return _export(run, paths, stage, model, untrained)


def _export(
    run: RunConfig,
    paths: RunPaths,
    stage: StageName,
    model: KronosTokenizer | KronosPredictor,
    trained: StageResult,
) -> StageResult:
    files = paths.stage(stage)
    durable.write_directory(files.best, lambda aside: save_weights(model, aside))
    result = trained.model_copy(
        update={
            "stage": stage.value,
            "hash": run.stage_hashes[stage],
            "run": run.run,
            "attempt": run.attempt,
            "model": run.model.model_dump(),
            "digest": weights_digest(files.best),
            "bytes": sum(path.stat().st_size for path in files.best.iterdir()),
            "software": {
                "python": platform.python_version(),
                **{name: version(name) for name in ("torch", "kronos-operator")},
            },
        }
    )
    durable.write_text(files.result, result.dump())
    return result


def _verify(best: Path, result: StageResult) -> None:
    if not best.is_dir() or weights_digest(best) != result.digest:
        raise InputMissing(
            f"{best} does not hold the weights that {StagePaths(best.parent).result} describes; restore the files, or "
            f"remove {best.parent} and run again to train the stage anew"
        )


def utc_text(instant: datetime) -> str:
    """An instant as result.json and current.json have it, to the second."""
    return instant.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
