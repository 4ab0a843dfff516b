"""Files of pictures and sounds, made on the fly."""

from __future__ import annotations

import io
import struct
import zlib
from fractions import Fraction
from typing import Any

import av
import numpy as np
import soundfile
from numpy.typing import NDArray
from PIL import Image


def picture_file(image: Image.Image, format: str, **options: Any) -> bytes:
    """What Pillow writes."""
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def sound_file(samples: NDArray[Any], rate: int, format: str, subtype: str | None = None) -> bytes:
    """What libsndfile writes."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=format, subtype=subtype)
    return file.getvalue()


def av_file(
    samples: NDArray[np.float32], rate: int, format: str = "mp4", codec: str = "aac", video: bool = False
) -> bytes:
    """What FFmpeg writes: sound of one channel, with pictures beside it or not."""
    file = io.BytesIO()
    with av.open(file, "w", format=format) as container:
        pictures = container.add_stream("mpeg4", rate=5) if video else None
        sound = container.add_stream(codec, rate=rate, layout="mono")
        sound.bit_rate = 64000
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
        if pictures is not None:
            pictures.width = pictures.height = 32
            container.mux(pictures.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")))
            container.mux(pictures.encode())
        container.mux(sound.encode(frame))
        container.mux(sound.encode())
    return file.getvalue()


def png(rows: NDArray[Any], colour: int, depth: int = 8, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG file of a kind that Pillow does not write: its colour type, bits a channel, and further chunks."""
    height, width = rows.shape[:2]
    lines = b"".join(b"\0" + row.astype(f">u{depth // 8}").tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = ((b"IHDR", header), *chunks, (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in parts)


def claimed_png(width: int, height: int) -> bytes:
    """A PNG file that claims a size and has no pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in parts)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
