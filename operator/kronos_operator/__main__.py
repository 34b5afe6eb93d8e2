"""The operator's process: `python -m kronos_operator`, configured by KRONOS_* variables of its environment."""

from __future__ import annotations

import gc
import sys

import kopf

from kronos_operator.handlers import handlers, kopf_settings
from kronos_operator.settings import BadSettings, Settings
from kronos_trainer.config import ExitCode


def main() -> int:
    """Runs the operator until SIGTERM or SIGINT."""
    try:
        settings = Settings.from_environ()
    except BadSettings as error:
        print(f"kronos-operator: {error}", file=sys.stderr)
        return ExitCode.CONFIG
    json = settings.log_format == "json"
    kopf.configure(log_format=kopf.LogFormat.JSON if json else kopf.LogFormat.FULL)
    # What is imported stays, and a page of a listing is ten thousand objects that nothing but itself refers to.
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    kopf.run(
        registry=handlers(settings),
        settings=kopf_settings(),
        standalone=True,
        clusterwide=not settings.namespaces,
        namespaces=settings.namespaces,
    )
    return ExitCode.DONE


if __name__ == "__main__":
    sys.exit(main())
