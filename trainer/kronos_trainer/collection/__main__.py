"""`python -m kronos_trainer.collection COMMAND`: what the commands for the models of an output root start.

Each command imports what it needs once its options are read, so that an error in them is reported immediately.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from kronos_trainer.arguments import Arguments, add_options
from kronos_trainer.commands import (
    BACKUP_OPTIONS,
    COMPARE_OPTIONS,
    EXPORT_OPTIONS,
    PRUNE_OPTIONS,
    RESTORE_OPTIONS,
    Option,
)
from kronos_trainer.config import ExitCode
from kronos_trainer.errors import ConfigError, StorageError, TrainerError
from kronos_trainer.storage import strict_json


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit code; a failure is one line on standard error."""
    given = _parser().parse_args(argv)
    try:
        given.command(given)
    except (TrainerError, OSError) as failure:
        if isinstance(failure, BrokenPipeError):  # the reader has closed the pipe, like `head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return ExitCode.DONE
        error = failure if isinstance(failure, TrainerError) else StorageError(f"{failure}; check the permissions")
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return ExitCode.DONE


def _parser() -> Arguments:
    parser = Arguments(prog="kronos", description="Compare, export, prune and back up models.", allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, options, command, about in _COMMANDS:
        part = commands.add_parser(name, help=about, description=f"{about.capitalize()}.", allow_abbrev=False)
        add_options(part, options)
        if (root := os.environ.get("KRONOS_OUTPUT_PATH")) is not None:
            part.set_defaults(root=root)
        part.set_defaults(command=command)
    return parser


def _compare(given: argparse.Namespace) -> None:
    if given.html and given.json:
        raise ConfigError("--html and --json are two ways to show it: use one")
    root = _directory(given.root, "leave out --html, whose page lies there") if given.html else None
    from kronos_trainer.collection import comparing, telling

    with (
        comparing.evaluated(given.root, given.namespace, given.first) as first,
        comparing.evaluated(given.root, given.namespace, given.second) as second,
    ):
        found = comparing.compared(first, second)
    if root is not None:
        from kronos_trainer.collection import page

        print(page.write(root, found))
    elif given.json:
        print(strict_json.document(comparing.document(found)), end="")
    else:
        print(telling.comparison(found))


def _export(given: argparse.Namespace) -> None:
    from kronos_trainer.collection import export

    if "://" in given.to:
        export.repository(given.to)
    elif given.public:
        raise ConfigError("--public is for a repository of the hub: --to hf://OWNER/NAME")
    with export.found(given.root, given.namespace, given.name, given.run) as exported:
        if "://" in given.to:
            print(export.publish(exported, given.to, given.licence, public=given.public))
        else:
            export.write(exported, Path(given.to), given.licence)
            print(given.to)


def _prune(given: argparse.Namespace) -> None:
    from kronos_trainer.collection.asking import agreed
    from kronos_trainer.collection.pruning import interrupted, plan, prune
    from kronos_trainer.collection.telling import pruned
    from kronos_trainer.report.wording import megabytes
    from kronos_trainer.storage.models import files_of

    paths = files_of(_directory(given.root, "remove runs with that store's own tool"), given.namespace, given.name)
    found = plan(paths, given.keep)
    going = [one for one in found if not one.stays]
    print(pruned(found))
    if not going:
        print("nothing is to be removed")
        if interrupted(paths):
            prune(paths, given.keep, [])
        return
    many = f"{len(going)} run{'' if len(going) == 1 else 's'}, {megabytes(sum(one.bytes for one in going))}"
    if not given.yes and not agreed(f"Remove {many}?"):
        print("nothing was removed")
        return
    prune(paths, given.keep, [one.run for one in going])
    print(f"removed {many}")


def _backup(given: argparse.Namespace) -> None:
    from kronos_trainer.collection.archive import back_up
    from kronos_trainer.report.wording import megabytes
    from kronos_trainer.storage.models import files_of, model_below, models_below

    root = _directory(given.root, "back up a store with its own tool, e.g. by versioning or replication")
    if given.name is not None:
        files_of(root, given.namespace, given.name)
        models = [model_below(root, given.namespace, given.name)]
    else:
        models = models_below(root, given.namespace)
    manifest = back_up(root, models, given.to)
    size = megabytes(sum(content.size for content in manifest.files.values()))
    print(f"{given.to}: {', '.join(model.key for model in manifest.models())}; {len(manifest.files)} files, {size}")


def _restore(given: argparse.Namespace) -> None:
    from kronos_trainer.collection.restoring import restore
    from kronos_trainer.collection.telling import restored

    root = _directory(given.root, "restore into a directory, and copy it to the store with that store's own tool")
    for one in restore(given.archive, root):
        print(restored(one))


def _directory(root: str, instead: str) -> Path:
    """An output root in this file system. Raises ConfigError for a URI."""
    if "://" in root:
        raise ConfigError(f"{root}: this command works on a directory; {instead}")
    return Path(root)


_COMMANDS: tuple[tuple[str, Sequence[Option], Callable[[argparse.Namespace], None], str], ...] = (
    ("compare", COMPARE_OPTIONS, _compare, "compare two judged models"),
    ("export", EXPORT_OPTIONS, _export, "write the weights of a model in upstream's layout"),
    ("prune", PRUNE_OPTIONS, _prune, "remove old runs of a model"),
    ("backup", BACKUP_OPTIONS, _backup, "write models to one archive with digests"),
    ("restore", RESTORE_OPTIONS, _restore, "put the models of an archive back, verified"),
)

if __name__ == "__main__":
    sys.exit(main())
