"""Decodes pictures to RGB: upright, on white where they are transparent, and within the limits."""

import contextlib
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from gemlet.errors import (
    ArgumentError,
    ArgumentTypeError,
    FormatError,
    GemletError,
    OutOfMemoryError,
    UnsupportedError,
)
from gemlet.forked import importing
from gemlet.media.jpeg import scans
from gemlet.media.limits import LONGEST_SIDE, MOST_PIXELS, MOST_SCANS
from gemlet.media.quiet import Silence
from gemlet.media.source import Encoded

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image as PillowImage

FORMATS = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "BMP": "image/bmp",
}
"""Pillow's names of those that are decoded, with their MIME types. Each further one is a decoder that files from
anywhere can attack."""
_EXPECTED = "expected JPEG, PNG, WebP, GIF or BMP"
_ORIENTATION = 0x0112
_SIDEWAYS = (5, 6, 7, 8)
_STRIP = 1 << 20
"""Pixels that are converted at a time, so that conversions take little memory."""
_silence = Silence()


@dataclass(frozen=True)
class Header:
    """What a picture says of itself before it is decoded."""

    width: int
    height: int
    mime: str


def read_header(encoded: Encoded) -> Header:
    """Check a picture as far as that goes without decoding it.

    Raises:
        FormatError: not a picture, or a damaged one.
        UnsupportedError: a picture of another format, or a larger one, than is decoded; or Pillow is missing.
    """
    with _opened(encoded) as image:
        width, height = image.size
        if _orientation(image) in _SIDEWAYS:
            width, height = height, width
        return Header(width, height, FORMATS.get(image.format or "", "image/jpeg"))  # a JPEG may say it is an MPO


def decode(encoded: Encoded) -> "NDArray[np.uint8]":
    """The pixels, uint8[height][width][3]. Raises what ``read_header`` does."""
    with _opened(encoded) as image:
        image.load()
        return _upright(image, _orientation(image), encoded.name)


def of_pillow(image: "PillowImage.Image") -> "NDArray[np.uint8]":
    """The pixels of a Pillow image. Raises ArgumentError for a mode or size that is not taken."""
    name = f"{getattr(image, 'filename', '') or 'the picture'}"
    width, height = image.size
    _check_size(width, height, name, ArgumentError)
    with _explained(name):
        image.load()
        return _upright(image, _orientation(image), name)


def of_array(array: "NDArray[Any]") -> "NDArray[np.uint8]":
    """A copy of an array's pixels: uint8, [height][width], or [height][width][1, 3 or 4].

    Raises:
        ArgumentTypeError: another type of numbers.
        ArgumentError: another shape, or more pixels than are taken.
    """
    with importing:
        import numpy as np

    if array.dtype != np.uint8:
        raise ArgumentTypeError(f"the picture is an array of {array.dtype}, expected uint8, from 0 to 255")
    pixels = array[..., None] if array.ndim == 2 else array
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4):
        hint = "; the channels come last" if array.ndim == 3 and array.shape[0] in (1, 3, 4) else ""
        raise ArgumentError(
            f"the picture is an array of the shape {array.shape}, expected (height, width), or (height, width, "
            f"channels) with 1, 3 or 4 channels{hint}"
        )
    _check_size(pixels.shape[1], pixels.shape[0], "the picture", ArgumentError)
    if pixels.shape[2] == 4:
        return _on_white(pixels)
    return np.array(np.broadcast_to(pixels, (*pixels.shape[:2], 3)), order="C")


def is_pillow(value: object) -> bool:
    """Whether it is an image of Pillow's, which is not imported for that."""
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(value, pillow.Image)


def _pillow() -> Any:
    try:
        with importing:  # what Pillow would import later, some of it only to read metadata
            from PIL import Image, MpoImagePlugin, TiffImagePlugin, WebPImagePlugin  # noqa: F401

            Image.preinit()
    except ImportError as error:
        raise UnsupportedError("decoding pictures needs Pillow: pip install 'gemlet[media]'") from error
    return Image


