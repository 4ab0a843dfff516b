"""A GGUF file out of another one, with its tensors in the types that an export stores."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

from gemlet import _core
from gemlet.conversion.recipes import Recipe
from gemlet.files import check_space

from .packing import BLOCK
from .progress import Progress
from .source import TensorFile

_TRANSPOSED = ".ffn_down_t."


def matches(source: TensorFile, recipe: Recipe) -> bool:
    """Whether every tensor is stored as the recipe says already."""
    return all(
        stored["type"] == _type(source, name, stored["shape"], recipe).name and _TRANSPOSED not in name
        for name, stored in source.tensors.items()
    )


def requantise(source: TensorFile, recipe: Recipe, path: Path, progress: Progress, *, positive: bool = False) -> None:
    """Writes `path`; tensors that have their type already keep their codes. Raises OSError,
    such as a FileError for a disk without the room.

    positive: scales of Q4_0 are above zero. A block whose greatest weight is positive is then rounded anew, to seven
    steps on each side instead of eight on one.
    """
    shapes = {_new_name(name): _new_shape(source, name, stored["shape"]) for name, stored in source.tensors.items()}
    types = {name: _type(source, name, shape, recipe) for name, shape in shapes.items()}
    sizes = {name: _bytes(shapes[name], types[name]) for name in shapes}
    check_space(path.parent, sum(sizes.values()), path)
    progress.expect(sum(sizes.values()))
    with path.open("wb") as file:
        file.write(source.header(len(shapes)))
        offset = 0
        for name, shape in shapes.items():
            encoded = name.encode()
            file.write(struct.pack(f"<Q{len(encoded)}sI", len(encoded), encoded, len(shape)))
            file.write(struct.pack(f"<{len(shape)}QIQ", *reversed(shape), int(types[name]), offset))
            offset += sizes[name] + -sizes[name] % source.alignment
        for old, new in zip(source.tensors, shapes, strict=True):
            file.write(bytes(-file.tell() % source.alignment))
            for slab in _encoded(source, old, types[new].name, positive):
                file.write(np.ascontiguousarray(slab).data)
                progress.add(slab.nbytes)
        file.write(bytes(-file.tell() % source.alignment))


def _encoded(source: TensorFile, name: str, type: str, positive: bool) -> Iterator[NDArray[np.uint8]]:
    matrix = source.whole(name)
    flat = source.flat_shape(name, source.tensors[name]["shape"])
    matrix = replace(matrix, rows=math.prod(flat[:-1]), cols=flat[-1])
    anew = positive and type == "Q4_0"
    if matrix.type == type and not anew and _TRANSPOSED not in name:
        yield from source.encoded(matrix)
        return
    slabs: Iterable[NDArray[np.float32]] = source.floats(matrix)
    if _TRANSPOSED in name:
        slabs = [np.ascontiguousarray(np.concatenate(list(slabs)).T)]
    for slab in slabs:
        yield positive_q4_0(slab) if anew else _core.quantize(slab, type.lower(), os.cpu_count() or 1)


def positive_q4_0(rows: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Rows of Q4_0 whose scales are not negative: the least that clips no weight of the block."""
    blocks = rows.reshape(len(rows), -1, BLOCK)
    scales = np.maximum(blocks.min(axis=2) / -8, blocks.max(axis=2) / 7).astype(np.float16)
    divisors = np.where(scales > 0, scales, np.float16(1)).astype(np.float32)[:, :, None]
    codes = np.clip(np.rint(blocks / divisors) + 8, 0, 15).astype(np.uint8)
    packed = codes[:, :, : BLOCK // 2] | (codes[:, :, BLOCK // 2 :] << 4)
    return np.concatenate([scales[:, :, None].view(np.uint8), packed], axis=2).reshape(len(rows), -1)


def _type(source: TensorFile, name: str, shape: tuple[int, ...], recipe: Recipe) -> gguf.GGMLQuantizationType:
    return recipe.type_of(source.role_of(name, shape), source.flat_shape(name, shape)[-1])


def _bytes(shape: tuple[int, ...], type: gguf.GGMLQuantizationType) -> int:
    block, size = gguf.GGML_QUANT_SIZES[type]
    return math.prod(shape) // int(block) * int(size)


def _new_name(name: str) -> str:
    return name.replace(_TRANSPOSED, ".ffn_down.")


def _new_shape(source: TensorFile, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[::-1] if _TRANSPOSED in name else source.flat_shape(name, shape)
