"""What an exported folder's manifest says of its encoders, and how they are used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import numpy as np

from gemlet import _core
from gemlet.errors import ArgumentError, CancelledError, FormatError, UnsupportedError
from gemlet.media.limits import LOUDEST

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIZES: Final = (256, 512, 768)
"""Pixels of a picture, each way."""
FRAMES_OF_A_TOKEN: Final = 16
"""Of the spectrogram, in a soft token of a sound."""

_MOST_TOKENS: Final = 1 << 14
_MOST_BINS: Final = 512
_LARGEST: Final = float(np.finfo(np.float32).max)
_PICTURE: Final = "<start_of_image>"
_SOUND: Final = "<start_of_audio>"
_TOKENS_OF_A_PICTURE: Final = 256

FILES: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "onnx": {
        "vision": (*(f"vision-{size}.onnx" for size in SIZES), "vision.onnx.data"),
        "audio": ("audio.onnx", "audio.onnx.data"),
    },
    "tflite": {"vision": ("vision.tflite",), "audio": ("audio.tflite",)},
}
"""The files of each format's encoders."""
EMBEDDERS: Final[Mapping[str, tuple[str, ...]]] = {"onnx": ("embedder.onnx",), "tflite": ()}
"""The files of a text model with encoders that one without has not."""


@dataclass(frozen=True)
class VisionInfo:
    """The encoder of pictures."""

    size: int
    """Pixels of a picture each way, unless told otherwise."""
    end: tuple[float, ...]
    """The embedding that marks the end of a picture, behind its soft tokens."""


@dataclass(frozen=True)
class AudioInfo:
    """The encoder of sounds."""

    mel_bins: int
    filled_tokens: int
    """Soft tokens that a short sound is filled up to."""
    padding: tuple[float, ...]
    """The embedding that it is filled up with."""
    end: tuple[float, ...]
    """The embedding that marks the end of a sound."""


@dataclass(frozen=True)
class MediaInfo:
    """The encoders of a folder."""

    vision: VisionInfo | None
    audio: AudioInfo | None

    @classmethod
    def of(cls, found: Mapping[str, Any], hidden_size: int) -> MediaInfo:
        """From the manifest. Raises FormatError naming the field."""
        vision = _object(found, "vision")
        audio = _object(found, "audio")
        return cls(
            None
            if vision is None
            else VisionInfo(
                _count(vision, "vision", "size", SIZES[0], SIZES[-1]), _row(vision, "vision", "end", hidden_size)
            ),
            None
            if audio is None
            else AudioInfo(
                _count(audio, "audio", "mel_bins", 8, _MOST_BINS),
                _count(audio, "audio", "filled_tokens", 0, _MOST_TOKENS),
                _row(audio, "audio", "padding", hidden_size),
                _row(audio, "audio", "end", hidden_size),
            ),
        )

    @property
    def kinds(self) -> list[str]:
        """What there is of "vision" and "audio"."""
        return [name for name in ("vision", "audio") if getattr(self, name) is not None]


