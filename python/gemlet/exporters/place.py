"""Putting a folder in its place: whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

from .errors import ExportError


@contextlib.contextmanager
def replacing(out: Path, marker: str, others: Collection[str], source: Path) -> Iterator[Path]:
    """A new folder beside `out` that takes its place when the block ends well, and vanishes otherwise.

    An old folder is replaced if it is empty, or an earlier export and nothing else: it holds a file named `marker`, the
    files that this lists, and `others`. Files of it that are in use stay readable for those who have them open. Raises
    ExportError for anything else that stands there, for a `source` inside it, for another export to the same place that
    has not ended, and for a disk that fills up.
    """
    out = out.parent.resolve() / out.name
    if source.exists() and source.resolve().is_relative_to(out):
        raise ExportError(f"{out}: would replace {source}, which is to be exported; expected another folder")
    _check(out, marker, others)
    with _locked(out), scratch(out) as temporary:
        yield temporary
        for file in temporary.rglob("*"):
            file.chmod(0o777 & ~_umask() if file.is_dir() else 0o666 & ~_umask())
        temporary.chmod(0o777 & ~_umask())
        _swap(temporary, out)


@contextlib.contextmanager
def scratch(out: Path) -> Iterator[Path]:
    """A folder that vanishes, on the disk that `out` goes to. Raises ExportError for a disk that fills up."""
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".tmp", dir=out.parent))
    try:
        yield temporary
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise ExportError(f"{out}: {os.strerror(error.errno)}; nothing was kept") from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_space(folder: Path, needed: int, out: Path) -> None:
    """Raises ExportError if the disk has less than `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ExportError(f"{out}: needs {needed:,} bytes while it is made, the disk has {free:,} free")


def _check(out: Path, marker: str, others: Collection[str]) -> None:
    if not out.parent.is_dir():
        raise ExportError(f"{out}: there is no directory {out.parent}")
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise ExportError(f"{out}: is a file, expected a folder to write or replace")
    held = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if held and not (out / marker).is_file():
        raise ExportError(f"{out}: holds other files; expected a new or empty folder, or one of an earlier export")
    if foreign := sorted(held - _listed(out / marker) - {marker, *others}):
        raise ExportError(
            f"{out}: holds {', '.join(foreign[:5])}, which the earlier export there did not write and which would be "
            "lost; expected a new or empty folder, or one of an earlier export"
        )


def _listed(marker: Path) -> set[str]:
    """The files that an earlier export lists; none if it cannot be read."""
    try:
        return set(json.loads(marker.read_text(encoding="utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return set()


@contextlib.contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Held by the process, so that a killed export leaves no lock behind, only an empty file."""
    path = out.parent / f".{out.name}.lock"
    try:
        # Neither follows a link that somebody put there nor empties a file.
        opened = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o666), "w")
    except OSError as error:
        raise ExportError(f"{out}: cannot be written: {error.strerror}") from error
    with opened as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ExportError(f"{out}: another export is writing it") from None
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _swap(new: Path, out: Path) -> None:
    if not out.exists():
        new.rename(out)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".old", dir=out.parent)) / out.name
    out.rename(old)
    try:
        new.rename(out)
    except BaseException:
        old.rename(out)
        raise
    finally:
        shutil.rmtree(old.parent, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
