"""What a stage leaves for others: weights or scores, result.json, and with the last stage report.md and current.json.

Called by rank 0 around the training loop. Every function may be repeated after an interruption: what is complete is
left alone, and each of result.json and current.json is written only once all that it speaks of is in place.
"""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from kronos_trainer.config import Reuse, RunConfig, RunPaths, StageName
from kronos_trainer.errors import InputMissing
from kronos_trainer.model.predictor import KronosPredictor
from kronos_trainer.model.tokenizer import KronosTokenizer
from kronos_trainer.model.weights import initial_net, save_weights, weights_digest
from kronos_trainer.storage import durable
from kronos_trainer.storage.checkpoint import Checkpoints
from kronos_trainer.storage.reading import Reading
from kronos_trainer.storage.warm_start import published_weights
from kronos_trainer.training import report
from kronos_trainer.training.stages import kind_of


@dataclass(frozen=True, kw_only=True)
class StageResult:
    """What the loop knows at the end of a stage. Instants are aware, durations in seconds."""

    started_at: datetime
    finished_at: datetime
    seconds: float
    epochs: int
    steps: int
    parameters: int
    world_size: int
    initial_validation_loss: float | None
    best_validation_loss: float | None
    best_step: int | None
    best_epoch: int | None
    final_train_loss: float | None
    train_windows: int
    validation_windows: int
    data_digest: str
    symbols: int
    bars: int
    notes: tuple[str, ...]
    origin: str
    precision: str
    device: str
    samples_per_second: float | None


def is_complete(run: RunConfig, paths: RunPaths) -> bool:
    """Whether nothing is left to do: the stage is there with the same hash and, if it is to be, published."""
    return _result(run, paths, run.stage) is not None and (not run.publish or _is_published(run, paths))


def settle(run: RunConfig, paths: RunPaths) -> dict[str, object] | None:
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
    run: RunConfig, paths: RunPaths, result: StageResult, model: KronosTokenizer | KronosPredictor
) -> dict[str, object]:
    """Exports the best checkpoint and returns the stage's result as it was written; publishes if the run says so.

    `model` is the bare module of the stage; it holds the best weights afterwards.
    """
    weights, _ = Checkpoints(paths.stage(run.stage)).best_weights()
    model.load_state_dict(weights)
    written = _export(run, paths, run.stage, model, _fields(result))
    if run.publish:
        publish(run, paths)
    return written


def finish_scores(
    run: RunConfig, paths: RunPaths, scores: Mapping[str, float], *, started_at: datetime, data_digest: str
) -> dict[str, object]:
    """Writes the result of a stage that produces scores and returns it; publishes if the run says so."""
    finished_at = datetime.now(UTC)
    fields = {
        "startedAt": _text(started_at),
        "finishedAt": _text(finished_at),
        "seconds": round((finished_at - started_at).total_seconds(), 3),
        "data": {"digest": data_digest},
        "metrics": dict(scores),
    }
    written = _write_result(run, paths, run.stage, fields)
    if run.publish:
        publish(run, paths)
    return written


def publish(run: RunConfig, paths: RunPaths) -> None:
    """Makes this run the model's current one. Writes nothing if it is already."""
    if _is_published(run, paths):
        return
    results = {stage: _materialise(run, paths, stage) for stage in run.stages}
    report.write(run, paths, results)
    current = {
        "run": run.run,
        "publishedAt": _text(datetime.now(UTC)),
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


def _published(paths: RunPaths, stage: StageName, result: Mapping[str, object]) -> dict[str, object]:
    """What current.json names of a stage: where its weights lie, or which scores report.md has."""
    if not stage.has_weights:
        return {"hash": result["hash"]}
    best = paths.stage(stage).best.relative_to(paths.model_dir)
    return {"path": str(best), "digest": result["digest"], "hash": result["hash"]}


def _data_digest(results: Mapping[StageName, Mapping[str, object]]) -> object:
    """Digest of the bars that the last trained stage read."""
    for stage in reversed(StageName.with_weights()):
        data = results[stage].get("data")
        if isinstance(data, Mapping):
            return data["digest"]
    return None


def _result(run: RunConfig, paths: RunPaths, stage: StageName) -> dict[str, object] | None:
    """The stage's result if it is complete with this run's hash."""
    result = paths.stage(stage).completed()
    return result if result is not None and result.get("hash") == run.stage_hashes[stage] else None


def _materialise(run: RunConfig, paths: RunPaths, stage: StageName) -> dict[str, object]:
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
        f"the {run.stage} requires a trained {stage}, and {paths.stage(stage).result} is not there: train it with "
        f"`kronos run -f FILE --stage {stage}`{unchanged if stage.has_weights else ''}"
    )


