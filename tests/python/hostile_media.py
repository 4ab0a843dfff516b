"""Mutated files of pictures and sounds, and odd arrays, which a process of its own decodes."""

from __future__ import annotations

import random
import re
import struct
import sys
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gemlet
import numpy as np
from PIL import Image

from media_files import av_file, picture_file, sound_file
from media_inputs import picture, sound

MEDIA = (gemlet.Image, gemlet.Audio)
_NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 65535, 16384, 48000, 1 << 24)
_DTYPES = ("uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64", "complex64", "bool", "S3", "O")


def good_pictures() -> list[bytes]:
    """Small ones of every format and mode."""
    image = Image.fromarray(picture(24, 17))
    clear = image.convert("RGBA")
    clear.putalpha(100)
    exif = Image.Exif()
    exif[0x0112] = 6
    frames = {"save_all": True, "append_images": [Image.new("RGB", (24, 17), "red")]}
    return [
        picture_file(image, "JPEG", exif=exif.tobytes()),
        picture_file(image, "JPEG", progressive=True),
        picture_file(image.convert("CMYK"), "JPEG"),
        picture_file(image, "PNG", exif=exif.tobytes()),
        picture_file(clear, "PNG"),
        picture_file(image.quantize(16), "PNG", transparency=bytes(16)),
        picture_file(Image.fromarray(np.arange(400, dtype=np.uint16).reshape(20, 20)), "PNG"),
        picture_file(image, "WEBP", exif=exif.tobytes()),
        picture_file(clear, "WEBP", lossless=True),
        picture_file(image, "WEBP", **frames),
        picture_file(image, "GIF", **frames),
        picture_file(image, "BMP"),
        picture_file(image.quantize(16), "BMP"),
    ]


def good_sounds() -> list[bytes]:
    """Short ones of every container."""
    short = np.clip(sound(3000), -0.9, 0.9)
    stereo = np.stack([short, short[::-1]], 1)
    return [
        sound_file(short, 16000, "WAV"),
        sound_file(stereo, 44100, "WAV", "FLOAT"),
        sound_file(stereo, 8000, "WAV", "IMA_ADPCM"),
        sound_file(short, 8000, "WAV", "ULAW"),
        sound_file(stereo, 22050, "AIFF"),
        sound_file(stereo, 44100, "FLAC"),
        sound_file(short, 16000, "FLAC", "PCM_24"),
        sound_file(stereo, 44100, "MP3"),
        sound_file(short, 16000, "MP3"),
        sound_file(stereo, 44100, "OGG", "VORBIS"),
        sound_file(short, 48000, "OGG", "OPUS"),
        av_file(short, 48000, "mp4", "aac"),
        av_file(short, 48000, "webm", "libopus"),
        av_file(short, 44100, "adts", "aac"),
    ]


def mutated(good: bytes, donors: list[bytes], rng: random.Random) -> bytes:
    """A file with bytes and numbers replaced, pieces left out, doubled or taken from other files, or its end missing;
    its checksums most often as they should be, since decoders look no further otherwise."""
    data = bytearray(good)
    for _ in range(rng.choice((1, 1, 2, 4, 12))):
        at = rng.randrange(min(len(data), 96) if rng.random() < 0.5 else len(data))
        length = rng.choice((1, 2, 4, 8, 100))
        match rng.randrange(7):
            case 0:
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                number = rng.choice(_NUMBERS).to_bytes(4, rng.choice(("little", "big")))
                data[at : at + 4] = number[: rng.choice((1, 2, 4))]
            case 2:
                del data[at : at + length]
            case 3:
                data[at:at] = data[at : at + length]
            case 4:
                donor = rng.choice(donors)
                begin = rng.randrange(len(donor))
                data[at : at + length] = donor[begin : begin + length]
            case 5:
                data[at : at + length] = rng.randbytes(length)
            case _ if rng.random() < 0.3:
                del data[at:]
        if not data:
            break
    return with_checksums(bytes(data)) if rng.random() < 0.8 else bytes(data)


def with_checksums(data: bytes) -> bytes:
    """With those of a PNG's chunks and an Ogg's pages mended."""
    if data.startswith(b"\x89PNG"):
        return _with_png_checksums(data)
    return _with_ogg_checksums(data) if data.startswith(b"OggS") else data


