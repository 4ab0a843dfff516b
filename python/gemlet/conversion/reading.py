"""Reading the small files of a checkpoint whole, and saying what a file is that is none of it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

from gemlet.errors import FileError
from gemlet.files import read_file

from .errors import ConvertError

MOST_BYTES: Final = 1 << 28
"""Of a file that is read whole: tokenizers of 262144 tokens have some 33 MB."""

_MOST_SETTINGS_BYTES: Final = 1 << 25
"""Of JSON other than a tokenizer's. In memory it may take thirty times its size."""

_SURROGATE: Final = re.compile(r"\\ud[89a-f]", re.IGNORECASE)
"""Half of a character outside the basic plane: without the other half it is no text."""


def describe_foreign(start: bytes) -> str | None:
    """What a file is that a download has left in place of another, or that somebody takes for one, by its first bytes;
    None for any other."""
    if start.startswith(b"version https://"):
        return "a Git LFS pointer and not the file itself; fetch it with git lfs pull"
    if start.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype", b"<html")):
        return "a web page and not the file itself; download it again"
    if start.startswith(b"GGUF"):
        return "a GGUF file, which gemlet runs as it is"
    if start.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x04")):
        return "a ZIP archive or a pickle, as PyTorch saves checkpoints; gemlet reads safetensors"
    return None


def read_whole(path: Path, most: int = MOST_BYTES) -> bytes:
    """The contents of a regular file. Raises ConvertError naming the file, also for one that is another's."""
    try:
        data = read_file(path, most)
    except FileError as error:
        raise ConvertError(str(error)) from error
    if what := describe_foreign(data[:64]):
        raise ConvertError(f"{path}: is {what}")
    return data


def read_json(path: Path, most: int = _MOST_SETTINGS_BYTES) -> dict[str, Any]:
    """A JSON object from a file. Raises ConvertError naming the file."""
    data = read_whole(path, most)
    try:
        text = data.decode("utf-8")
        value = json.loads(text)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except ValueError as error:
        raise ConvertError(f"{path}: not valid JSON: {error}") from error
    except RecursionError as error:
        raise ConvertError(f"{path}: JSON nested too deeply") from error
    if not isinstance(value, dict):
        raise ConvertError(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value
