"""What `init.published` stands for in a local run: which run's weights, and their digests, which enter the hashes.

A run keeps the start that it began with. Else its own publication would change what it was trained from, and the same
model would be trained for ever.
"""

from __future__ import annotations

from dataclasses import replace

from kronos_operator.api import KronosModel, Spec
from kronos_operator.hashing import Digests, stage_hashes
from kronos_operator.local.files import ModelFiles
from kronos_operator.local.settings import LocalError
from kronos_trainer.config import ExitCode, StageName, WarmStart


def warm_stages(spec: Spec) -> list[StageName]:
    """The stages that start from what the model has published."""
    return [stage for stage, config in spec.weights_stages().items() if config.init.published]


def warm_start(model: KronosModel, digests: Digests, files: ModelFiles, *, anew: bool) -> WarmStart | None:
    """The start of the run that the model asks for, None if it does not start from published weights.

    That of an earlier run that differs in nothing, which so is gone on with or found complete, unless `anew`; else what
    is published now. `refusals` has checked that something is. Raises LocalError (66) where it cannot be read.
    """
    stages = warm_stages(model.spec)
    if not stages:
        return None
    for run in () if anew else files.started:
        start = run.warm_start
        if start is not None and stage_hashes(model.spec, with_start(digests, model.spec, start)) == run.stage_hashes:
            return start
    if files.current is None:
        raise LocalError(ExitCode.INPUT_MISSING, f"current.json of {model.metadata.name} is damaged: publish it again")
    return files.current


def with_start(digests: Digests, spec: Spec, start: WarmStart | None) -> Digests:
    """The digests with those of the published weights."""
    if start is None:
        return digests
    known = {stage: start.digests[stage] for stage in warm_stages(spec)}
    return replace(digests, weights={**digests.weights, **known})