def _with_png_checksums(data: bytes) -> bytes:
    out, place = bytearray(data), 8
    while place + 8 <= len(out):
        end = place + 8 + int.from_bytes(out[place : place + 4], "big")
        if end + 4 > len(out):
            break
        out[end : end + 4] = struct.pack(">I", zlib.crc32(out[place + 4 : end]))
        place = end + 4
    return bytes(out)


def _with_ogg_checksums(data: bytes) -> bytes:
    pages = [found.start() for found in re.finditer(b"OggS", data)]
    out = bytearray(data)
    for begin, end in zip(pages, [*pages[1:], len(data)], strict=True):
        if end - begin >= 27:
            out[begin + 22 : begin + 26] = bytes(4)
            out[begin + 22 : begin + 26] = struct.pack("<I", _ogg_checksum(bytes(out[begin:end])))
    return bytes(out)


def _ogg_checksum(page: bytes) -> int:
    value = 0
    for byte in page:
        value = (value << 8 & 0xFFFFFFFF) ^ _OGG_TABLE[value >> 24 ^ byte]
    return value


def _ogg_entry(value: int) -> int:
    for _ in range(8):
        value = (value << 1 ^ 0x04C11DB7 if value & 1 << 31 else value << 1) & 0xFFFFFFFF
    return value


_OGG_TABLE = [_ogg_entry(byte << 24) for byte in range(256)]


def odd_array(rng: random.Random) -> Any:
    """An array of some type and shape, with some values."""
    shape = tuple(rng.choice((0, 1, 2, 3, 4, 5, 33, 300)) for _ in range(rng.choice((0, 1, 1, 2, 2, 3, 3, 4))))
    size = int(np.prod(shape))
    if size > 1 << 20:
        return np.broadcast_to(np.zeros((), rng.choice(("uint8", "float32"))), shape)
    array = np.frombuffer(rng.randbytes(8 * size), np.int64).reshape(shape)
    if rng.random() < 0.2:
        array = array.T[::-1] if array.ndim else array
    if (dtype := rng.choice(_DTYPES)).startswith("float") and rng.random() < 0.7:
        return (array / 2.0**63).astype(dtype)
    with np.errstate(all="ignore"):
        return array.astype(dtype)


def attempt(number: int, seed: int, pictures: list[bytes], sounds: list[bytes]) -> bool:
    """Whether a mutant is a picture or a sound: anything but the package's errors is a finding."""
    rng = random.Random(seed * 1_000_003 + number)
    takes_picture = rng.random() < 0.5
    good = pictures if takes_picture else sounds
    kind = rng.random()
    try:
        if kind < 0.1:
            source = odd_array(rng)
            rate = rng.choice((0, 1, -1, 4000, 16000, 44100, 2**31, 2**70, None))
            medium = gemlet.Image(source) if takes_picture else gemlet.Audio(source, rate)
        else:
            source = mutated(rng.choice(good), pictures + sounds, rng)
            medium = MEDIA[(kind < 0.15) == takes_picture](source)
        if isinstance(medium, gemlet.Image):
            assert medium.pixels.shape == (medium.height, medium.width, 3) and medium.pixels.dtype == np.uint8
        else:
            samples = medium.samples
            assert samples.ndim == 1 and samples.dtype == np.float32 and len(samples) and np.isfinite(samples).all()
            assert medium.seconds == len(samples) / 16000
        again = type(medium).of_dict(medium.to_dict())
        assert kind < 0.1 or again == medium
        return True
    except gemlet.GemletError as error:
        assert str(error)
        return False


def peak_memory() -> int:
    """The most that was resident of this process, in bytes."""
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) << 10


def main(seed: int, cases: int, say: Callable[[str], object] = print) -> None:
    """Decode so many mutants; the last line says how many were media, and what they took of memory."""
    warnings.simplefilter("error")
    pictures, sounds = good_pictures(), good_sounds()
    for good, kind in ((pictures, gemlet.Image), (sounds, gemlet.Audio)):
        for data in good:
            medium = kind(data)
            assert len(medium.pixels if isinstance(medium, gemlet.Image) else medium.samples)
    before = peak_memory()
    taken = 0
    for number in range(cases):
        say(f"seed {seed}, case {number}")
        taken += attempt(number, seed, pictures, sounds)
    say(f"{taken} {peak_memory() - before}")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), lambda text: print(text, flush=True))
