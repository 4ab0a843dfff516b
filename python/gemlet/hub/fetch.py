"""Fetching one file over HTTP: resumed where it broke off, and checked."""

import hashlib
import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from gemlet.errors import FileError, FormatError
from gemlet.files import disk_explained
from gemlet.hub.files import Hash, add_to_hash, new_sha256

_WAITS = (0, 1, 3, 7)
"""Seconds before trying again after so many failures in a row without a byte."""
_PARTIAL_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True)
class Checksum:
    """A file's sum: its SHA-256, or the SHA-1 that Git gives it."""

    kind: Literal["sha256", "git"]
    digest: str

    def start(self, size: int) -> Hash:
        """A hash that contents of that size are to be added to."""
        if self.kind == "sha256":
            return new_sha256()
        digest = hashlib.sha1(usedforsecurity=False)
        digest.update(f"blob {size}\0".encode())
        return digest

    def fits(self, path: Path, size: int, advance: Callable[[int], object]) -> bool:
        """Whether a file has this sum; `advance` takes the bytes that are read."""
        if path.stat().st_size != size:
            return False
        digest = self.start(size)
        with path.open("rb") as file:
            add_to_hash(digest, file, lambda _: advance(file.tell()))
        return digest.hexdigest() == self.digest


@dataclass(frozen=True)
class Source:
    """Where a file is and what it has to be."""

    url: str
    headers: dict[str, str]
    name: str
    size: int
    checksum: Checksum


def fetch(hub: Any, source: Source, partial: Path, advance: Callable[[int], object]) -> int:
    """Complete `partial`, which an earlier call may have begun; the bytes that were downloaded for it.

    A connection that breaks is taken up again where it ended; after several failures in a row without a byte the last
    one is raised, and `partial` stays for the next call. With a wrong sum or a full disk it is removed.
    """
    with disk_explained(partial), os.fdopen(_open(partial), "r+b") as file:
        try:
            return _Fetch(hub, source, file, advance).run()
        except FormatError:
            partial.unlink(missing_ok=True)
            raise
        except OSError as error:
            if error.errno is not None and not isinstance(error, FileError):
                partial.unlink(missing_ok=True)
            raise


def _open(partial: Path) -> int:
    try:
        handle = os.open(partial, _PARTIAL_FLAGS, 0o644)
    except OSError as error:
        raise FileError(f"{partial}: cannot be written: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise FileError(f"{partial}: cannot be written: is not a regular file")
    return handle


class _Fetch:
    """The state of one download: the file, and the hash of what it holds."""

    def __init__(self, hub: Any, source: Source, file: BinaryIO, advance: Callable[[int], object]) -> None:
        self._hub = hub
        self._source = source
        self._file = file
        self._advance = advance
        self._done = 0
        self._downloaded = 0
        self._hash = source.checksum.start(source.size)

    def run(self) -> int:
        """Returns the number of bytes that came."""
        self._take_up()
        failures = 0
        while self._done < self._source.size:
            before = self._downloaded
            try:
                self._stream()
            except self._hub.errors.HfHubHTTPError:
                raise
            except self._hub.errors.HTTPError:
                failures = 1 if self._downloaded > before else failures + 1
                if failures > len(_WAITS):
                    raise
                time.sleep(_WAITS[failures - 1])
        self._file.flush()
        os.fsync(self._file.fileno())
        if self._hash.hexdigest() != self._source.checksum.digest:
            raise FormatError(
                f"{self._source.name}: what was downloaded is damaged and was removed: expected the sum "
                f"{self._source.checksum.digest}, found {self._hash.hexdigest()}; try again"
            )
        return self._downloaded

    def _take_up(self) -> None:
        """Hash what an earlier call has left."""
        if os.fstat(self._file.fileno()).st_size > self._source.size:
            self._restart()
        add_to_hash(self._hash, self._file, lambda _: self._advance(self._file.tell()))
        self._done = self._file.tell()

    def _restart(self) -> None:
        self._file.seek(0)
        self._file.truncate()
        self._done = 0
        self._hash = self._source.checksum.start(self._source.size)

    def _stream(self) -> None:
        """Download from where the file ends until all is here or the connection ends."""
        headers = self._source.headers | ({"Range": f"bytes={self._done}-"} if self._done else {})
        timeout = self._hub.constants.HF_HUB_DOWNLOAD_TIMEOUT
        session = self._hub.utils.get_session()
        with session.stream("GET", self._source.url, headers=headers, timeout=timeout) as response:
            self._hub.utils.hf_raise_for_status(response)
            if self._done and not _continues(response, self._done):
                self._restart()
            for block in response.iter_bytes():
                if self._done + len(block) > self._source.size:
                    raise FormatError(
                        f"{self._source.name}: expected {self._source.size} bytes, and the hub sends more"
                    )
                self._file.write(block)
                self._hash.update(block)
                self._done += len(block)
                self._downloaded += len(block)
                self._advance(self._done)
        if self._done < self._source.size:
            raise self._hub.errors.HTTPError(f"{self._source.name}: the connection ended early")


def _continues(response: Any, start: int) -> bool:
    """Whether the answer is the rest that was asked for, not the whole file again."""
    given: str = response.headers.get("Content-Range", "")
    return bool(response.status_code == 206 and given.startswith(f"bytes {start}-"))
