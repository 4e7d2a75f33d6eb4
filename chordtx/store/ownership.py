"""That a folder and its files are the process's own: no links, no other owner, nothing that others can write.

Who can write to a data folder could put a link there to a file of the process's user, and have that
overwritten; or take the node's place. So what is not the process's own is refused, to root too.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from chordtx.errors import StorageFailed

_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
_OTHERS_MAY = 0o077
#: Never through a link, never waiting for the other end of a pipe.
_SAFELY = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class OwnFolder:
    """A folder whose files are opened by their names in it, wherever its path leads to later.

    :param path: made when it is not there, for its owner's eyes only.
    :ivar others_may_look: whether others than its owner may see what is in it.
    :raises StorageFailed: when it is not the process's own. :raises OSError: when the system refuses.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            info = os.lstat(path)
        except FileNotFoundError:
            path.mkdir(mode=0o700, parents=True)
            sync(path.parent)
            info = os.lstat(path)
        _must_be_own(path, info, is_folder=True)
        self._descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | _SAFELY)
        try:
            info = os.fstat(self._descriptor)
            _must_be_own(path, info, is_folder=True)
        except BaseException:
            self.close()
            raise
        self.others_may_look = bool(info.st_mode & _OTHERS_MAY)

    def must_own(self, name: str) -> None:
        """See that a file is the process's own, if it is there. :raises StorageFailed: when it is not."""
        try:
            info = os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return
        _must_be_own(self._path / name, info, is_folder=False)

    def open(self, name: str, flags: int) -> int:
        """Open a file, or make it, for its owner alone.

        :returns: its descriptor. :raises StorageFailed: as :meth:`must_own`.
        """
        self.must_own(name)
        descriptor = os.open(name, flags | os.O_CREAT | _SAFELY, 0o600, dir_fd=self._descriptor)
        try:
            _must_be_own(self._path / name, os.fstat(descriptor), is_folder=False)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def sync(self) -> None:
        """See that what was made in it is found there after a power cut."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Let go of it."""
        os.close(self._descriptor)


def sync(folder: Path) -> None:
    """See that what was made in a folder is found there after a power cut."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return  # one may go through this folder, but not look into it
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _must_be_own(path: Path, info: os.stat_result, is_folder: bool) -> None:
    if stat.S_ISLNK(info.st_mode):
        what = "name the folder that it leads to" if is_folder else "move it away"
        raise _refused(path, "is a symbolic link", what)
    if is_folder and not stat.S_ISDIR(info.st_mode):
        raise _refused(path, "is not a folder", "name another one")
    if not is_folder and not stat.S_ISREG(info.st_mode):
        raise _refused(path, "is not a regular file", "move it away")
    user = os.geteuid()
    if info.st_uid != user:
        reason = f"belongs to user {info.st_uid}, and this node runs as user {user}"
        raise _refused(path, reason, "chown it, or name a folder that does not exist yet")
    if info.st_mode & _OTHERS_MAY_WRITE:
        raise _refused(path, "can be written by others", f"chmod go-w {path}")


def _refused(path: Path, reason: str, what_to_do: str) -> StorageFailed:
    return StorageFailed(f"{path} {reason}: {what_to_do}", str(path), reason)
