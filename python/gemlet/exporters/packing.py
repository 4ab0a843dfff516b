"""The blocks in which GGUF stores quantised weights."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

BLOCK: Final = 32
"""Weights that share a scale in Q4_0 and Q8_0."""


def stored_blocks(encoded: NDArray[np.uint8], cols: int) -> NDArray[np.uint8]:
    """uint8 [rows, blocks, bytes of a block]: two bytes of a float16 scale, then the codes."""
    return encoded.reshape(len(encoded), cols // BLOCK, -1)


def block_scales(blocks: NDArray[np.uint8]) -> NDArray[np.float16]:
    """float16 [rows, blocks]."""
    return np.ascontiguousarray(blocks[:, :, :2]).view(np.float16)[:, :, 0]


def paired_nibbles(blocks: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The codes of Q4_0, 0 to 15, neighbours in a byte, the first one low. GGUF has weights 0 to 15 of a block in the
    low halves of its bytes, and 16 to 31 in the high ones."""
    codes = blocks[:, :, 2:]
    weights = np.concatenate([codes & 0x0F, codes >> 4], axis=2)
    pairs: NDArray[np.uint8] = weights[:, :, 0::2] | (weights[:, :, 1::2] << 4)
    return pairs
