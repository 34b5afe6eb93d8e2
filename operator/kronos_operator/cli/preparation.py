"""From files on the command line to runs that could start. Shared by `kronos plan`, `run` and `quickstart`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kronos_operator.cli.options import Mode
from kronos_trainer.stages import StageName

if TYPE_CHECKING:
    from kronos_operator.loading import Loaded
    from kronos_operator.local import LocalError, LocalRun, LocalSettings


def local_settings(
    *,
    stage: StageName | None = None,
    mode: Mode = "sequential",
    max_workers: int | None = None,
    workers_per_gpu: int = 1,
    force: bool = False,
) -> LocalSettings:
    """The settings of this machine, from the environment, with the options of the command line."""
    from kronos_operator.local import LocalSettings

    chosen = frozenset({stage} if stage else StageName)
    return replace(
        LocalSettings.from_environ(os.environ),
        stages=chosen,
        mode=mode,
        max_workers=max_workers,
        workers_per_gpu=workers_per_gpu,
        force=force,
    )


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A model with the run that it could start, or with why it cannot: one of the two is None."""

    loaded: Loaded
    run: LocalRun | None = None
    error: LocalError | None = None


def prepare_each(loaded: Sequence[Loaded], settings: LocalSettings) -> list[Prepared]:
    """A run for each model, or why it cannot start: one bad model does not keep the others from running."""
    from kronos_operator.local import LocalError, prepare

    prepared: list[Prepared] = []
    for one in loaded:
        try:
            prepared.append(Prepared(loaded=one, run=prepare(one, settings)))
        except LocalError as error:
            prepared.append(Prepared(loaded=one, error=error))
    return prepared


def first_exit_code(prepared: Sequence[Prepared]) -> int:
    """That of the first model that cannot start, else 0."""
    return next((int(one.error.exit_code) for one in prepared if one.error is not None), 0)
