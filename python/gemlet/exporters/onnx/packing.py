"""Stored types of GGUF as ONNX tensors: the same codes in the order that ONNX operators want."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from gemlet.exporters.packing import BLOCK, block_scales, paired_nibbles, stored_blocks
from gemlet.exporters.source import Matrix, TensorFile

CODE_BITS: Final = {"Q4_0": 4, "Q8_0": 8}


@dataclass(frozen=True)
class Part:
    """One of the tensors that a matrix is stored as."""

    suffix: str
    type: int
    """Element type, as TensorProto numbers it."""
    shape: tuple[int, ...]
    bytes: int


def parts(matrix: Matrix, *, half_scales: bool) -> list[Part]:
    """What a matrix is stored as: its values, or codes and scales.

    half_scales: as GGUF has them; else float32, which `MatMulNBits` wants beside float32 activations.
    """
    rows, cols = matrix.rows, matrix.cols
    if matrix.type == "F32":
        return [Part("weight", TensorProto.FLOAT, (rows, cols), 4 * rows * cols)]
    if matrix.type == "F16":
        return [Part("weight", TensorProto.FLOAT16, (rows, cols), 2 * rows * cols)]
    blocks = cols // BLOCK
    code_bytes = BLOCK * CODE_BITS[matrix.type] // 8
    scale_type, scale_bytes = (TensorProto.FLOAT16, 2) if half_scales else (TensorProto.FLOAT, 4)
    return [
        Part("codes", TensorProto.UINT8, (rows, blocks, code_bytes), rows * blocks * code_bytes),
        Part("scales", scale_type, (rows, blocks), scale_bytes * rows * blocks),
    ]


def slabs(source: TensorFile, matrix: Matrix, *, half_scales: bool) -> Iterator[list[NDArray[np.generic]]]:
    """The bytes of its parts, some rows at a time."""
    for encoded in source.encoded(matrix):
        if matrix.type not in CODE_BITS:
            yield [encoded]
            continue
        blocks = stored_blocks(encoded, matrix.cols)
        scales = block_scales(blocks)
        # int8 to uint8 around 128, or two weights a byte
        codes = paired_nibbles(blocks) if matrix.type == "Q4_0" else np.ascontiguousarray(blocks[:, :, 2:] ^ 0x80)
        yield [codes, scales if half_scales else scales.astype(np.float32)]