@contextlib.contextmanager
def _opened(encoded: Encoded) -> Iterator["PillowImage.Image"]:
    """An image whose size is checked and that has not been decoded."""
    name = encoded.name
    pillow = _pillow()
    with _explained(name), contextlib.ExitStack() as stack:
        try:
            image = stack.enter_context(pillow.open(io.BytesIO(encoded.data), formats=tuple(FORMATS)))
        except pillow.DecompressionBombError:
            raise UnsupportedError(f"{name}: has more than {MOST_PIXELS:,} pixels, the most that are decoded") from None
        except pillow.UnidentifiedImageError:
            raise FormatError(f"{name}: not a picture that can be decoded, {_EXPECTED}") from None
        width, height = image.size
        _check_size(width, height, name, UnsupportedError)
        if encoded.data.startswith(b"\xff\xd8") and (count := scans(encoded.data)) > MOST_SCANS:
            raise UnsupportedError(f"{name}: a JPEG with {count} scans, expected at most {MOST_SCANS}")
        yield image


@contextlib.contextmanager
def _explained(name: str) -> Iterator[None]:
    """Name the picture in what Pillow raises, which may be anything, and keep back what it warns of."""
    with _silence():
        try:
            yield
        except GemletError:
            raise
        except MemoryError as error:
            raise OutOfMemoryError(f"{name}: there is not enough memory to decode the picture") from error
        except Exception as error:
            raise FormatError(f"{name}: the picture is damaged: {error or type(error).__name__}") from error


def _check_size(width: int, height: int, name: str, error: type[GemletError]) -> None:
    """Raise the error for a picture of more or fewer pixels than are taken."""
    if not (1 <= width <= LONGEST_SIDE and 1 <= height <= LONGEST_SIDE):
        raise error(f"{name}: has {width} x {height} pixels, expected sides of 1 to {LONGEST_SIDE}")
    if width * height > MOST_PIXELS:
        raise error(f"{name}: has {width} x {height} pixels, expected at most {MOST_PIXELS:,} in all")


def _orientation(image: "PillowImage.Image") -> int:
    """How the picture has to be turned, 1 to 8 as EXIF counts; metadata that cannot be read turns nothing."""
    try:
        value = image.getexif().get(_ORIENTATION)
    except Exception:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _upright(image: "PillowImage.Image", orientation: int, name: str) -> "NDArray[np.uint8]":
    with importing:
        import numpy as np

    width, height = image.size
    pixels = np.empty((width, height, 3) if orientation in _SIDEWAYS else (height, width, 3), np.uint8)
    stored = _as_stored(pixels, orientation)
    rows = max(_STRIP // width, 1)
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(top + rows, height)))
        stored[top : top + rows] = _rgb(strip, name)
    return pixels


def _as_stored(pixels: "NDArray[np.uint8]", orientation: int) -> "NDArray[np.uint8]":
    """A view of upright pixels with the rows as the file has them."""
    view = pixels.swapaxes(0, 1) if orientation in _SIDEWAYS else pixels
    if orientation in (3, 4, 6, 7):
        view = view[::-1]
    if orientation in (2, 3, 7, 8):
        view = view[:, ::-1]
    return view


def _rgb(strip: "PillowImage.Image", name: str) -> "NDArray[np.uint8]":
    with importing:
        import numpy as np

    if strip.mode in ("I", "F"):
        raise UnsupportedError(f"{name}: has pixels of 32 bits (Pillow's mode {strip.mode}), expected 8 or 16")
    if strip.mode.startswith("I;16"):
        grey = np.asarray(strip)
        shown = (grey >> 8).astype(np.uint8)  # the high byte, as Pillow takes it of colours of 16 bits
        shown[grey == strip.info.get("transparency", -1)] = 255
        return np.broadcast_to(shown[..., None], (*grey.shape, 3))
    is_clear = strip.has_transparency_data
    try:
        shown = np.asarray(strip.convert("RGBA" if is_clear else "RGB"))
    except ValueError as error:
        raise UnsupportedError(f"{name}: has the mode {strip.mode}, which Pillow does not show: {error}") from error
    return _on_white(shown) if is_clear else shown


def _on_white(rgba: "NDArray[np.uint8]") -> "NDArray[np.uint8]":
    """colour * alpha + 255 * (1 - alpha), rounded."""
    with importing:
        import numpy as np

    out = np.empty((*rgba.shape[:2], 3), np.uint8)
    rows = max(_STRIP // rgba.shape[1], 1)
    for top in range(0, rgba.shape[0], rows):
        strip = rgba[top : top + rows].astype(np.uint32)
        alpha = strip[..., 3:]
        out[top : top + rows] = (strip[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255
    return cast("NDArray[np.uint8]", out)
