"""Exported encoders in LiteRT."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gemlet.errors import ArgumentError, FormatError
from gemlet.forked import abandon, renew_in_children

from .media import FRAMES_OF_A_TOKEN
from .tflite import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

_AUDIO: Final = "audio_"
_SOFT_TOKENS: Final = "soft_tokens"


class _Graphs:
    """A file whose signatures are run with values, and loaded when one is first run. Used by any number of threads,
    which take turns. A forked child loads it again."""

    def __init__(self, model: Path, threads: int) -> None:
        self._file = model
        self._threads = threads
        self._turn = threading.RLock()
        self._model: Any = None
        renew_in_children(self)

    def renew_after_fork(self) -> None:
        """In a forked child: leave the runtime's threads to the parent."""
        self._turn = threading.RLock()
        if self._model is not None:
            abandon(self._model)
            self._model = None

    def names(self) -> list[str]:
        """The signatures."""
        with self._turn:
            return list(self._loaded().get_signature_list())

    def run(self, signature: str, values: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """The soft tokens that a signature computes, [tokens][hidden]."""
        with self._turn:
            model = self._loaded()
            inputs = {name: model.create_input_buffer_by_name(signature, name) for name in values}
            for name, value in values.items():
                inputs[name].write(value)
            rows = model.create_output_buffer_by_name(signature, _SOFT_TOKENS)
            shape = model.get_output_tensor_details(signature)[_SOFT_TOKENS]["shape"]
            model.run_by_name(signature, inputs, {_SOFT_TOKENS: rows})
            found: NDArray[np.float32] = rows.read(math.prod(shape), np.float32).reshape(shape[1:])
            return found

    def _loaded(self) -> Any:
        if self._model is None:
            try:
                with compiled(self._file, self._threads) as self._model:
                    pass
            except Exception as error:  # LiteRT has no types of its own
                raise FormatError(f"{self._file}: LiteRT does not load it: {error}") from error
        return self._model


class TfliteEncoders:
    """Files that gemlet.export wrote. Used by any number of threads, which take turns."""

    def __init__(self, folder: Path, threads: int) -> None:
        self._vision = _Graphs(folder / "vision.tflite", threads)
        self._audio = _Graphs(folder / "audio.tflite", threads)

    def see(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """The soft tokens of a picture, [256][hidden]."""
        return self._vision.run(f"vision_{len(pixels)}", {"pixels": np.ascontiguousarray(pixels[None])})

    def hear(self, mel: NDArray[np.float32]) -> NDArray[np.float32]:
        """The soft tokens of a sound, [tokens][hidden]. Raises ArgumentError for one that no signature holds."""
        lengths = sorted(int(name.removeprefix(_AUDIO)) for name in self._audio.names() if name.startswith(_AUDIO))
        count = -(-len(mel) // FRAMES_OF_A_TOKEN)
        length = next((length for length in lengths if length >= count), None)
        if length is None:
            raise ArgumentError(f"the sound has {count} soft tokens, expected at most {max(lengths, default=0)}")
        frames = length * FRAMES_OF_A_TOKEN
        padded = np.zeros((1, frames, mel.shape[1]), np.float32)
        padded[0, : len(mel)] = mel
        mask = (np.arange(frames) < len(mel)).astype(np.float32)[None]
        return self._audio.run(f"{_AUDIO}{length}", {"mel": padded, "mask": mask})[:count]


def open_encoders(folder: Path, threads: int) -> TfliteEncoders:
    """The encoders in an exported folder. Each is loaded when it is first used."""
    return TfliteEncoders(folder, threads)
