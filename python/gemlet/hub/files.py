"""Writing files into a cache that several processes share."""

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from gemlet.errors import FileError

Advance = Callable[[int, int], object]
"""Takes the bytes done and the bytes in all."""

CHUNK = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Hash(Protocol):
    """A hash object of hashlib."""

    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock, waiting for it if need be.

    The kernel releases it when the process dies. A symbolic link in the place of the lock file is refused. The file is
    removed at the end, so whoever waited checks that the file it has locked is still the one of that name.
    """
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise FileError(f"{path}: cannot be locked: {error.strerror}") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if _is_at(handle, path):
                try:
                    yield
                finally:
                    path.unlink(missing_ok=True)
                return
        finally:
            os.close(handle)


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[BinaryIO]:
    """A new file under a name of its own that takes the place of `target` when the block ends well, and vanishes
    otherwise. Raises FileError for a full disk."""
    with full_disk_explained(target):
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


def remove_abandoned(target: Path) -> None:
    """Remove what killed processes left of `replacing`; only whoever holds the lock of `target` may call it."""
    for temporary in target.parent.glob(f".{target.name}.*.tmp"):
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def full_disk_explained(target: Path) -> Iterator[None]:
    """Turn the system's errors of a full disk into a FileError that says so."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL and not isinstance(error, FileError):
            raise FileError(f"{target}: {os.strerror(error.errno)}; nothing was kept") from error
        raise


def check_space(folder: Path, needed: int, target: Path) -> None:
    """Raise FileError if the disk of `folder` has less than `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise FileError(f"{target}: needs {needed:,} bytes, the disk has {free:,} free")


def add_to_hash(digest: Hash, file: BinaryIO, advance: Callable[[int], object]) -> None:
    """Hash the rest of a file; `advance` takes the bytes of each piece."""
    while block := file.read(CHUNK):
        digest.update(block)
        advance(len(block))


def new_sha256() -> Hash:
    """SHA-256 for checking, not for secrecy."""
    return hashlib.sha256(usedforsecurity=False)


def is_plain_file(path: Path, size: int | None = None) -> bool:
    """Whether a regular file, no link, stands there, and of that size if one is given."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and size in (None, status.st_size)


def mark_used(path: Path) -> None:
    """Set a file's time of access, which `gemlet list` shows: many systems do not keep it by themselves."""
    with contextlib.suppress(OSError):
        os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))
