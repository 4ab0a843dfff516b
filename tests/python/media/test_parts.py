"""Parts of a message in the forms that other programs have for them."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import gemlet
import numpy as np
import pytest
from gemlet.media import part_of
from PIL import Image as Pillow

from media_files import picture_file, sound_file
from media_inputs import picture, sound

PICTURE = picture_file(Pillow.fromarray(picture(9, 6)), "PNG")
SOUND = sound_file(sound(999), 16000, "WAV")
PICTURE_URL = f"data:image/png;base64,{base64.b64encode(PICTURE).decode()}"


def test_parts_that_are_some_already() -> None:
    for part in ("text", gemlet.Image(PICTURE), gemlet.Audio(SOUND)):
        assert part_of(part) is part


@pytest.mark.parametrize(
    "value",
    [
        gemlet.Image(PICTURE).to_dict(),
        {"type": "image_url", "image_url": {"url": PICTURE_URL, "detail": "high"}},
        {"type": "image_url", "image_url": PICTURE_URL},
        {"type": "image", "image": PICTURE},
        {"type": "image", "image": PICTURE_URL},
        {"type": "image", "image": gemlet.Image(PICTURE)},
        {"type": "image", "url": PICTURE_URL},
        {"type": "image", "base64": base64.b64encode(PICTURE).decode()},
    ],
)
def test_pictures(value: dict[str, Any]) -> None:
    assert part_of(value, files=False) == gemlet.Image(PICTURE)


def test_pictures_of_other_libraries() -> None:
    for source in (picture(9, 6), Pillow.fromarray(picture(9, 6))):
        part = part_of({"type": "image", "image": source})
        assert isinstance(part, gemlet.Image)
        np.testing.assert_array_equal(part.pixels, picture(9, 6))


@pytest.mark.parametrize(
    "value",
    [
        gemlet.Audio(SOUND).to_dict(),
        {"type": "input_audio", "input_audio": {"data": base64.b64encode(SOUND).decode(), "format": "wav"}},
        {"type": "audio", "audio": SOUND},
        {"type": "audio", "audio": gemlet.Audio(SOUND)},
        {"type": "audio", "base64": base64.b64encode(SOUND).decode()},
    ],
)
def test_sounds(value: dict[str, Any]) -> None:
    assert part_of(value, files=False) == gemlet.Audio(SOUND)


def test_samples_with_their_rate() -> None:
    value = {"type": "audio", "audio": sound(99), "sampling_rate": 16000}
    assert part_of(value) == gemlet.Audio(sound(99), 16000)


def test_text() -> None:
    assert part_of({"type": "text", "text": "Hi"}) == "Hi"


def test_only_the_caller_may_name_files(tmp_path: Path) -> None:
    picture_path, sound_path = tmp_path / "a.png", tmp_path / "a.wav"
    picture_path.write_bytes(PICTURE)
    sound_path.write_bytes(SOUND)
    for kind, path in (("image", picture_path), ("audio", sound_path)):
        for key, named in ((kind, path), (kind, str(path)), ("path", path), ("url", str(path))):
            assert part_of({"type": kind, key: named})
            with pytest.raises(gemlet.ArgumentError, match=r"the third part names the file .*, expected the"):
                part_of({"type": kind, key: named}, "the third part", files=False)
    for value in (
        {"type": "image", "data": str(picture_path)},
        {"type": "image_url", "image_url": {"url": str(picture_path)}},
    ):
        with pytest.raises(gemlet.ArgumentError, match="expected a data: URL"):
            part_of(value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (3, "the part is of the type int, expected text"),
        (None, "NoneType"),
        ({}, "expected a mapping of the type"),
        ({"type": "video", "video": "x"}, "expected a mapping of the type"),
        ({"type": "text"}, "expected a mapping of the type"),
        ({"type": "text", "text": 3}, "expected a mapping of the type"),
        ({"type": "image"}, "expected a mapping of the type"),
        ({"type": ["image"]}, "expected a mapping of the type"),
        ({"type": "image", "image": gemlet.Audio(SOUND)}, "found Audio"),
        ({"type": "image_url"}, r'expected \{"url"'),
        ({"type": "image_url", "image_url": {"url": 3}}, r'expected \{"url"'),
        ({"type": "image_url", "image_url": {"url": "https://example.org/cat.jpg"}}, "nothing is downloaded"),
        ({"type": "image", "url": "https://example.org/cat.jpg"}, "nothing is downloaded"),
        ({"type": "audio", "base64": 3}, "found int"),
        ({"type": "input_audio", "input_audio": "x"}, "expected .*base64"),
        ({"type": "input_audio", "input_audio": {"data": "???"}}, "not base64"),
        ({"type": "input_audio", "input_audio": {"data": ""}}, "is empty"),
        ({"type": "image", "data": 7}, "expected a data: URL"),
        ({"type": "image", "data": PICTURE_URL, "size": "big"}, "size: expected a whole number"),
    ],
)
def test_what_is_no_part(value: object, message: str) -> None:
    with pytest.raises(gemlet.GemletError, match=message):
        part_of(value)
