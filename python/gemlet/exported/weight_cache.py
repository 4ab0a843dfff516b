"""Packed weights on disk, so that LiteRT packs them once and maps them from then on.

XNNPACK, which computes for LiteRT, reorders all weights when a model is loaded. Kept in memory that takes as much as
the weights; from a file they are mapped, and loaded in a moment. The files lie in `$GEMLET_CACHE`, by default the
user's folder for caches (XDG_CACHE_HOME), and can be deleted at any time. An empty `GEMLET_CACHE` keeps them in memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from gemlet.cache import cache_folder


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
    status = model.stat()
    key = f"{runtime} {status.st_size} {status.st_mtime_ns} {status.st_ino}"
    path = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.xnnpack"
    if path.exists():
        yield str(path)
        return
    if shutil.disk_usage(folder).free < 2 * status.st_size:
        yield ""
        return
    handle, name = tempfile.mkstemp(prefix=path.name, suffix=".tmp", dir=folder)
    os.close(handle)
    partial = Path(name)
    partial.unlink()  # XNNPACK takes an empty file for a damaged one
    try:
        yield name
        if partial.exists():
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
