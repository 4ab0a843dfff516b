"""Writes pixels as a PNG file, so that saving a conversation needs no library of pictures."""

import struct
import zlib
from typing import TYPE_CHECKING

from gemlet.forked import importing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_RGB = 2
_UP = 2  # the filter: each byte as its difference from that above it


def to_png(pixels: "NDArray[np.uint8]") -> bytes:
    """A PNG file of uint8[height][width][3]."""
    with importing:
        import numpy as np

    height, width, _ = pixels.shape
    rows = np.diff(pixels.reshape(height, -1), axis=0, prepend=np.uint8(0))
    lines = np.concatenate([np.full((height, 1), _UP, np.uint8), rows], axis=1)
    header = struct.pack(">IIBBBBB", width, height, 8, _RGB, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes())), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
