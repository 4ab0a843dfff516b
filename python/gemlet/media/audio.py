"""A sound for a model."""

import contextlib
import functools
import hashlib
import io
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gemlet.arguments import checked_methods
from gemlet.errors import ArgumentError, ArgumentTypeError
from gemlet.files import open_file, to_path
from gemlet.forked import importing
from gemlet.media.encodings import Encodings
from gemlet.media.limits import LONGEST_SOUND
from gemlet.media.sound import RATE, Raw, check_container, check_format, converted, opened, worst_sample
from gemlet.media.source import Encoded, is_data_url, is_url, read_source
from gemlet.media.wav import to_wav

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SAMPLES = b"samples at 16 kHz: "
"""Stands before what is hashed of samples: no file of a sound begins so."""


@dataclass(frozen=True)
class Recording:
    """A sound that is being decoded."""

    seconds: float
    """The length that it claims, or 0."""
    blocks: "Iterator[NDArray[np.float32]]"
    """Its samples, one channel at 16 kHz."""


@checked_methods
class Audio:
    """A sound: what a message may have beside text.

    A file's or data: URL's bytes are read once and kept, and decoded whenever ``samples`` is asked for: compressed
    sound takes a tenth of its samples' memory. The format is checked at once. Samples of an array are kept as the
    encoder takes them, at 16 kHz.
    """

    def __init__(self, source: Any, rate: int | None = None) -> None:
        """Take a sound.

        Args:
            source: a path; the bytes of a file (WAV, FLAC, Ogg, Opus, MP3 or AIFF, which need
                ``pip install 'gemlet[media]'``; MP4, M4A, AAC, WebM and others, and the sound track of videos, need
                ``pip install 'gemlet[av]'``); a ``data:`` URL; or an array, (samples,) or (samples, channels), of
                floats in [-1, 1], int16 or int32.
            rate: samples a second of an array. A file tells its own.

        Raises:
            FileError: the file cannot be read.
            FormatError: not a sound, or a damaged one.
            UnsupportedError: a rate or a number of channels that is not taken, or a library is missing.
            ArgumentError: an array of another type or shape or without a rate; a rate beside a file.
        """
        with importing:
            import numpy as np

        self._encodings = Encodings()
        self._held: Encoded | NDArray[np.float32]
        if isinstance(source, np.ndarray):
            if rate is None:
                raise ArgumentError("the sound is an array: expected its rate, in samples a second")
            self._held = _of_array(source, rate)
            self._held.setflags(write=False)
        elif (encoded := read_source(source, "sound")) is not None:
            if rate is not None:
                raise ArgumentError(f"rate is {rate}, expected none: {encoded.name} tells its own")
            with opened(io.BytesIO(encoded.data), encoded.name):
                self._held = encoded
        else:
            raise ArgumentTypeError(
                f"the sound: expected a path, bytes, a data: URL or an array, found {type(source).__name__}"
            )

    @property
    def samples(self) -> "NDArray[np.float32]":
        """The samples: float32, one channel, 16 kHz.

        Raises:
            FormatError: a sound that is damaged, or that has no samples.
            UnsupportedError: one of more than an hour.
        """
        with importing:
            import numpy as np

        return np.concatenate(list(self.blocks())) if isinstance(self._held, Encoded) else self._held.view()

    @functools.cached_property
    def seconds(self) -> float:
        """The length, which is counted: a file's claim may be wrong. Raises what ``samples`` does."""
        return sum(map(len, self.blocks())) / RATE

    def blocks(self) -> "Iterator[NDArray[np.float32]]":
        """The samples in pieces of some length, of which only one is in memory."""
        with self.open() as recording:
            yield from recording.blocks

    @contextlib.contextmanager
    def open(self) -> "Iterator[Recording]":
        """Begin to decode it."""
        if isinstance(self._held, Encoded):
            name = self._held.name
            with opened(io.BytesIO(self._held.data), name) as raw:
                yield Recording(raw.seconds, converted(raw, name, LONGEST_SOUND))
        else:
            yield Recording(len(self._held) / RATE, iter([self._held.view()]))

    @functools.cached_property
    def digest(self) -> str:
        """The SHA-256 of the file's bytes, or of the samples where there is no file."""
        if isinstance(self._held, Encoded):
            return hashlib.sha256(self._held.data).hexdigest()
        return hashlib.sha256(_SAMPLES + self._held.tobytes()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """As JSON, with the bytes of the file; samples become a WAV file of floats, which loses nothing."""
        if isinstance(self._held, Encoded):
            url = self._held.to_url(check_container(self._held.data, self._held.name).mime)
        else:
            url = Encoded("", to_wav(self._held, RATE)).to_url("audio/wav")
        return {"type": "audio", "data": url}

    @classmethod
    def of_dict(cls, value: Mapping[str, Any]) -> "Audio":
        """What ``to_dict`` gave; it names no files. Raises what making an Audio does."""
        data = value.get("data")
        if not isinstance(data, str) or not is_data_url(data):
            raise ArgumentError(f"the sound's data is {data!r:.40}, expected a data: URL")
        return cls(data)

    def __eq__(self, other: object) -> bool:
        """Whether the bytes are the same."""
        return self.digest == other.digest if isinstance(other, Audio) else NotImplemented

    def __hash__(self) -> int:
        """By what is compared."""
        return hash(self.digest)

    def __repr__(self) -> str:
        """Where it is from."""
        name = self._held.name if isinstance(self._held, Encoded) else f"{len(self._held)} samples at {RATE} Hz"
        return f"<gemlet.Audio from {name}>"


@contextlib.contextmanager
def open_recording(source: Any) -> Iterator[Recording]:
    """Begin to decode an Audio, or what one is made of; a file may be of any size here, and is not held in memory.

    Raises what making an Audio does.
    """
    is_path = isinstance(source, os.PathLike) or (isinstance(source, str) and not is_url(source))
    if not is_path:
        with (source if isinstance(source, Audio) else Audio(source)).open() as recording:
            yield recording
        return
    path = to_path(source)
    with open_file(path) as file, opened(file, str(path)) as raw:
        yield Recording(raw.seconds, converted(raw, str(path)))


def _of_array(array: "NDArray[Any]", rate: int) -> "NDArray[np.float32]":
    with importing:
        import numpy as np

    if array.dtype.kind == "f":
        scale = 1.0
    elif array.dtype.newbyteorder("=") in (np.int16, np.int32):
        scale = 1 / -float(np.iinfo(array.dtype).min)
    else:
        raise ArgumentTypeError(f"the sound is an array of {array.dtype}, expected floats in [-1, 1], int16 or int32")
    samples = array[:, None] if array.ndim == 1 else array
    if samples.ndim != 2:
        raise ArgumentError(
            f"the sound is an array of the shape {array.shape}, expected (samples,) or (samples, channels)"
        )
    check_format(rate, samples.shape[1], "the sound", ArgumentError)
    if len(samples) == 0:
        raise ArgumentError("the sound has no samples, expected at least one")
    if len(samples) > LONGEST_SOUND * rate:
        raise ArgumentError(f"the sound has {len(samples) / rate:,.0f} seconds, expected at most {LONGEST_SOUND:,}")
    with np.errstate(over="ignore"):  # what float32 does not hold becomes infinite
        floats = (samples * np.float32(scale)).astype(np.float32)
    if (worst := worst_sample(floats)) is not None:
        raise ArgumentError(f"a sample of the sound is {worst}, expected numbers in [-1, 1]")
    return np.concatenate(list(converted(Raw(rate, samples.shape[1], [floats]), "the sound", LONGEST_SOUND)))
