"""Decodes sounds to one channel at 16 kHz, block by block: what a file claims of its length allocates nothing."""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, BinaryIO

from gemlet.errors import FormatError, GemletError, OutOfMemoryError, UnsupportedError
from gemlet.forked import importing
from gemlet.media.containers import HEAD, Container, container_of
from gemlet.media.limits import HIGHEST_RATE, LONGEST_RECORDING, LOUDEST, LOWEST_RATE, MOST_CHANNELS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RATE = 16_000
"""Samples a second that the encoders hear."""
_BLOCK = 1 << 17
"""Samples that are decoded at a time, in all channels together."""


@dataclass(frozen=True)
class Raw:
    """A sound as it comes out of a decoder: blocks of float32, [samples][channels]."""

    rate: int
    channels: int
    blocks: "Iterable[NDArray[np.float32]]"
    seconds: float = 0.0
    """The length that the file claims, or 0: for progress only."""


def check_container(head: bytes, name: str) -> Container:
    """The container of a sound that begins so. Raises FormatError for one that is not decoded."""
    container = container_of(head)
    if container is None:
        raise FormatError(
            f"{name}: not a sound that can be decoded, expected WAV, FLAC, Ogg, Opus, MP3 or AIFF, or with PyAV MP4, "
            "M4A, AAC, Matroska, WebM, WMA, AMR or AVI"
        )
    return container


@contextlib.contextmanager
def opened(file: BinaryIO, name: str) -> Iterator[Raw]:
    """Open a sound file and check what it says of itself.

    Raises:
        FormatError: not a sound, or a damaged one.
        UnsupportedError: rates or channels that are not taken, or the library that decodes it is missing.
    """
    head = file.read(HEAD)
    file.seek(0)
    container = check_container(head, name)
    open_it = _by_pyav(file, name, container) if container.demuxer else _by_soundfile(file, name)
    with contextlib.ExitStack() as stack:
        with _explained(name):
            raw = stack.enter_context(open_it)
        check_format(raw.rate, raw.channels, name, UnsupportedError)
        yield replace(raw, blocks=_explained_blocks(raw.blocks, name))


def check_format(rate: int, channels: int, name: str, error: type[GemletError]) -> None:
    """Raise the error for a rate or a number of channels that no sound has."""
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise error(f"{name}: has {rate} samples a second, expected {LOWEST_RATE} to {HIGHEST_RATE}")
    if not 1 <= channels <= MOST_CHANNELS:
        raise error(f"{name}: has {channels} channels, expected 1 to {MOST_CHANNELS}")


def worst_sample(samples: "NDArray[np.floating[Any]]") -> float | None:
    """A sample that is no number or far too loud, if there is one."""
    with importing:
        import numpy as np

    fine = np.abs(samples) <= LOUDEST  # false for what is no number
    return None if fine.all() else float(samples.flat[int(np.argmin(fine))])


def converted(raw: Raw, name: str, longest: float = LONGEST_RECORDING) -> "Iterator[NDArray[np.float32]]":
    """The mean of the channels at 16 kHz, block by block; how it is cut into blocks changes nothing.

    Raises:
        FormatError: a sample that is no number or far too loud; no samples at all.
        UnsupportedError: more than ``longest`` seconds; or soxr, which resamples, is missing.
    """
    with importing:
        import numpy as np

    resampler = _resampler(raw.rate, name) if raw.rate != RATE else None
    count = given = 0
    for block in raw.blocks:
        if (worst := worst_sample(block)) is not None:
            raise FormatError(f"{name}: a sample is {worst}, expected numbers in [-1, 1]")
        count += len(block)
        if count > longest * raw.rate:
            raise UnsupportedError(f"{name}: is longer than {longest:,.0f} seconds, the most that is decoded")
        mono = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1)
        mono = np.ascontiguousarray(mono, np.float32)
        if resampler is not None:
            mono = resampler.resample_chunk(mono)
        if len(mono):
            given += len(mono)
            yield mono
    rest = (
        np.empty(0, np.float32) if resampler is None else resampler.resample_chunk(np.empty(0, np.float32), last=True)
    )
    if given + len(rest) == 0:
        raise FormatError(f"{name}: has no samples at {RATE} Hz ({count} at {raw.rate} Hz), expected at least one")
    if len(rest):
        yield rest


