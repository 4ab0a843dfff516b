"""The vision encoder: its properties, and timm as the oracle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gemlet
import numpy as np
import pytest
from gemlet import _core
from numpy.typing import NDArray

from tiny_vision import TinyVision, gguf_name
from torchvision_operators import complete_torchvision

Pixels = NDArray[np.uint8]


def picture(width: int, height: int, seed: int = 0) -> Pixels:
    """Waves, slopes and noise: no symmetry hides a wrong order of anything."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    planes = np.stack([128 + 100 * np.sin(x / 17 + y / 29), 255 * x / width, 255 * y / height], -1)
    return np.clip(planes + random.normal(size=planes.shape) * 20, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> _core.Encoders:
    return _core.Encoders.load(TinyVision().write(tmp_path_factory.mktemp("vision") / "mmproj.gguf"), 2)


def test_threads_change_nothing(tmp_path: Path, encoders: _core.Encoders) -> None:
    path = TinyVision().write(tmp_path / "mmproj.gguf")
    for threads in (1, 3):
        rows = _core.Encoders.load(path, threads).encode(picture(200, 300), 256)
        np.testing.assert_array_equal(rows, encoders.encode(picture(200, 300), 256))


@pytest.mark.parametrize("size", [256, 512, 768])
def test_tokens_are_rows_of_the_picture(encoders: _core.Encoders, size: int) -> None:
    """Changing a corner changes the tokens near it most: the last of the first row for the one on the right."""
    before = picture(size, size)
    after = before.copy()
    after[: size // 16, -size // 16 :] = (255, 0, 0)
    difference = np.square(encoders.encode(after, size) - encoders.encode(before, size)).sum(-1)
    assert difference.shape == (256,)
    assert difference.argmax() == 15


def test_red_is_not_blue(encoders: _core.Encoders) -> None:
    red, blue = np.zeros((2, 64, 64, 3), np.uint8)
    red[..., 0], blue[..., 2] = 255, 255
    assert np.abs(encoders.encode(red, 256) - encoders.encode(blue, 256)).max() > 0.1


@pytest.mark.parametrize(
    ("shape", "message"), [((0, 5, 3), "0 pixels"), ((5, 5, 4), "expected uint8"), ((5, 5), "exp")]
)
def test_pictures_that_are_none(encoders: _core.Encoders, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(gemlet.ArgumentError, match=message):
        encoders.encode(np.zeros(shape, np.uint8), 256)


@pytest.mark.parametrize("size", [0, -256, 255, 1024])
def test_sizes_that_the_encoder_does_not_have(encoders: _core.Encoders, size: int) -> None:
    with pytest.raises(gemlet.ArgumentError, match=f"size is {size}, expected 256, 512 or 768"):
        encoders.encode(picture(8, 8), size)


def test_one_pixel_and_long_strips(encoders: _core.Encoders) -> None:
    for width, height in ((1, 1), (1, 9000), (9000, 1)):
        assert np.isfinite(encoders.encode(picture(width, height), 256)).all()


def test_encoders_without_ears(encoders: _core.Encoders) -> None:
    assert encoders.sees and not encoders.hears
    with pytest.raises(gemlet.UnsupportedError, match="no encoder for sound"):
        encoders.sound()


SHAPES = [(256, 256), (300, 200), (200, 300), (1, 7), (7, 1), (3000, 20), (20, 3000), (690, 700), (255, 257), (512, 40)]


@pytest.mark.parametrize("shape", SHAPES)
def test_resize_is_pillows_to_the_bit(shape: tuple[int, int]) -> None:
    image = pytest.importorskip("PIL.Image", reason="needs Pillow")
    if int(pytest.importorskip("PIL").__version__.split(".")[0]) < 13:
        pytest.skip("Pillow before 13 always resizes rows first")
    pixels = picture(*shape)
    for size in ((256, 256), (768, 768), (31, 77)):
        expected = np.asarray(image.fromarray(pixels).resize(size, image.Resampling.BILINEAR))
        np.testing.assert_array_equal(_core.resize(pixels, *size), expected)


def timm_tower(tiny: TinyVision) -> Any:
    """timm's encoder with these weights, in float64."""
    import torch

    complete_torchvision()
    timm = pytest.importorskip("timm", reason="needs timm")
    builder = pytest.importorskip("timm.models._efficientnet_builder")
    tower = timm.create_model(
        "mobilenetv5_300m_enc",
        block_args=builder.decode_arch_def([list(stage) for stage in tiny.stages]),
        stem_size=tiny.stem,
        num_classes=0,
    )
    weights = {n: torch.from_numpy(v) for n, v in tiny.weights().items() if not n.startswith("embed_vision.")}
    tower.load_state_dict(weights)
    return tower.eval().double()


@pytest.mark.live
@pytest.mark.parametrize("size", [256, 512, 768])
def test_the_encoder_is_timms(encoders: _core.Encoders, size: int) -> None:
    import torch

    tiny = TinyVision()
    weights = tiny.weights()
    assert len({gguf_name(name) for name in weights}) == len(weights)
    pixels = picture(size, size)
    with torch.no_grad():
        planes = timm_tower(tiny)(torch.from_numpy(pixels.astype(np.float64) / 255).permute(2, 0, 1)[None])
    features = planes[0].permute(1, 2, 0).reshape(256, -1).numpy() * np.sqrt(tiny.width)

    def rms_norm(x: NDArray[np.float64]) -> NDArray[np.float64]:
        normed: NDArray[np.float64] = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)
        return normed

    normed = rms_norm(features) * weights["embed_vision.soft_embedding_norm.weight"]
    expected = rms_norm(normed @ weights["embed_vision.embedding_projection.weight"].T.astype(np.float64))
    rows = encoders.encode(pixels, size)
    assert np.abs(rows - expected).max() < 1e-4 * np.sqrt((expected**2).mean())
