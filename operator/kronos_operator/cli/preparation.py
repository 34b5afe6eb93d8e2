"""From files on the command line to runs that could start. Shared by `kronos plan`, `run` and `quickstart`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
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
    max_workers: int = 1,
    force: bool = False,
) -> LocalSettings:
    """The settings of this machine, from the environment, with what the command line says."""
    from kronos_operator.local import LocalSettings

    chosen = frozenset({stage} if stage else StageName)
    return replace(
        LocalSettings.from_environ(os.environ), stages=chosen, mode=mode, max_workers=max_workers, force=force
    )


def prepare_each(loaded: Sequence[Loaded], settings: LocalSettings) -> list[LocalRun | LocalError]:
    """A run for each model, or why it cannot start: one bad model does not keep the others from running."""
    from kronos_operator.local import LocalError, prepare

    prepared: list[LocalRun | LocalError] = []
    for one in loaded:
        try:
            prepared.append(prepare(one, settings))
        except LocalError as error:
            prepared.append(error)
    return prepared
