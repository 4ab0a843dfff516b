"""Packed weights on disk, so that LiteRT packs them once and maps them from then on.

XNNPACK, which computes for LiteRT, reorders all weights when a model is loaded. Kept in memory that takes as much as
the weights; from a file they are mapped, and loaded in a moment. The files lie in `$GEMLET_CACHE`, by default the
user's folder for caches (XDG_CACHE_HOME), and can be deleted at any time. An empty `GEMLET_CACHE` keeps them in memory.

    KEY.xnnpack     packed weights, where KEY is a hash of the model file's size, time and inode, and of the runtime
    KEY.json        the same in words, with the model's path, and the size and checksum of the packed weights

Without the second file, or with another checksum, the weights are packed again. Packed weights are removed when their
model is gone or has changed, or when nothing has loaded them for a month.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from gemlet import _core
from gemlet.cache import cache_folder
from gemlet.errors import FileError
from gemlet.files import place, read_file, remove_abandoned, replacing, scratch

_PACKED: Final = ".xnnpack"
_NAME: Final = re.compile(r"[0-9a-f]{24}\.(xnnpack|json)")
_MOST_BYTES: Final = 1 << 16
_UNUSED_SECONDS: Final = 30 * 24 * 3600


@dataclass(frozen=True)
class _Origin:
    """What was packed."""

    model: str
    bytes: int
    modified: int
    inode: int
    runtime: str

    @classmethod
    def of(cls, model: Path, runtime: str) -> _Origin:
        status = model.stat()
        return cls(str(model.resolve()), status.st_size, status.st_mtime_ns, status.st_ino, runtime)

    @property
    def key(self) -> str:
        """The same wherever the file has been moved, as an export is once it has been checked."""
        known = f"{self.runtime} {self.bytes} {self.modified} {self.inode}"
        return hashlib.sha256(known.encode()).hexdigest()[:24]


@contextlib.contextmanager
def weight_cache(model: Path, runtime: str) -> Iterator[str]:
    """Where the packed weights of a file are, or are to be written while the block loads it; "" for nowhere.

    They are written under a name of their own and take their place when the block ends: processes that load a model at
    the same time do not meet, and one that is stopped leaves nothing that another would take for whole.
    """
    folder = cache_folder()
    if folder is None:
        yield ""
        return
    origin = _Origin.of(model, runtime)
    packed = folder / f"{origin.key}{_PACKED}"
    receipt = _receipt(packed)
    if receipt is not None and _is_whole(packed, receipt):
        with contextlib.suppress(FileError):  # its time is that of the last use
            _write_receipt(packed, receipt | asdict(origin))
        yield str(packed)
        return
    remove_abandoned(folder)
    _remove_old(folder)
    with contextlib.ExitStack() as stack:
        try:
            work = stack.enter_context(scratch(packed))
        except FileError:
            work = None
        if work is None or shutil.disk_usage(folder).free < 2 * origin.bytes:
            yield ""
            return
        new = work / packed.name
        yield str(new)
        if new.exists():
            with contextlib.suppress(FileError):  # the weights are packed again the next time
                _keep(new, packed, origin)


def _keep(new: Path, packed: Path, origin: _Origin) -> None:
    receipt = asdict(origin) | {"packed_bytes": new.stat().st_size, "checksum": _core.file_checksum(new)}
    place(new, packed)
    _write_receipt(packed, receipt)


def _write_receipt(packed: Path, receipt: dict[str, object]) -> None:
    with replacing(packed.with_suffix(".json")) as file:
        file.write(json.dumps(receipt, indent=1).encode())


def _is_whole(packed: Path, receipt: dict[str, object]) -> bool:
    try:
        is_size = packed.stat().st_size == receipt.get("packed_bytes")
        return is_size and _core.file_checksum(packed) == receipt.get("checksum")
    except OSError:
        return False


def _receipt(packed: Path) -> dict[str, object] | None:
    """What stands in the file beside packed weights; None if it is not there or damaged."""
    try:
        receipt = json.loads(read_file(packed.with_suffix(".json"), _MOST_BYTES))
    except (FileError, ValueError, RecursionError):
        return None
    return receipt if isinstance(receipt, dict) else None


def _remove_old(folder: Path) -> None:
    """Remove the packed weights of models that are gone or have changed, that nobody has used, and that belong to no
    receipt, as those of earlier versions. Who has them mapped keeps them."""
    for stem in {path.stem for path in folder.iterdir() if _NAME.fullmatch(path.name)}:
        packed = folder / f"{stem}{_PACKED}"
        if not _is_current(packed):
            for path in (packed, packed.with_suffix(".json")):
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)


def _is_current(packed: Path) -> bool:
    receipt = _receipt(packed)
    try:
        if receipt is None or not packed.is_file():
            return False
        origin = _Origin.of(Path(str(receipt.get("model"))), str(receipt.get("runtime")))
        unused = time.time() - packed.with_suffix(".json").stat().st_mtime
        return origin.key == packed.stem and unused < _UNUSED_SECONDS
    except (OSError, ValueError):
        return False
