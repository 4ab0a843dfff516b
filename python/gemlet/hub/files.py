"""Checking files in a cache that several processes share."""

import contextlib
import hashlib
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Protocol

Advance = Callable[[int, int], object]
"""Takes the bytes done and the bytes in all."""

CHUNK = 1 << 20


class Hash(Protocol):
    """A hash object of hashlib."""

    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


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
