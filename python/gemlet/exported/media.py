"""What an exported folder's manifest says of its encoders, and how they are used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from gemlet import _core
from gemlet.errors import ArgumentError, FormatError, UnsupportedError

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIZES: Final = (256, 512, 768)
"""Pixels of a picture, each way."""
FRAMES_OF_A_TOKEN: Final = 16
"""Of the spectrogram, in a soft token of a sound."""

_MOST_TOKENS: Final = 1 << 14
_MOST_BINS: Final = 512
_LOUDEST: Final = 16.0
"""As in the core: resampling overshoots; a sound of whole numbers of 16 bits is another."""

FILES: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "onnx": {
        "vision": (*(f"vision-{size}.onnx" for size in SIZES), "vision.onnx.data"),
        "audio": ("audio.onnx", "audio.onnx.data"),
    },
    "tflite": {"vision": ("vision.tflite",), "audio": ("audio.tflite",)},
}
"""The files of each format's encoders."""


@dataclass(frozen=True)
class VisionInfo:
    """The encoder of pictures."""

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
            None if vision is None else VisionInfo(_row(vision, "vision", "end", hidden_size)),
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
    is_row = isinstance(value, (list, tuple)) and len(value) == size and all(type(v) in (int, float) for v in value)
    if not is_row or not np.isfinite(np.array(value, np.float64)).all():
        raise FormatError(f"gemlet.json: media.{kind}.{name} is {value!r:.80}, expected {size} finite numbers")
    return tuple(map(float, value or ()))


class EncoderGraphs(Protocol):
    """The encoders of a folder in its runtime."""

    def see(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """The soft tokens of a square picture in [0, 1], [256][hidden]."""

    def hear(self, mel: NDArray[np.float32]) -> NDArray[np.float32]:
        """The soft tokens of a sound's spectrogram, [tokens][hidden]."""


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

    def picture_rows(self, pixels: NDArray[np.uint8], size: int = 768) -> NDArray[np.float32]:
        """The soft tokens of a picture of any shape, uint8[height][width][3], without the end mark."""
        if size not in SIZES:
            raise ArgumentError(f"size is {size}, expected 256, 512 or 768")
        if not self.sees:
            raise self._missing("pictures")
        resized = _core.resize(pixels, size, size)
        return self._checked(self._graphs.see(resized.astype(np.float32) / np.float32(255)))

    def sound_rows(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """The soft tokens of a sound, mono at 16 kHz, without padding and end mark."""
        if self._info.audio is None:
            raise self._missing("sound")
        loud = np.flatnonzero(~(np.abs(samples) <= _LOUDEST))
        if loud.size:
            raise ArgumentError(f"sample {loud[0]} is {samples[loud[0]]}, expected a number in [-1, 1]")
        return self._checked(self._graphs.hear(_core.log_mel(samples, self._info.audio.mel_bins)))

    def _missing(self, medium: str) -> UnsupportedError:
        return UnsupportedError(f"{self._name}: holds no encoder for {medium}")

    def _checked(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        if not np.isfinite(rows).all():
            raise FormatError(
                f"{self._name}: the encoder computes values that are not numbers; its weights are damaged"
            )
        return rows
