"""Weights as TFLite's fully connected layers and gathers take them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gemlet.exporters.packing import block_scales, paired_nibbles, stored_blocks
from gemlet.exporters.source import Matrix, TensorFile


def plain(source: TensorFile, matrix: Matrix) -> Iterator[NDArray[Any]]:
    """The bytes of an F32 or F16 matrix."""
    yield from source.encoded(matrix)


def row_scales(source: TensorFile, matrix: Matrix) -> NDArray[np.float32]:
    """float32 [rows]: a row's greatest magnitude becomes 127."""
    greatest = np.concatenate([np.abs(slab).max(axis=1) for slab in source.floats(matrix)])
    return np.where(greatest > 0, greatest / np.float32(127), np.float32(1)).astype(np.float32)


def row_codes(source: TensorFile, matrix: Matrix, scales: NDArray[np.float32]) -> Iterator[NDArray[np.int8]]:
    """int8 [rows, cols], symmetric, with a scale for each row."""
    begin = 0
    for slab in source.floats(matrix):
        inverse = (1 / scales[begin : begin + len(slab)])[:, None]
        yield np.rint(slab * inverse).astype(np.int8)
        begin += len(slab)


def half_scales(source: TensorFile, matrix: Matrix) -> Iterator[NDArray[np.float16]]:
    """float16 [rows, blocks] as the source has them."""
    for encoded in source.encoded(matrix):
        yield block_scales(stored_blocks(encoded, matrix.cols))


def signed_nibbles(source: TensorFile, matrix: Matrix) -> Iterator[NDArray[np.uint8]]:
    """The codes of Q4_0 as int4 in two's complement, neighbours in a byte, the first one low."""
    for encoded in source.encoded(matrix):
        yield paired_nibbles(stored_blocks(encoded, matrix.cols)) ^ np.uint8(0x88)


def stored_codes(source: TensorFile, matrix: Matrix) -> Iterator[NDArray[np.uint8]]:
    """The codes as the source has them. Q4_0: weights 0 to 15 of a block are the low halves of its bytes, 16 to 31 the
    high ones."""
    for encoded in source.encoded(matrix):
        yield stored_blocks(encoded, matrix.cols)[:, :, 2:]