@contextlib.contextmanager
def _explained(name: str) -> Iterator[None]:
    """Name the sound in what the libraries raise."""
    try:
        yield
    except GemletError:
        raise
    except MemoryError as error:
        raise OutOfMemoryError(f"{name}: there is not enough memory to decode the sound") from error
    except Exception as error:
        raise FormatError(f"{name}: the sound is damaged: {error or type(error).__name__}") from error


def _explained_blocks(blocks: "Iterable[NDArray[np.float32]]", name: str) -> "Iterator[NDArray[np.float32]]":
    """What their user raises between two of them is none of the libraries'."""
    iterator = iter(blocks)
    while True:
        with _explained(name):
            block = next(iterator, None)
        if block is None:
            return
        yield block


def _resampler(rate: int, name: str) -> Any:
    try:
        with importing:
            import soxr
    except ImportError as error:
        raise UnsupportedError(
            f"{name}: has {rate} samples a second, and resampling to {RATE} needs soxr: pip install 'gemlet[media]'"
        ) from error
    return soxr.ResampleStream(rate, RATE, 1, dtype="float32", quality="HQ")


@contextlib.contextmanager
def _by_soundfile(file: BinaryIO, name: str) -> Iterator[Raw]:
    try:
        with importing:
            import soundfile
    except (ImportError, OSError) as error:  # it loads a library of the system where it brings none
        raise UnsupportedError(f"{name}: decoding sound needs soundfile: pip install 'gemlet[media]'") from error
    try:
        sound = soundfile.SoundFile(_Seekable(file))
    except soundfile.LibsndfileError as error:
        raise FormatError(f"{name}: not a sound that can be decoded: {error.error_string}") from error
    with sound:
        seconds = sound.frames / max(sound.samplerate, 1)
        yield Raw(sound.samplerate, sound.channels, _blocks(sound), seconds)


class _Seekable:
    """A file that libsndfile calls back, which prints what is raised there."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.read, self.tell = file.read, file.tell

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go elsewhere, or stay where the place is none that a file has."""
        try:
            return self._file.seek(offset, whence)
        except (OSError, OverflowError, ValueError):
            return self._file.tell()


def _blocks(sound: Any) -> "Iterator[NDArray[np.float32]]":
    while len(block := sound.read(max(_BLOCK // sound.channels, 1), dtype="float32", always_2d=True)):
        yield block


@contextlib.contextmanager
def _by_pyav(file: BinaryIO, name: str, container: Container) -> Iterator[Raw]:
    try:
        with importing:
            import av
    except ImportError as error:
        raise UnsupportedError(f"{name}: sound in {container.name} needs PyAV: pip install 'gemlet[av]'") from error
    # The demuxer is named, because some others open the files and addresses that stand in a file.
    with av.open(file, format=container.demuxer, options={"protocol_whitelist": "none"}) as opened:
        if not opened.streams.audio:
            raise FormatError(f"{name}: has no sound track")
        stream = opened.streams.audio[0]
        seconds = (opened.duration or 0) / av.time_base
        yield Raw(stream.rate or 0, stream.channels, _frames(opened, stream, name), seconds)


def _frames(opened: Any, stream: Any, name: str) -> "Iterator[NDArray[np.float32]]":
    with importing:
        import av

    to_float = av.AudioResampler(format="flt")
    for frame in opened.decode(stream):
        if (frame.sample_rate, len(frame.layout.channels)) != (stream.rate, stream.channels):
            raise UnsupportedError(f"{name}: its rate or channels change on the way, expected one format")
        for block in to_float.resample(frame):
            yield block.to_ndarray().reshape(-1, stream.channels)
