"""Writing files and folders so that nothing is lost, and reading files that may be anything.

All of the package writes by these functions. What is written is made in a folder of its own beside its place, which
nobody else can enter, and renamed once it is complete. Nothing is written through a symbolic link, over a device, a
FIFO or a source, and nothing is deleted that gemlet did not write. What is unfinished is removed when an exception goes
by, and at the end of the process.
"""

import atexit
import contextlib
import errno
import fcntl
import functools
import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from gemlet import _core
from gemlet.errors import ArgumentError, FileError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NOT_WRITTEN = (*_FULL, errno.EIO, errno.EROFS)
_SCRATCH = ".gemlet-{}.tmp"
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_ABANDONED_SECONDS = 24 * 3600
_unfinished: set[Path] = set()
"""The scratch folders of this process."""


def to_path(name: str | os.PathLike[str]) -> Path:
    """The path of a file's name. Raises ArgumentError for what no file can be called."""
    text = os.fspath(name)
    try:
        is_name = bool(text) and b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        is_name = False
    if not is_name:
        found = "characters that none can have here" if text else "an empty text"
        raise ArgumentError(f"{text!r}: expected the name of a file, found {found}")
    return Path(text)


# --- writing ---


@contextlib.contextmanager
def replacing(target: Path, sources: Sequence[Path] = ()) -> Iterator[BinaryIO]:
    """A new file that takes the place of `target` when the block ends well, and vanishes otherwise.

    Raises FileError where `place` would, and for a disk that is full or fails.
    """
    _core.check_target(target, sources)
    with scratch(target) as folder:
        new = folder / target.name
        with new.open("xb") as file:
            yield file
        place(new, target, sources)


def place(new: Path, target: Path, sources: Sequence[Path] = ()) -> None:
    """Give a complete file, made in `scratch`, its place. An old file there stays until then.

    Raises FileError for a target that is a symbolic link, a folder, anything else but a regular file, or one of
    `sources` under any name.
    """
    _core.place_file(new, target, sources)


def check_target(target: Path, sources: Sequence[Path] = ()) -> None:
    """Raise what `place` would, before any work is done."""
    _core.check_target(target, sources)


@contextlib.contextmanager
def scratch(target: Path) -> Iterator[Path]:
    """A folder that vanishes, on the disk of `target`; only this user can enter it.

    Raises FileError for a disk that is full or fails, and where no folder can be made.
    """
    if not target.parent.is_dir():
        raise FileError(f"{target}: there is no directory {target.parent}")
    with disk_explained(target), contextlib.ExitStack() as stack:
        remove_abandoned(target.parent)
        try:
            folder, lock = _new_scratch(target.parent)
        except OSError as error:
            raise FileError(f"{target}: cannot be written: {error.strerror}") from error
        stack.callback(_discard, folder)
        stack.callback(os.close, lock)
        yield folder


def _new_scratch(parent: Path) -> tuple[Path, int]:
    """A folder and the lock on it, by which others see that it is in use."""
    while True:
        folder = parent / _SCRATCH.format(_kernel() + secrets.token_hex(8))
        _unfinished.add(folder)  # before it is there: a signal may come at any time
        try:
            folder.mkdir(0o700)
        except OSError:
            _unfinished.discard(folder)
            raise
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:  # remove_abandoned was there first
            _unfinished.discard(folder)
            continue
        except OSError:
            _discard(folder)
            raise
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        if _is_at(lock, folder):
            return folder, lock
        os.close(lock)  # remove_abandoned was there first
        _unfinished.discard(folder)


@functools.cache
def _kernel() -> str:
    """A name for this machine since it has been started, within which all processes see each other's locks; "" if it
    has none."""
    try:
        return f"{_BOOT.read_text()[:8]}-"
    except (OSError, ValueError):
        return ""


def _discard(folder: Path) -> None:
    if folder in _unfinished:  # not so in a child, whose parent is still writing
        shutil.rmtree(folder, ignore_errors=True)
        _unfinished.discard(folder)


@atexit.register
def _discard_unfinished() -> None:
    """What a second signal has left of a cleaning that the first one began."""
    for folder in list(_unfinished):
        _discard(folder)


os.register_at_fork(after_in_child=_unfinished.clear)


def remove_abandoned(folder: Path, age: float = _ABANDONED_SECONDS) -> None:
    """Remove the scratch folders that killed processes left: this machine's at once, others from an age in seconds on.
    Those in use are locked, but another machine may not see the lock: only whoever has locked what they are for need
    not wait."""
    here = _SCRATCH.format(f"{_kernel()}*") if _kernel() else None
    for left in folder.glob(_SCRATCH.format("*")):
        with contextlib.suppress(OSError):
            is_ours = here is not None and left.match(here)
            if not is_ours and time.time() - left.lstat().st_mtime < age:
                continue
            lock = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(lock)


@contextlib.contextmanager
def replacing_folder(target: Path, written: Callable[[Path], Collection[str]], source: Path) -> Iterator[Path]:
    """A new folder that takes the place of `target` when the block ends well, and vanishes otherwise.

    An old folder is replaced if it is empty or holds only files that an earlier call wrote, whose names `written`
    gives. Files of it that are in use stay readable for those who have them open. Raises FileError for anything else
    that stands there, also if it has come meanwhile; for a `source` inside it; for another process that is writing it;
    and for a disk that is full or fails.
    """
    target = target.parent.resolve() / target.name if target.name not in ("", "..") else target.resolve()
    _check_folder(target, written, source)
    lock = target.with_name(f".{target.name}.lock")
    with locked(lock, f"{target}: another export is writing it"), scratch(target) as room:
        new = room / "new"
        new.mkdir()
        yield new
        _sync(new)
        _check_folder(target, written, source)
        _swap(new, target, room / "old", written)


