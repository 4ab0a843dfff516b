"""Where the bytes of a picture or sound come from: a file, the caller, or a data: URL."""

import base64
import binascii
import os
import urllib.parse
from dataclasses import dataclass
from typing import Any

from gemlet.errors import ArgumentError, FormatError
from gemlet.files import read_file, to_path
from gemlet.media.limits import MOST_BYTES


@dataclass(frozen=True)
class Encoded:
    """The contents of a picture's or sound's file, and what errors call it."""

    name: str
    data: bytes

    def to_url(self, mime: str) -> str:
        """As a data: URL."""
        return f"data:{mime};base64,{base64.b64encode(self.data).decode()}"


def read_source(source: Any, what: str) -> Encoded | None:
    """The bytes of a path, of bytes, or of a data: URL; None for another type. ``what`` is "picture" or "sound".

    Raises:
        FileError: the file cannot be read, is no regular file, or is too large.
        FormatError: a malformed data: URL.
        ArgumentError: a URL of the network, since nothing is downloaded; empty or too many bytes.
    """
    if isinstance(source, str) and is_data_url(source):
        return _checked(Encoded(f"the {what} of a data: URL", _of_data_url(source, what)))
    if isinstance(source, str) and is_url(source):
        raise ArgumentError(f"{source:.60}: nothing is downloaded; expected a {what}'s path, bytes, or a data: URL")
    if isinstance(source, (str, os.PathLike)):
        path = to_path(source)
        return _checked(Encoded(str(path), read_file(path, MOST_BYTES)))
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _checked(Encoded(f"the {what}", bytes(source)))
    return None


def is_data_url(text: str) -> bool:
    """Whether a text is a data: URL and no path."""
    return text[:5].lower() == "data:"


def is_url(text: str) -> bool:
    """Whether a text is a data: URL or an address of the network, and no path."""
    return is_data_url(text) or text[:8].lower().startswith(("http://", "https://"))


def of_base64(text: str, what: str) -> bytes:
    """Decode base64, in which line breaks may stand. Raises FormatError for anything else."""
    if len(text) > MOST_BYTES * 3 // 2:
        raise FormatError(f"the {what} has {len(text):,} characters of base64, expected at most {MOST_BYTES:,} bytes")
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise FormatError(f"the {what}: not base64: {error}") from error


def _of_data_url(url: str, what: str) -> bytes:
    head, comma, body = url[5:].partition(",")
    if not comma:
        raise FormatError(f"the {what}: a data: URL without a comma: {url[:40]!r}")
    if head.lower().endswith(";base64"):
        return of_base64(urllib.parse.unquote(body) if "%" in body else body, what)
    if len(body) > 3 * MOST_BYTES:
        raise FormatError(f"the {what} has {len(body):,} characters, expected at most {MOST_BYTES:,} bytes")
    return urllib.parse.unquote_to_bytes(body.encode("utf-8", "surrogatepass"))


def _checked(encoded: Encoded) -> Encoded:
    if not encoded.data:
        raise FormatError(f"{encoded.name}: is empty")
    if len(encoded.data) > MOST_BYTES:
        raise ArgumentError(f"{encoded.name}: has {len(encoded.data):,} bytes, expected at most {MOST_BYTES:,}")
    return encoded
