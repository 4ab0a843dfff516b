"""Writes samples as a WAV file, so that saving a conversation needs no library of sounds."""

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_FLOAT = 3  # the format's tag
_BYTES = 4


def to_wav(samples: "NDArray[np.float32]", rate: int) -> bytes:
    """A WAV file of one channel of float32, which loses no bit."""
    data = samples.astype("<f4").tobytes()
    kind = struct.pack("<HHIIHH", _FLOAT, 1, rate, rate * _BYTES, _BYTES, 8 * _BYTES)
    body = b"WAVE" + _chunk(b"fmt ", kind) + _chunk(b"data", data)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data
