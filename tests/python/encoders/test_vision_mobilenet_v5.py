"""The vision encoder: its properties, and timm as the oracle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gemlet
import numpy as np
import pytest
from gemlet import _core
from numpy.typing import NDArray
from PIL import Image

from media_inputs import GOLDENS, picture, see
from tiny_vision import TinyVision, gguf_name


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> _core.Encoders:
    return _core.Encoders.load(TinyVision().write(tmp_path_factory.mktemp("vision") / "mmproj.gguf"), 2)


def test_threads_change_nothing(tmp_path: Path, encoders: _core.Encoders) -> None:
    path = TinyVision().write(tmp_path / "mmproj.gguf")
    for threads in (1, 3):
        rows = see(_core.Encoders.load(path, threads), picture(200, 300), 256)
        np.testing.assert_array_equal(rows, see(encoders, picture(200, 300), 256))


@pytest.mark.parametrize("size", [256, 512, 768])
def test_tokens_are_rows_of_the_picture(encoders: _core.Encoders, size: int) -> None:
    """Changing a corner changes the tokens near it most: the last of the first row for the one on the right."""
    before = picture(size, size)
    after = before.copy()
    after[: size // 16, -size // 16 :] = (255, 0, 0)
    difference = np.square(see(encoders, after, size) - see(encoders, before, size)).sum(-1)
    assert difference.shape == (256,)
    assert difference.argmax() == 15


def test_red_is_not_blue(encoders: _core.Encoders) -> None:
    red, blue = np.zeros((2, 64, 64, 3), np.uint8)
    red[..., 0], blue[..., 2] = 255, 255
    assert np.abs(see(encoders, red, 256) - see(encoders, blue, 256)).max() > 0.1


@pytest.mark.parametrize(
    ("shape", "message"), [((0, 5, 3), "0 pixels"), ((5, 5, 4), "expected uint8"), ((5, 5), "exp")]
)
def test_pictures_that_are_none(encoders: _core.Encoders, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(gemlet.ArgumentError, match=message):
        see(encoders, np.zeros(shape, np.uint8), 256)


@pytest.mark.parametrize("size", [256, 512, None])
def test_the_file_tells_the_size_of_pictures(tmp_path: Path, size: int | None) -> None:
    encoders = _core.Encoders.load(TinyVision().write(tmp_path / "mmproj.gguf", size), 2)
    seen = see(encoders, picture(200, 300), 0)
    np.testing.assert_array_equal(seen, see(encoders, picture(200, 300), size or 768))


@pytest.mark.parametrize("size", [255, 384, 1024])
def test_a_file_whose_pictures_have_a_size_that_the_encoder_does_not_take(tmp_path: Path, size: int) -> None:
    path = TinyVision().write(tmp_path / "mmproj.gguf", size)
    with pytest.raises(gemlet.FormatError, match=rf"clip\.vision\.image_size.* {size}"):
        _core.Encoders.load(path, 1)


@pytest.mark.parametrize("size", [1, -256, 255, 1024])
def test_sizes_that_the_encoder_does_not_have(encoders: _core.Encoders, size: int) -> None:
    with pytest.raises(gemlet.ArgumentError, match=f"size is {size}, expected 256, 512 or 768"):
        see(encoders, picture(8, 8), size)


def test_one_pixel_and_long_strips(encoders: _core.Encoders) -> None:
    for width, height in ((1, 1), (1, 9000), (9000, 1)):
        assert np.isfinite(see(encoders, picture(width, height), 256)).all()


def test_encoders_without_ears(encoders: _core.Encoders) -> None:
    assert encoders.sees and not encoders.hears
    with pytest.raises(gemlet.UnsupportedError, match="no encoder for sound"):
        encoders.sound()


SHAPES = [(256, 256), (300, 200), (200, 300), (1, 7), (7, 1), (3000, 20), (20, 3000), (690, 700), (255, 257), (512, 40)]


@pytest.mark.parametrize("shape", SHAPES)
def test_resize_is_pillows_to_the_bit(shape: tuple[int, int]) -> None:
    pixels = picture(*shape)
    for size in ((256, 256), (768, 768), (31, 77)):
        expected = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(_core.resize(pixels, *size), expected)


@pytest.mark.parametrize("size", [(65537, 1), (1, 65537), (10, 0)])
def test_sizes_that_resizing_refuses(size: tuple[int, int]) -> None:
    with pytest.raises(gemlet.ArgumentError, match="expected 1 to 65536 each way"):
        _core.resize(picture(4, 4), *size)


def test_a_file_that_is_truncated_under_the_encoders(tmp_path: Path) -> None:
    path = TinyVision().write(tmp_path / "mmproj.gguf")
    encoders = _core.Encoders.load(path)
    whole = see(encoders, picture(9, 9), 256)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 3)
    for _ in range(2):
        with pytest.raises(gemlet.FileError, match=r"mmproj\.gguf"):
            see(encoders, picture(9, 9), 256)
    assert np.isfinite(whole).all()


def assert_near(rows: NDArray[np.float32], expected: NDArray[np.floating[Any]]) -> None:
    assert rows.shape == expected.shape
    assert np.abs(rows - expected).max() < 1e-4 * np.sqrt((expected**2).mean())


@pytest.mark.parametrize("size", [256, 512])
def test_the_encoder_is_timms_as_recorded(encoders: _core.Encoders, size: int) -> None:
    """Where timm is not installed: scripts/goldens/encoders.py."""
    expected = np.load(GOLDENS)[f"vision-{size}"]
    assert_near(see(encoders, picture(size, size), size)[::5], expected)


@pytest.mark.live
@pytest.mark.parametrize("size", [256, 512, 768])
def test_the_encoder_is_timms(encoders: _core.Encoders, size: int) -> None:
    from encoder_oracles import vision_rows

    pytest.importorskip("timm", reason="needs timm")

    assert_near(see(encoders, picture(size, size), size), vision_rows(TinyVision(), picture(size, size)))


def test_every_tensor_has_a_name_of_its_own() -> None:
    weights = TinyVision().weights()
    assert len({gguf_name(name) for name in weights}) == len(weights)