def _copied(run: RunConfig, paths: RunPaths, stage: StageName, reuse: Reuse) -> dict[str, object]:
    source = RunPaths(paths.root, run.model, reuse.run).stage(stage)
    result = source.completed()
    if result is None or result.get("hash") != reuse.hash:
        raise InputMissing(
            f"the {stage} of run {reuse.run} (hash {reuse.hash}) is to be reused, but {source.result} is not its "
            f"result; train it again with `kronos run -f FILE --stage {stage}`"
        )
    _verify(source.best, result)
    target = paths.stage(stage)
    durable.write_directory(target.best, lambda aside: _copy(source.best, aside))
    durable.write_json(target.result, result)
    return result


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target, dirs_exist_ok=True)


def _initial(run: RunConfig, paths: RunPaths, stage: StageName) -> dict[str, object]:
    """Exports the initial weights of a stage without epochs as its result."""

    def published() -> tuple[Path, str]:
        return published_weights(run, paths, stage)

    first = initial_net(kind_of(stage), run.trained()[stage].init, run.training.seed, published)
    model: KronosTokenizer | KronosPredictor = first.model
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return _export(
        run, paths, stage, model, {"epochs": 0, "steps": 0, "parameters": parameters, "origin": first.origin}
    )


def _export(
    run: RunConfig,
    paths: RunPaths,
    stage: StageName,
    model: KronosTokenizer | KronosPredictor,
    fields: Mapping[str, object],
) -> dict[str, object]:
    best = paths.stage(stage).best
    durable.write_directory(best, lambda aside: save_weights(model, aside))
    weights = {"digest": weights_digest(best), "bytes": sum(path.stat().st_size for path in best.iterdir())}
    return _write_result(run, paths, stage, {**fields, **weights})


def _write_result(run: RunConfig, paths: RunPaths, stage: StageName, fields: Mapping[str, object]) -> dict[str, object]:
    """Writes result.json, with which the stage is complete, and returns it as it can be read."""
    file = paths.stage(stage).result
    result = {
        "stage": stage.value,
        "hash": run.stage_hashes[stage],
        "run": run.run,
        "attempt": run.attempt,
        "model": run.model.model_dump(),
        **fields,
        "software": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "kronos-operator")},
        },
    }
    durable.write_json(file, result)
    return json.loads(file.read_text())  # type: ignore[no-any-return]


def _verify(best: Path, result: Mapping[str, object]) -> None:
    if not best.is_dir() or weights_digest(best) != result["digest"]:
        raise InputMissing(
            f"{best} does not hold the weights that {best.parent / 'result.json'} describes; restore the files, or "
            f"remove {best.parent} and run again to train the stage anew"
        )


def _fields(result: StageResult) -> dict[str, object]:
    return {
        "startedAt": _text(result.started_at),
        "finishedAt": _text(result.finished_at),
        "seconds": round(result.seconds, 3),
        "epochs": result.epochs,
        "steps": result.steps,
        "parameters": result.parameters,
        "worldSize": result.world_size,
        "initialValidationLoss": result.initial_validation_loss,
        "bestValidationLoss": result.best_validation_loss,
        "bestStep": result.best_step,
        "bestEpoch": result.best_epoch,
        "finalTrainLoss": result.final_train_loss,
        "windows": {"train": result.train_windows, "validation": result.validation_windows},
        "data": {
            "digest": result.data_digest,
            "symbols": result.symbols,
            "bars": result.bars,
            "notes": list(result.notes),
        },
        "origin": result.origin,
        "precision": result.precision,
        "device": result.device,
        "samplesPerSecond": result.samples_per_second,
    }


def _text(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
