"""The Hugging Face cache, read without its client: models that were pulled run without it, and offline.

models--OWNER--REPO/refs/main                       the commit that main was at
models--OWNER--REPO/snapshots/COMMIT/FILE.gguf      a symbolic link to ../../blobs/SHA256, or the file itself
models--OWNER--REPO/blobs/SHA256
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from gemlet.cache import expand, home_folder, user_cache
from gemlet.errors import ArgumentError, FileError
from gemlet.hub.quants import candidates, choose
from gemlet.hub.reference import Reference

_REPO_PREFIX = "models--"
_SEPARATOR = "--"


def hf_cache_folder() -> Path | None:
    """Where the Hugging Face client keeps repositories; None for a user without a home who names no folder."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if named := os.environ.get(name):
            return _expand(named)
    if home := os.environ.get("HF_HOME"):
        folder = _expand(home)
        return folder / "hub" if folder else None
    base = user_cache()
    return base / "huggingface" / "hub" if base else None


def writable_hf_cache_folder() -> Path:
    """The same folder, made if need be. Raises FileError where there is none."""
    folder = hf_cache_folder()
    if folder is None:
        raise FileError("no folder for the Hugging Face cache: this user has no home; set HF_HOME")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{folder}: cannot be made: {error.strerror}; HF_HOME names another place") from error
    return folder


def repo_folder(cache: Path, repo: str) -> Path:
    """The folder of one repository."""
    return cache / (_REPO_PREFIX + repo.replace("/", _SEPARATOR))


def repositories(cache: Path) -> Iterator[tuple[str, Path]]:
    """Name and folder of each model repository in the cache."""
    try:
        folders = sorted(cache.iterdir())
    except OSError:
        return
    for folder in folders:
        name = folder.name.removeprefix(_REPO_PREFIX).replace(_SEPARATOR, "/")
        if folder.name.startswith(_REPO_PREFIX) and name.count("/") == 1 and folder.is_dir():
            yield name, folder


def snapshots(folder: Path) -> list[dict[str, Path]]:
    """The GGUF files of each commit that is here, by their path in the repository; what main was last comes first."""
    try:
        commits = [entry for entry in (folder / "snapshots").iterdir() if entry.is_dir()]
    except OSError:
        return []
    main = ""
    with contextlib.suppress(OSError, UnicodeError):
        main = (folder / "refs" / "main").read_text(encoding="ascii").strip()
    commits.sort(key=lambda commit: (commit.name != main, -commit.stat().st_mtime_ns))
    return [dict(_gguf_files(commit)) for commit in commits]


def find_cached(wanted: Reference) -> list[Path]:
    """The model's file, or all its parts in order; empty unless all of it is here."""
    cache = hf_cache_folder()
    if cache is None:
        return []
    for files in snapshots(repo_folder(cache, wanted.repo)):
        with contextlib.suppress(ArgumentError, FileError):
            return [files[name] for name in choose(candidates(files), wanted).files]
    return []


def labels(repo: str) -> list[str]:
    """The quantisations of a repository that are here."""
    cache = hf_cache_folder()
    found = snapshots(repo_folder(cache, repo)) if cache else []
    return sorted({candidate.label for files in found for candidate in candidates(files)})


def _expand(path: str) -> Path | None:
    """`~` and variables, as the Hugging Face client reads them."""
    if path.startswith("~") and home_folder() is None:
        return None
    return expand(os.path.expandvars(path))


def _gguf_files(commit: Path) -> Iterator[tuple[str, Path]]:
    for parent, _, names in os.walk(commit):
        for name in names:
            path = Path(parent, name)
            if name.lower().endswith(".gguf") and path.is_file():
                yield path.relative_to(commit).as_posix(), path
