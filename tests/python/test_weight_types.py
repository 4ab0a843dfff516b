"""Every weight type that the `gguf` package lists means the same here, whatever the bytes."""

from __future__ import annotations

import gemlet
import numpy as np
import numpy.typing as npt
import pytest
from gemlet import _core
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

NOT_WEIGHTS = {"I8", "I16", "I32", "I64", "F64", "Q8_1", "Q8_K"}
WEIGHTS = [kind for kind in GGMLQuantizationType if kind.name not in NOT_WEIGHTS]


def reference(data: Bytes, kind: GGMLQuantizationType) -> Floats:
    if kind is GGMLQuantizationType.Q1_0:  # the package knows its size alone: a sign for each of 128 weights
        blocks = data.reshape(-1, 18)
        d = blocks[:, :2].copy().view(np.float16).astype(np.float32)
        bits = np.unpackbits(blocks[:, 2:], axis=1, bitorder="little")
        values: Floats = np.where(bits == 1, d, -d)
        return values.reshape(len(data), -1)
    with np.errstate(all="ignore"):
        return np.asarray(quants.dequantize(data, kind), np.float32)


def check(data: Bytes, kind: GGMLQuantizationType) -> None:
    elements, size = GGML_QUANT_SIZES[kind]
    ours = _core.dequantize(data, kind.name.lower(), data.shape[1] // size * elements)
    theirs = reference(data, kind)
    assert ours.shape == theirs.shape
    nan = np.isnan(theirs)
    assert np.array_equal(np.isnan(ours), nan)
    assert np.array_equal(ours.view(np.uint32)[~nan], theirs.view(np.uint32)[~nan])


@pytest.mark.parametrize("kind", WEIGHTS, ids=lambda kind: kind.name)
def test_random_bytes(kind: GGMLQuantizationType) -> None:
    random = np.random.default_rng(1)
    size = GGML_QUANT_SIZES[kind][1]
    check(random.integers(0, 256, (16, 64 * size), np.uint8), kind)


@pytest.mark.parametrize("kind", WEIGHTS, ids=lambda kind: kind.name)
def test_bytes_at_the_ends_of_their_range(kind: GGMLQuantizationType) -> None:
    size = GGML_QUANT_SIZES[kind][1]
    bytes_of_all_kinds = [np.full((1, size), value, np.uint8) for value in range(256)]
    check(np.concatenate(bytes_of_all_kinds), kind)
    random = np.random.default_rng(2)
    check(random.choice(np.array([0x00, 0x7F, 0x80, 0xFF], np.uint8), (16, 64 * size)), kind)


@pytest.mark.parametrize("kind", WEIGHTS, ids=lambda kind: kind.name)
def test_hostile_scales(kind: GGMLQuantizationType) -> None:
    """Infinities, NaN, zeros, denormals and the largest numbers in half precision, at each even place of a block."""
    random = np.random.default_rng(3)
    size = GGML_QUANT_SIZES[kind][1]
    halves = [0x7C00, 0xFC00, 0x7E00, 0x7C01, 0xFFFF, 0x0000, 0x8000, 0x0001, 0x83FF, 0x7BFF, 0xFBFF]
    rows = []
    for place in range(0, size - 1, 2):
        for half in halves:
            row = random.integers(0, 256, size, np.uint8)
            row[place : place + 2] = np.array([half], "<u2").view(np.uint8)
            rows.append(row)
    if rows:
        check(np.stack(rows), kind)


def test_every_scale_of_the_4_bit_floats() -> None:
    for kind in (GGMLQuantizationType.MXFP4, GGMLQuantizationType.NVFP4):
        size = GGML_QUANT_SIZES[kind][1]
        rows = np.random.default_rng(4).integers(0, 256, (256, size), np.uint8)
        rows[:, 0] = np.arange(256)
        check(rows, kind)


@pytest.mark.parametrize("name", sorted(NOT_WEIGHTS))
def test_what_is_no_weight_type_is_refused_by_name(name: str) -> None:
    with pytest.raises(gemlet.ArgumentError, match=f'no storage type "{name.lower()}"'):
        _core.dequantize(np.zeros((1, 8), np.uint8), name.lower(), 1)