def _check_folder(target: Path, written: Callable[[Path], Collection[str]], source: Path) -> None:
    """Raise FileError unless `replacing_folder` may write there."""
    if not target.parent.is_dir():
        raise FileError(f"{target}: there is no directory {target.parent}")
    if target.is_symlink():
        raise FileError(f"{target}: is a symbolic link to {target.readlink()}; name that folder itself")
    if not target.exists():
        return
    if not target.is_dir():
        raise FileError(f"{target}: is a file, expected a folder to write or replace")
    if target.is_mount():
        raise FileError(f"{target}: is a mount point, which cannot be replaced; name a folder inside it")
    if source.exists() and any(place.samefile(target) for place in (source.resolve(), *source.resolve().parents)):
        raise FileError(f"{target}: would replace {source}, which is to be exported; expected another folder")
    own = set(written(target))
    entries = list(target.iterdir())
    foreign = sorted(entry.name for entry in entries if entry.name not in own or not _is_file_or_link(entry))
    if foreign:
        raise FileError(
            f"{target}: holds {', '.join(foreign[:5])}, which no earlier export wrote so and which would be lost; "
            "expected a new or empty folder, or one of an earlier export"
        )


def _is_file_or_link(path: Path) -> bool:
    mode = path.lstat().st_mode
    return stat.S_ISREG(mode) or stat.S_ISLNK(mode)


def _swap(new: Path, target: Path, old: Path, written: Callable[[Path], Collection[str]]) -> None:
    """Rename the folders, and delete of the old one what `written` names."""
    own = written(target) if target.exists() else ()
    try:
        if target.exists():
            target.rename(old)
        new.rename(target)
    except BaseException:
        if old.exists():  # somebody may have filled its place
            old.rename(_kept(target) if target.exists() else target)
        raise
    _sync_folder(target.parent)
    if not old.exists():
        return
    for name in own:
        with contextlib.suppress(OSError):
            (old / name).unlink()
    try:
        old.rmdir()
    except OSError:
        # What NFS calls .nfs is open elsewhere and goes with its last user. Anything else has been put there since it
        # was checked, by somebody who had the folder open.
        if any(not entry.name.startswith(".nfs") for entry in old.iterdir()):
            old.rename(_kept(target))


def _kept(target: Path) -> Path:
    """A new name for what is not gemlet's to delete."""
    return target.with_name(f"{target.name}.{secrets.token_hex(4)}.kept")


def _sync(folder: Path) -> None:
    """Make all of a folder survive a power cut."""
    for path in folder.rglob("*"):
        if path.is_dir():
            _sync_folder(path)
        else:
            with path.open("rb") as file:
                os.fsync(file.fileno())
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # a system that does not sync folders
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextlib.contextmanager
def locked(path: Path, busy: str | None = None) -> Iterator[None]:
    """Hold an exclusive lock. If another process has it: wait, or raise FileError with the message `busy`.

    The kernel releases it when the process dies. Its file is empty, is never written to, and is removed at the end, so
    whoever waited checks that the file it has locked is still the one of that name. Anything else in its place, such as
    a symbolic link or a file with contents, is refused and left alone.
    """
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise FileError(f"{path}: cannot be locked: {error.strerror}") from error
        try:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode) or status.st_size > 0:
                raise FileError(f"{path}: cannot be locked: is in the way, and not gemlet's")
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
            except BlockingIOError:
                raise FileError(busy) from None
            if _is_at(handle, path):
                owner = os.getpid()
                try:
                    yield
                finally:
                    if os.getpid() == owner:
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
def disk_explained(target: Path) -> Iterator[None]:
    """Turn the system's errors of a disk that is full or fails into a FileError that says so."""
    try:
        yield
    except OSError as error:
        if error.errno in _NOT_WRITTEN and not isinstance(error, FileError):
            raise FileError(f"{target}: {os.strerror(error.errno)}; nothing was kept") from error
        raise


def check_space(folder: Path, needed: int, target: Path) -> None:
    """Raise FileError if the disk of `folder` has less than `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise FileError(f"{target}: needs {needed:,} bytes, the disk has {free:,} free")


# --- reading ---


@contextlib.contextmanager
def open_file(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file for reading; a symbolic link to one counts. Raises FileError for anything else, and does not
    wait for a FIFO that nobody writes to."""
    try:
        _require_regular(path, path.stat())  # opening a device may already change it
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise error if isinstance(error, FileError) else FileError(f"{path}: {error.strerror}") from error
    with os.fdopen(handle, "rb") as file:
        _require_regular(path, os.fstat(handle))
        yield file


def read_file(path: Path, most: int) -> bytes:
    """The contents of a regular file of at most `most` bytes. Raises FileError for anything else."""
    try:
        with open_file(path) as file:
            data = file.read(most + 1)
    except OSError as error:
        raise error if isinstance(error, FileError) else FileError(f"{path}: {error.strerror}") from error
    if len(data) > most:
        raise FileError(f"{path}: is larger than {most:,} bytes, the most that is read of such a file")
    return data


def _require_regular(path: Path, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise FileError(f"{path}: Is a directory, expected a file")
    if not stat.S_ISREG(status.st_mode):
        raise FileError(f"{path}: is a FIFO, a socket or a device, expected a regular file")
