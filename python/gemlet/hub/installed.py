"""Which models are on this machine, and removing one."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gemlet.bundled import NANO, bundled_nano
from gemlet.errors import ArgumentError, FileError
from gemlet.hub import ollama, package
from gemlet.hub.hf_cache import hf_cache_folder, repo_folder, repositories, snapshots
from gemlet.hub.quants import Candidate, candidates, choose
from gemlet.hub.reference import PREFIX, Reference, parse

Origin = Literal["gemlet", "package", "Hugging Face", "Ollama"]
_PARTIAL = "*.gemlet.incomplete"


@dataclass(frozen=True)
class Installed:
    """A model on this machine."""

    name: str
    """What gemlet.load takes."""
    bytes: int
    path: Path
    """Its file, or the first of its parts."""
    used: float
    """Time of the last access, in seconds since 1970."""
    origin: Origin


@dataclass(frozen=True)
class Removal:
    """What removing a model would delete: files, and the folders that would then be empty."""

    name: str
    files: tuple[Path, ...]
    bytes: int
    root: Path
    """Nothing outside of it is touched, and it stays."""

    def run(self) -> None:
        """Delete the files and folders."""
        for file in self.files:
            try:
                file.unlink(missing_ok=True)
            except OSError as error:
                raise FileError(f"{file}: cannot be removed: {error.strerror}") from error
        for folder in sorted({file.parent for file in self.files}, reverse=True):  # what is inside comes first
            _remove_empty(folder, self.root)


def list_models() -> list[Installed]:
    """All models that have a name here, by origin and name."""
    return [*_own(), *_hugging_face(), *_ollama()]


def unfinished_downloads() -> dict[str, int]:
    """The bytes of interrupted downloads, by repository."""
    cache = hf_cache_folder()
    found = {
        repo: sum(_plain_size(file) for file in (folder / "blobs").glob(_PARTIAL))
        for repo, folder in (repositories(cache) if cache else ())
    }
    return {repo: size for repo, size in found.items() if size > 0}


def plan_removal(name: str) -> Removal:
    """What `gemlet rm` would delete.

    Raises:
        ArgumentError: a name of another form, or a model that gemlet may not delete.
        FileError: it is not here, or a folder of the cache is a symbolic link.
    """
    if name == NANO:
        raise ArgumentError(f"{name}: comes with gemlet and goes with it")
    if name.startswith(ollama.PREFIX):
        raise ArgumentError(f"{name}: belongs to Ollama: ollama rm {name.removeprefix(ollama.PREFIX)}")
    if name == package.NAME:
        files = package.joined_files()
        if not files:
            raise FileError(f"{name}: is not in the cache")
        return Removal(name, files, sum(file.lstat().st_size for file in files), files[0].parent)
    wanted = parse(name)
    if wanted is None or (not name.startswith(PREFIX) and Path(name).exists()):
        raise ArgumentError(f"{name}: expected a name that gemlet list shows; files of your own are yours to delete")
    return _plan_hugging_face(wanted)


def _own() -> Iterator[Installed]:
    with contextlib.suppress(FileError):
        nano = bundled_nano()
        yield _installed(NANO, [nano], "gemlet")
    if joined := package.joined_file():
        yield _installed(package.NAME, [joined], "package")
        return
    with contextlib.suppress(FileError):
        if found := package.installed_package():
            yield _installed(package.NAME, list(found.parts), "package")


def _hugging_face() -> Iterator[Installed]:
    cache = hf_cache_folder()
    for repo, folder in repositories(cache) if cache else ():
        seen: set[str] = set()
        for files in snapshots(folder):
            found = [candidate for candidate in candidates(files) if candidate.missing is None]
            for candidate in found:
                name = _name(repo, candidate, found)
                if name not in seen:
                    seen.add(name)
                    yield _installed(name, [files[file] for file in candidate.files], "Hugging Face")


def _ollama() -> Iterator[Installed]:
    for model in ollama.list_ollama():
        yield _installed(f"{ollama.PREFIX}{model.name}", [model.path], "Ollama")


def _name(repo: str, candidate: Candidate, found: list[Candidate]) -> str:
    """By quantisation where that says which; by file otherwise."""
    is_unique = [other.label for other in found].count(candidate.label) == 1
    named_by_label = candidate.label.lower() != candidate.files[0].removesuffix(".gguf").lower()
    return str(
        Reference(repo, quant=candidate.label)
        if is_unique and named_by_label
        else Reference(repo, file=candidate.files[0])
    )


def _installed(name: str, paths: list[Path], origin: Origin) -> Installed:
    status = [path.stat() for path in paths]
    return Installed(
        name, sum(entry.st_size for entry in status), paths[0], max(entry.st_atime for entry in status), origin
    )


def _plan_hugging_face(wanted: Reference) -> Removal:
    cache = hf_cache_folder()
    if cache is None:
        raise FileError(f"{wanted}: is not here")
    folder = repo_folder(cache, wanted.repo)
    blobs = folder / "blobs"
    names: list[Path] = []
    for files in snapshots(folder):
        with contextlib.suppress(ArgumentError, FileError):
            names += [files[file] for candidate in _meant(files, wanted) for file in candidate.files]
    is_all = wanted.quant is None and wanted.file is None
    partial = list(blobs.glob(_PARTIAL)) if is_all else []
    if not names and not partial:
        raise FileError(f"{wanted}: is not in the Hugging Face cache ({cache}); gemlet list shows what is")
    for path in (folder, blobs, folder / "snapshots", *(parent for name in names for parent in _below(name, folder))):
        if path.is_symlink():
            raise FileError(f"{path}: is a symbolic link, so what it leads to is not gemlet's to delete")
    files_to_go = [*names, *_unshared_blobs(folder, names), *partial]
    return Removal(str(wanted), tuple(files_to_go), sum(_plain_size(file) for file in files_to_go), cache)


def _meant(files: dict[str, Path], wanted: Reference) -> list[Candidate]:
    """All models of a repository if only the repository is named."""
    found = candidates(files)
    return found if wanted.quant is None and wanted.file is None else [choose(found, wanted)]


def _below(path: Path, folder: Path) -> list[Path]:
    """The folders between a file and the folder of its repository."""
    return [parent for parent in path.parents if folder in parent.parents]


def _unshared_blobs(folder: Path, names: list[Path]) -> list[Path]:
    """The blobs that only these names lead to. A link that leads elsewhere is removed, but not what it leads to."""
    kept = {
        _blob(folder, Path(parent, file))
        for parent, _, files in os.walk(folder / "snapshots")
        for file in files
        if Path(parent, file) not in names
    }
    return sorted({blob for name in names if (blob := _blob(folder, name)) is not None and blob not in kept})


def _blob(folder: Path, name: Path) -> Path | None:
    if not name.is_symlink():
        return None
    target = Path(os.path.normpath(name.parent / name.readlink()))
    return target if target.parent == folder / "blobs" and os.path.lexists(target) else None


def _plain_size(file: Path) -> int:
    """What deleting it frees."""
    return 0 if file.is_symlink() else file.lstat().st_size


def _remove_empty(folder: Path, root: Path) -> None:
    """Remove a folder and those above it, as far as they are empty, and a repository's `refs` when nothing else of it
    is left."""
    while root in folder.parents:
        if folder.exists():
            refs = folder / "refs"
            if [entry.name for entry in folder.iterdir()] == ["refs"] and not refs.is_symlink():
                (refs / "main").unlink(missing_ok=True)
                with contextlib.suppress(OSError):
                    refs.rmdir()
            try:
                folder.rmdir()
            except OSError:
                return
        folder = folder.parent
