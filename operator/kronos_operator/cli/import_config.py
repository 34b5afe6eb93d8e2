"""`kronos import-config`: a KronosModel file from the settings of upstream's finetuning scripts."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kronos_operator.cli.failure import Failure
from kronos_operator.cli.init import write_checked
from kronos_operator.cli.terminal import print_line

if TYPE_CHECKING:
    from kronos_trainer.config import ImportedSpec

_WIDTH = 118


def import_config(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="Upstream's finetune/config.py, or a YAML of finetune_csv.", show_default=False
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to write.", show_default="NAME.yaml")
    ] = None,
    timeframe: Annotated[
        str | None,
        typer.Option(help="Length of a bar, e.g. 5m.", show_default="1d, or by the name of the file of bars"),
    ] = None,
    gpus: Annotated[int, typer.Option(min=1, max=64, help="GPUs that upstream's batch size was for.")] = 1,
    name: Annotated[
        str | None, typer.Option(help="Name of the model.", show_default="exp_name, or model-TIMEFRAME")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Convert the settings of upstream's finetuning scripts to a KronosModel file.

    A config.py is read, never run. What has no counterpart, or means something else here, is listed in the file.
    """
    from kronos_trainer.config import ExitCode

    imported = _read(file, timeframe, gpus)
    name = name or _name_of(imported)
    path = output or Path(f"{name}.yaml")
    if path.exists() and not force:
        raise Failure(f"{path} exists; --force overwrites it, --output FILE writes another", ExitCode.CONFIG)
    write_checked(path, render(imported, source=file.name, name=name))
    for line in imported.changed:
        print_line(f"note: {line}", stderr=True)
    print_line(f"wrote {path}; {len(imported.left_out)} settings without a counterpart are listed in it")


def render(imported: ImportedSpec, *, source: str, name: str) -> str:
    """The text of the file: what changed and what was left out as comments, then the model."""
    import yaml

    from kronos_operator.names import API_VERSION, KIND

    comments = [f"# Made of {source} by kronos import-config."]
    for title, lines in (("Differs from it", imported.changed), ("Left out", imported.left_out)):
        if lines:
            comments += ["#", f"# {title}:"]
            for line in lines:
                comments += textwrap.wrap(
                    " ".join(line.split()), _WIDTH, initial_indent="# - ", subsequent_indent="#   "
                )
    document = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "spec": imported.spec}
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=_WIDTH)
    return "\n".join(comments) + "\n" + text


def _read(file: Path, timeframe: str | None, gpus: int) -> ImportedSpec:
    from kronos_operator.upstream import UnreadableSettings, is_python, read_config_py, read_csv_yaml
    from kronos_trainer.config import ExitCode, Timeframe, spec_of_config_py, spec_of_csv_yaml

    frames = [frame.value for frame in Timeframe]
    if timeframe is not None and timeframe not in frames:
        raise Failure(f"--timeframe {timeframe}: choose one of {', '.join(frames)}", ExitCode.CONFIG)
    try:
        text = file.read_text(encoding="utf-8-sig")
        if is_python(file):
            found = read_config_py(text)
            return spec_of_config_py(found.values, found.unread, timeframe=timeframe, gpus=gpus)
        return spec_of_csv_yaml(read_csv_yaml(text), timeframe=timeframe, gpus=gpus)
    except OSError as error:
        raise Failure(f"{file}: {(error.strerror or str(error)).lower()}", ExitCode.INPUT_MISSING) from None
    except UnicodeDecodeError:
        raise Failure(f"{file}: is not text in UTF-8", ExitCode.CONFIG) from None
    except UnreadableSettings as error:
        raise Failure(f"{file}: {error}", ExitCode.CONFIG) from None
    except ValueError as error:
        raise Failure(f"{file}: {error}", ExitCode.CONFIG) from None


def _name_of(imported: ImportedSpec) -> str:
    """A name that an object may have."""
    slug = re.sub(r"[^a-z0-9]+", "-", (imported.name or "").lower()).strip("-")
    spec: dict[str, Any] = imported.spec
    return slug if slug[:1].isalpha() else "-".join(filter(None, ("model", slug or spec["timeframe"])))
