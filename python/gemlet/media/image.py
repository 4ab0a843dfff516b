"""A picture for a model."""

import functools
import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gemlet.arguments import checked_methods
from gemlet.errors import ArgumentError, ArgumentTypeError
from gemlet.forked import importing
from gemlet.media.encodings import Encodings
from gemlet.media.limits import LONGEST_SIDE
from gemlet.media.pixels import Header, decode, is_pillow, of_array, of_pillow, read_header
from gemlet.media.png import to_png
from gemlet.media.source import Encoded, is_data_url, read_source

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@checked_methods
class Image:
    """A picture: what a message may have beside text.

    A file's or data: URL's bytes are read once and kept, and decoded whenever ``pixels`` is asked for: a JPEG takes a
    tenth of its pixels' memory, a long conversation has many, and the encoder looks at each once. The format and the
    size are checked at once, before anything is decoded. Pixels of an array or of a Pillow image are copied and kept.
    """

    def __init__(self, source: Any, *, size: int | None = None) -> None:
        """Take a picture.

        Args:
            source: a path; the bytes of a file (JPEG, PNG, WebP, GIF or BMP; the first frame of an animation); a
                ``data:`` URL; a Pillow image; or an array of uint8, (height, width) or (height, width, channels) with
                1, 3 or 4 channels. All but arrays needs ``pip install 'gemlet[media]'``.
            size: the side of the square that the encoder resizes it to; None: the encoder's own. Smaller is faster.

        Raises:
            FileError: the file cannot be read.
            FormatError: not a picture, or a damaged one.
            UnsupportedError: a picture of another format or a larger one than is decoded, or Pillow is missing.
            ArgumentError: an array or Pillow image of another type, shape or size than is taken.
        """
        with importing:
            import numpy as np

        if size is not None and not 1 <= size <= LONGEST_SIDE:
            raise ArgumentError(f"size is {size}, expected 1 to {LONGEST_SIDE} pixels, or None for the encoder's own")
        self._size = size
        self._encodings = Encodings()
        self._held: Encoded | NDArray[np.uint8]
        if isinstance(source, np.ndarray):
            self._held = of_array(source)
        elif is_pillow(source):
            self._held = of_pillow(source)
        elif (encoded := read_source(source, "picture")) is not None:
            self._held = encoded
        else:
            raise ArgumentTypeError(
                "the picture: expected a path, bytes, a data: URL, a Pillow image or an array of uint8, found "
                f"{type(source).__name__}"
            )
        if isinstance(self._held, Encoded):
            self._header = read_header(self._held)
        else:
            self._held.setflags(write=False)
            self._header = Header(self._held.shape[1], self._held.shape[0], "image/png")

    @property
    def size(self) -> int | None:
        """The side of the square that the encoder resizes it to; None: the encoder's own."""
        return self._size

    @property
    def width(self) -> int:
        """Pixels in a row, as the picture is shown."""
        return self._header.width

    @property
    def height(self) -> int:
        """Rows of pixels, as the picture is shown."""
        return self._header.height

    @property
    def pixels(self) -> "NDArray[np.uint8]":
        """The pixels, uint8[height][width][3]: red, green, blue; upright, and on white where it is transparent.

        Raises FormatError, which names the file, for one that is damaged or truncated.
        """
        return decode(self._held) if isinstance(self._held, Encoded) else self._held.view()

    @functools.cached_property
    def digest(self) -> str:
        """The SHA-256 of the file's bytes, or of the pixels where there is no file."""
        if isinstance(self._held, Encoded):
            return hashlib.sha256(self._held.data).hexdigest()
        return hashlib.sha256(f"{self._held.shape}".encode() + self._held.tobytes()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """As JSON, with the bytes of the file; pixels become a PNG file."""
        file = self._held if isinstance(self._held, Encoded) else Encoded("", to_png(self._held))
        return {"type": "image", "data": file.to_url(self._header.mime)} | ({"size": self.size} if self.size else {})

    @classmethod
    def of_dict(cls, value: Mapping[str, Any]) -> "Image":
        """What ``to_dict`` gave; it names no files. Raises what making an Image does."""
        data = value.get("data")
        if not isinstance(data, str) or not is_data_url(data):
            raise ArgumentError(f"the picture's data is {data!r:.40}, expected a data: URL")
        return cls(data, size=value.get("size"))

    def __eq__(self, other: object) -> bool:
        """Whether the bytes and the size are the same."""
        if not isinstance(other, Image):
            return NotImplemented
        return (self.digest, self.size) == (other.digest, other.size)

    def __hash__(self) -> int:
        """By what is compared."""
        return hash((self.digest, self.size))

    def __repr__(self) -> str:
        """Where it is from, and its size."""
        name = self._held.name if isinstance(self._held, Encoded) else "pixels"
        return f"<gemlet.Image {self.width}x{self.height} from {name}>"