def _object(found: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    value = found.get(name)
    if value is not None and not isinstance(value, dict):
        raise FormatError(f"gemlet.json: media.{name} is {value!r:.80}, expected an object")
    return value


def _count(found: Mapping[str, Any], kind: str, name: str, low: int, high: int) -> int:
    value = found.get(name)
    if type(value) is not int or not low <= value <= high:
        raise FormatError(f"gemlet.json: media.{kind}.{name} is {value!r:.80}, expected {low} to {high}")
    return value


def _row(found: Mapping[str, Any], kind: str, name: str, size: int) -> tuple[float, ...]:
    value = found.get(name)
    if not isinstance(value, (list, tuple)) or len(value) != size or not all(map(_is_number, value)):
        raise FormatError(f"gemlet.json: media.{kind}.{name} is {value!r:.80}, expected {size} finite numbers")
    return tuple(map(float, value))


def _is_number(value: object) -> bool:
    """Whether it is one that float32 holds."""
    return type(value) in (int, float) and abs(cast("float", value)) <= _LARGEST


def _rows(row: tuple[float, ...], count: int) -> NDArray[np.float32]:
    """The row, so many times."""
    return np.tile(np.array(row, np.float32), (count, 1))


class EncoderGraphs(Protocol):
    """The encoders of a folder in its runtime."""

    def see(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """The soft tokens of a square picture in [0, 1], [256][hidden]."""

    def hear(self, mel: NDArray[np.float32]) -> NDArray[np.float32]:
        """The soft tokens of a sound's spectrogram, [tokens][hidden]."""


class ExportedEncoding:
    """A picture or a sound that is encoded when somebody waits for it, in one step."""

    def __init__(self, encode: Callable[[], _core.Medium]) -> None:
        self._encode = encode
        self._medium: _core.Medium | None = None
        self._is_cancelled = False

    def next(self) -> None:
        """Encode it. Raises CancelledError after `cancel`; what has begun is not stopped."""
        if self._is_cancelled:
            raise CancelledError("the encoding of a picture or a sound was cancelled")
        self._medium = self._medium or self._encode()

    def cancel(self) -> None:
        self._is_cancelled = True

    def finish(self) -> _core.Medium:
        self.next()
        assert self._medium is not None
        return self._medium


class ExportedEncoders:
    """The encoders of an exported folder, used like the core's."""

    def __init__(self, graphs: EncoderGraphs, info: MediaInfo, name: str) -> None:
        """`name`: of the folder, for messages."""
        self._graphs = graphs
        self._info = info
        self._name = name

    @property
    def sees(self) -> bool:
        return self._info.vision is not None

    @property
    def hears(self) -> bool:
        return self._info.audio is not None

    @property
    def picture_tokens(self) -> int:
        return _TOKENS_OF_A_PICTURE + 1

    def encode(self, pixels: NDArray[np.uint8], size: int = 0) -> ExportedEncoding:
        """Begin to encode a picture of any shape, uint8[height][width][3]."""
        return ExportedEncoding(lambda: self._picture(pixels, size))

    def encode_sound(self, samples: NDArray[np.float32]) -> ExportedEncoding:
        """Begin to encode a sound, float32 at 16 kHz."""
        return ExportedEncoding(lambda: self._sound(samples))

    def _picture(self, pixels: NDArray[np.uint8], size: int) -> _core.Medium:
        if self._info.vision is None:
            raise self._missing("pictures")
        size = size or self._info.vision.size
        if size not in SIZES:
            raise ArgumentError(f"size is {size}, expected 256, 512 or 768")
        resized = _core.resize(pixels, size, size)
        rows = self._checked(self._graphs.see(resized.astype(np.float32) / np.float32(255)))
        return _core.Medium(_PICTURE, np.concatenate([rows, _rows(self._info.vision.end, 1)]))

    def _sound(self, samples: NDArray[np.float32]) -> _core.Medium:
        info = self._info.audio
        if info is None:
            raise self._missing("sound")
        loud = np.flatnonzero(~(np.abs(samples) <= LOUDEST))
        if loud.size:
            raise ArgumentError(f"sample {loud[0]} is {samples[loud[0]]}, expected a number in [-1, 1]")
        rows = self._checked(self._graphs.hear(_core.log_mel(samples, info.mel_bins)))
        missing = max(info.filled_tokens - len(rows), 0)
        return _core.Medium(_SOUND, np.concatenate([rows, _rows(info.padding, missing), _rows(info.end, 1)]))

    def _missing(self, medium: str) -> UnsupportedError:
        return UnsupportedError(f"{self._name}: holds no encoder for {medium}")

    def _checked(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        hidden_size = len(next(part.end for part in (self._info.vision, self._info.audio) if part is not None))
        if rows.ndim != 2 or rows.shape[1] != hidden_size:
            raise FormatError(f"{self._name}: the encoder gives {rows.shape} values, expected rows of {hidden_size}")
        if not np.isfinite(rows).all():
            raise FormatError(
                f"{self._name}: the encoder computes values that are not numbers; its weights are damaged"
            )
        return rows
