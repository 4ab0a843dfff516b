"""The parts of a message: text, pictures and sounds, in the forms that other programs have for them."""

import os
import reprlib
from collections.abc import Mapping
from typing import Any

from gemlet.errors import ArgumentError
from gemlet.media.audio import Audio
from gemlet.media.image import Image
from gemlet.media.source import is_data_url, is_url, of_base64

Part = str | Image | Audio
"""What a message may consist of."""


def part_of(value: object, where: str = "the part", *, files: bool = True) -> Part:
    """A checked part.

    Args:
        value: text, an Image, an Audio, what ``to_dict`` gave, or a mapping as OpenAI's API (``text``, ``image_url``
            and ``input_audio``) and transformers (``text``, ``image`` and ``audio``) have them.
        where: what errors call it.
        files: whether a mapping may name a file of this machine, as those of transformers may. No for what comes from
            elsewhere.

    Raises:
        ArgumentError: something else, or a file where none may be named.
        GemletError: what making the Image or the Audio raises.
    """
    if isinstance(value, (str, Image, Audio)):
        return value
    if not isinstance(value, Mapping):
        raise ArgumentError(
            f"{where} is of the type {type(value).__name__}, expected text, a gemlet.Image, a gemlet.Audio or a mapping"
        )
    kind = value.get("type")
    if kind == "text" and isinstance(value.get("text"), str):
        return str(value["text"])
    if kind == "image_url":
        return _of_image_url(value.get("image_url"), where)
    if kind == "input_audio":
        return _of_input_audio(value.get("input_audio"), where)
    if kind in ("image", "audio") and "data" in value:
        return Image.of_dict(value) if kind == "image" else Audio.of_dict(value)
    if kind in ("image", "audio") and (named := [key for key in (kind, "url", "path", "base64") if key in value]):
        return _of_transformers(value, kind, named[0], where, files=files)
    raise ArgumentError(
        f"{where} is {reprlib.repr(value)}, expected a mapping of the type text, image, audio, image_url or "
        "input_audio, with what it names"
    )


def _of_transformers(value: Mapping[Any, Any], kind: str, key: str, where: str, *, files: bool) -> Part:
    source = value[key]
    if key == kind and isinstance(source, Image if kind == "image" else Audio):
        return source
    if key == "base64" and isinstance(source, str):
        source = of_base64(source, kind)
    names_file = isinstance(source, os.PathLike) or (isinstance(source, str) and not is_url(source))
    if names_file and not files:
        raise ArgumentError(f"{where} names the file {source!r:.60}, expected the {kind}'s data")
    return Image(source) if kind == "image" else Audio(source, value.get("sampling_rate"))


def _of_image_url(value: Any, where: str) -> Image:
    url = value.get("url") if isinstance(value, Mapping) else value
    if not isinstance(url, str):
        raise ArgumentError(f'{where} is {reprlib.repr(value)}, expected {{"url": "data:..."}}')
    if not is_data_url(url):
        raise ArgumentError(f"{where} has the URL {url!r:.60}: nothing is downloaded, expected a data: URL")
    return Image(url)


def _of_input_audio(value: Any, where: str) -> Audio:
    data = value.get("data") if isinstance(value, Mapping) else None
    if not isinstance(data, str):
        raise ArgumentError(f'{where} is {reprlib.repr(value)}, expected {{"data": base64, "format": "wav"}}')
    return Audio(of_base64(data, "sound"))
