"""The message for a failed write, and whether a retry could help; used by both sides."""

from __future__ import annotations

import errno
import pathlib
import shutil
from enum import StrEnum

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG)


class StorageCause(StrEnum):
    """Field `cause` of the error line: the reasons to end with STORAGE that a new start on this machine meets again."""

    NO_ROOM = "NoRoom"  # the disk or the quota is full
    REFUSED = "Refused"  # rights, or a file system that is only read
    OCCUPIED = "Occupied"  # another process writes there


def storage_cause(error: OSError) -> StorageCause | None:
    """Why a write failed, None where writing again may help."""
    # tempfile writes a little to try a directory out.
    if error.errno in _NO_ROOM or (error.strerror or "").startswith("No usable temporary directory"):
        return StorageCause.NO_ROOM
    return StorageCause.REFUSED if error.errno in _REFUSED else None


def not_written(path: pathlib.Path, error: OSError) -> str:
    """The message: which path, why, how much is free there, and what to do."""
    reason = error.strerror or str(error)
    if isinstance(error.filename, str) and not pathlib.Path(error.filename).is_relative_to(path.parent):
        reason = f"{error.filename}: {reason}"  # what was to be copied, or a directory above
    remedies = {
        StorageCause.NO_ROOM: "free disk space",
        StorageCause.REFUSED: "check the permissions",
        None: "free disk space or check the permissions",
    }
    return f"cannot write {path}: {reason} ({free_space(path)}); {remedies[storage_cause(error)]}"


def free_space(path: pathlib.Path) -> str:
    """How much room the disk of a path has, which need not exist yet."""
    for place in (path, *path.parents):
        try:
            return f"{shutil.disk_usage(place).free / 2**20:,.1f} MiB free there"
        except OSError:
            continue
    return "free space unknown"
