"""Options that several commands share, declared once."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from kronos_operator.cli.completion import model_names
from kronos_trainer.stages import StageName

Mode = Literal["sequential", "parallel"]

TRAINER_IMAGE_ENV = "KRONOS_TRAINER_IMAGE"
ModelName = Annotated[
    str,
    typer.Argument(metavar="NAME", help="Name of the model.", show_default=False, autocompletion=model_names),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="Override a field of every model, e.g. predictor.epochs=2.",
        show_default=False,
    ),
]
OneStage = Annotated[StageName | None, typer.Option("--stage", help="Only this stage.", show_default="all of them")]
Force = Annotated[bool, typer.Option("--force", help="Train complete stages again.")]
Image = Annotated[
    str | None,
    typer.Option(
        metavar="IMAGE",
        envvar=TRAINER_IMAGE_ENV,
        help="Trainer image of the pod.",
        show_default="the model's, else the operator's",
        rich_help_panel="Which cluster",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
