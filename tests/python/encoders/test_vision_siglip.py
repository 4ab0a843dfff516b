"""Gemma 3's vision encoder: its properties, and transformers as the oracle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gemlet
import gguf
import numpy as np
import pytest
from gemlet import _core
from numpy.typing import NDArray

from media_inputs import GOLDENS, picture, see
from tiny_siglip import TinySiglip, gguf_name

TINY = TinySiglip()
SIZE = TINY.image_size


def load(path: Path, tiny: TinySiglip = TINY, threads: int = 2, **given: Any) -> _core.Encoders:
    return _core.Encoders.load(tiny.write(path / "mmproj.gguf", **given), threads)


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> _core.Encoders:
    return load(tmp_path_factory.mktemp("siglip"))


def test_the_encoder_sees(encoders: _core.Encoders) -> None:
    assert encoders.sees and not encoders.hears and encoders.hidden_size == TINY.text_hidden
    medium = encoders.encode(picture(SIZE, SIZE)).finish()  # of the one size that there is
    assert (medium.begin, medium.end, medium.count) == ("<start_of_image>", "<end_of_image>", TINY.tokens)
    np.testing.assert_array_equal(medium.rows(), see(encoders, picture(SIZE, SIZE), SIZE))


def test_threads_change_nothing(tmp_path: Path) -> None:
    """More patches than pass a layer at a time, and more than attention takes in one piece."""
    tiny = TinySiglip(image_size=78, patch_size=3, tokens=4, layers=2)
    rows = [see(load(tmp_path, tiny, threads), picture(50, 70), 78) for threads in (1, 2, 5)]
    np.testing.assert_array_equal(rows[0], rows[1])
    np.testing.assert_array_equal(rows[0], rows[2])


def test_tokens_are_rows_of_the_picture(tmp_path: Path) -> None:
    """Changing a corner changes the token there most: the last of the first row for the one on the right."""
    encoders = load(tmp_path, TinySiglip(layers=1))
    before = picture(SIZE, SIZE)
    after = before.copy()
    after[: SIZE // 4, -SIZE // 4 :] = (255, 0, 0)
    difference = np.square(see(encoders, after, SIZE) - see(encoders, before, SIZE)).sum(-1)
    assert difference.shape == (16,)
    assert difference.argmax() == 3


def test_red_is_not_blue(encoders: _core.Encoders) -> None:
    red, blue = np.zeros((2, 64, 64, 3), np.uint8)
    red[..., 0], blue[..., 2] = 255, 255
    assert np.abs(see(encoders, red, SIZE) - see(encoders, blue, SIZE)).max() > 0.1


@pytest.mark.parametrize("size", [1, -1, SIZE - 1, 768, 896])
def test_sizes_that_the_encoder_does_not_have(encoders: _core.Encoders, size: int) -> None:
    with pytest.raises(gemlet.ArgumentError, match=f"size is {size}, expected {SIZE}$"):
        see(encoders, picture(8, 8), size)


def test_older_files_swap_the_feed_forward_matrices(tmp_path: Path, encoders: _core.Encoders) -> None:
    swapped = {"ffn_up": "ffn_down", "ffn_down": "ffn_up"}
    tensors = {}
    for name, value in TINY.tensors().items():
        part = next((part for part in swapped if f".{part}." in name), "")
        tensors[name.replace(part, swapped[part]) if part else name] = value
    rows = see(load(tmp_path, tensors=tensors), picture(SIZE, SIZE), SIZE)
    np.testing.assert_array_equal(rows, see(encoders, picture(SIZE, SIZE), SIZE))


def test_a_square_feed_forward_matrix_has_its_own_name(tmp_path: Path) -> None:
    tiny = TinySiglip(ffn=TINY.width)
    rows = see(load(tmp_path, tiny), picture(SIZE, SIZE), SIZE)
    tensors = tiny.tensors()
    for i in range(tiny.layers):
        up, down = f"v.blk.{i}.ffn_up.weight", f"v.blk.{i}.ffn_down.weight"
        tensors[up], tensors[down] = tensors[down], tensors[up]
    assert np.abs(see(load(tmp_path, tiny, tensors=tensors), picture(SIZE, SIZE), SIZE) - rows).max() > 0.1


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q4_0"])
def test_types_of_weights(tmp_path: Path, kind: str) -> None:
    """As with the same weights in float32: what 16 bits and blocks lose is lost in both. Blocks are multiplied with
    inputs of eight bits."""
    tiny = TinySiglip(width=64, ffn=96, text_hidden=32)
    stored = gguf.GGMLQuantizationType[kind]
    rounded = {
        name: gguf.quants.dequantize(gguf.quants.quantize(v, stored), stored) if v.ndim == 2 else v
        for name, v in tiny.tensors().items()
    }
    rows = see(load(tmp_path, tiny, kind=stored), picture(SIZE, SIZE), SIZE)
    expected = see(load(tmp_path, tiny, tensors=rounded), picture(SIZE, SIZE), SIZE)
    allowed = 1e-5 if kind in ("F16", "BF16") else 0.05
    assert np.square(rows - expected).mean() < allowed**2 * np.square(expected).mean()


@pytest.mark.parametrize("projector", ["gemma4v", "mlp"])
def test_other_vision_transformers_are_named(tmp_path: Path, projector: str) -> None:
    with pytest.raises(gemlet.UnsupportedError, match=f'projector_type is "{projector}", expected "gemma3"'):
        load(tmp_path, projector=projector)


def assert_near(rows: NDArray[np.float32], expected: NDArray[np.floating[Any]]) -> None:
    assert rows.shape == expected.shape
    assert np.abs(rows - expected).max() < 1e-4 * np.sqrt((expected**2).mean())


def test_the_encoder_is_transformers_as_recorded(encoders: _core.Encoders) -> None:
    """Where transformers is not installed: scripts/goldens/encoders.py."""
    assert_near(see(encoders, picture(SIZE, SIZE), SIZE), np.load(GOLDENS)["siglip"])


@pytest.mark.live
@pytest.mark.parametrize(
    "tiny",
    [
        TINY,
        TinySiglip(image_size=84, patch_size=3, tokens=196, heads=11, layers=2, seed=1),
        TinySiglip(image_size=56, patch_size=7, tokens=1, width=20, heads=1, ffn=20, seed=2),
    ],
    ids=["published pooling", "odd sizes", "one token"],
)
def test_the_encoder_is_transformers(tmp_path: Path, tiny: TinySiglip) -> None:
    pytest.importorskip("transformers")
    from gemma3_oracles import siglip_rows

    pixels = picture(tiny.image_size, tiny.image_size)
    assert_near(see(load(tmp_path, tiny), pixels, tiny.image_size), siglip_rows(tiny, pixels))


def test_every_tensor_has_a_name_of_its_own() -> None:
    weights = TINY.weights()
    assert len({gguf_name(name) for name in weights}) == len(weights)
