"""Downloading models from the Hugging Face hub, into the cache that its own client uses.

The client lists repositories, finds the token and puts files in their place. The bytes are fetched here, because
they are wanted resumable after an interrupted program, and checked against their sum before they take a name.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gemlet.errors import FileError, FormatError, UnsupportedError
from gemlet.files import check_space, locked, place, replacing
from gemlet.hub.fetch import Checksum, Source, fetch
from gemlet.hub.files import Advance, is_plain_file
from gemlet.hub.hf_cache import find_cached, repo_folder, writable_hf_cache_folder
from gemlet.hub.hub_errors import UnreachableError, explained
from gemlet.hub.quants import candidates, choose
from gemlet.hub.reference import Reference, is_safe

_SHA1 = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository as the hub lists it."""

    name: str
    size: int
    checksum: Checksum


@dataclass(frozen=True)
class Listing:
    """The GGUF files of a repository at one commit."""

    commit: str
    files: dict[str, RemoteFile]


@dataclass(frozen=True)
class Pulled:
    """A model in the cache: its file or the first of its parts, the size of all, and what was not there before."""

    path: Path
    bytes: int
    downloaded: int
    is_current: bool
    """False if the hub could not be asked whether it has changed."""


def pull(wanted: Reference, advance: Advance | None = None) -> Pulled:
    """Download a model, or check that the one in the cache is whole and what the hub has today.

    Raises:
        ArgumentError: the repository does not have what was asked for; the message lists what it has.
        FileError: it cannot be reached, or may not be read; or the disk is full.
        FormatError: what came does not have the sum that the hub states.
        UnsupportedError: the client is not installed, or the repository holds a checkpoint.
    """
    hub = _client()
    cache = writable_hf_cache_folder()
    try:
        listing = _list(hub, wanted)
    except UnreachableError:
        cached = find_cached(wanted)
        if not cached:
            raise
        return Pulled(cached[0], sum(path.stat().st_size for path in cached), 0, is_current=False)
    files = [listing.files[name] for name in choose(candidates(listing.files), wanted).files]
    total = sum(file.size for file in files)
    folder = repo_folder(cache, wanted.repo)
    before = downloaded = 0
    for file in files:

        def advance_all(done: int, before: int = before) -> None:
            if advance is not None:
                advance(before + done, total)

        downloaded += _get(hub, wanted.repo, listing.commit, file, folder, advance_all)
        before += file.size
    paths = [_place(hub, wanted.repo, listing.commit, file, cache) for file in files]
    _set_main(folder, listing.commit)
    return Pulled(paths[0], total, downloaded, is_current=True)


def _client() -> Any:
    # Without gemlet.forked.importing: filelock, which this imports, takes a lock of its own both for that and before a
    # fork, so that a fork would wait for this, and this for the fork.
    try:
        import huggingface_hub
        from huggingface_hub import constants, errors, file_download, hf_api, utils  # noqa: F401  lazy otherwise
    except ModuleNotFoundError as error:
        raise UnsupportedError(f"the Hugging Face hub needs {error.name}: pip install 'gemlet[hub]'") from error
    return huggingface_hub


def _list(hub: Any, wanted: Reference) -> Listing:
    repo = wanted.repo
    try:
        with explained(repo):
            info = hub.HfApi().model_info(repo, files_metadata=True)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FormatError(
            f"{repo}: the hub's answer is not what its client expects ({type(error).__name__})"
        ) from error
    if not isinstance(info.sha, str) or not _SHA1.fullmatch(info.sha):
        raise FormatError(f"{repo}: commit: expected 40 hexadecimal digits, found {info.sha!r}")
    siblings = [sibling for sibling in info.siblings or [] if is_safe(sibling.rfilename)]
    files = {
        sibling.rfilename: _remote_file(repo, sibling)
        for sibling in siblings
        if sibling.rfilename.lower().endswith(".gguf")
    }
    if candidates(files):
        return Listing(info.sha, files)
    if any(sibling.rfilename.endswith(".safetensors") for sibling in siblings):
        folder = repo.rpartition("/")[2]
        raise UnsupportedError(
            f"{repo}: is a checkpoint (safetensors), without a GGUF file: download it with 'hf download {repo} "
            f"--local-dir {folder}' and convert it with 'gemlet convert {folder} -o {folder}.gguf'"
        )
    raise UnsupportedError(f"{repo}: has no GGUF file of a text model")


def _remote_file(repo: str, sibling: Any) -> RemoteFile:
    """Large files are stored by their SHA-256, small ones as blobs of Git."""
    if sibling.lfs is not None:
        size, checksum = sibling.lfs.size, Checksum("sha256", sibling.lfs.sha256)
        valid = isinstance(checksum.digest, str) and _SHA256.fullmatch(checksum.digest)
    else:
        size, checksum = sibling.size, Checksum("git", sibling.blob_id)
        valid = isinstance(checksum.digest, str) and _SHA1.fullmatch(checksum.digest)
    if not valid or not isinstance(size, int) or size < 0:
        raise FormatError(
            f"{repo}: {sibling.rfilename}: expected a size and a sum from the hub, found {size!r} and "
            f"{checksum.digest!r}"
        )
    return RemoteFile(sibling.rfilename, size, checksum)


def _get(hub: Any, repo: str, commit: str, file: RemoteFile, folder: Path, advance: Callable[[int], object]) -> int:
    """Bring a file's contents into the cache under the name of its sum; the bytes that were downloaded for that."""
    blobs = folder / "blobs"
    try:
        blobs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{blobs}: cannot be made: {error.strerror}") from error
    blob = blobs / file.checksum.digest
    with locked(blobs / f".{blob.name}.lock"):
        if blob.exists():
            if file.checksum.fits(blob, file.size, advance):
                return 0
            blob.unlink()
        partial = blobs / f"{blob.name}.gemlet.incomplete"
        here = partial.lstat().st_size if is_plain_file(partial) else 0
        check_space(blobs, file.size - here, blob)
        source = Source(
            url=hub.hf_hub_url(repo, file.name, revision=commit),
            headers={**hub.utils.build_hf_headers(), "Accept-Encoding": "identity"},
            name=f"{repo}/{file.name}",
            size=file.size,
            checksum=file.checksum,
        )
        with explained(repo):
            downloaded = fetch(hub, source, partial, advance)
        place(partial, blob)
        return downloaded


def _place(hub: Any, repo: str, commit: str, file: RemoteFile, cache: Path) -> Path:
    """Let the client give a file its name in the snapshot of its commit."""
    with explained(repo):
        path = Path(hub.hf_hub_download(repo, file.name, revision=commit, cache_dir=cache))
    if path.is_symlink() and path.readlink().name != file.checksum.digest:
        path.unlink()
        raise FormatError(f"{repo}/{file.name}: the hub gives two different sums for it")
    if path.stat().st_size != file.size:
        raise FormatError(f"{path}: expected {file.size} bytes, found {path.stat().st_size}")
    return path


def _set_main(folder: Path, commit: str) -> None:
    """Note what main is, as the client does when it asks for main itself."""
    refs = folder / "refs"
    refs.mkdir(exist_ok=True)
    with replacing(refs / "main") as file:
        file.write(commit.encode())
