"""A GGUF file out of another one, with its tensors in the types that an export stores."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

from gemlet import _core
from gemlet.convert.mapping import role_of
from gemlet.convert.recipes import Recipe

from .progress import Progress
from .source import Source

_TRANSPOSED = ".ffn_down_t."


def matches(source: Source, recipe: Recipe) -> bool:
    """Whether every tensor is stored as the recipe says already."""
    return all(
        stored["type"] == _type(name, stored["shape"], recipe).name and _TRANSPOSED not in name
        for name, stored in source.tensors.items()
    )


def requantise(source: Source, recipe: Recipe, path: Path, progress: Progress) -> None:
    """Writes `path`; tensors that have their type already keep their codes. Raises OSError."""
    shapes = {_new_name(name): _new_shape(name, stored["shape"]) for name, stored in source.tensors.items()}
    types = {name: _type(name, shape, recipe) for name, shape in shapes.items()}
    sizes = {name: _bytes(shapes[name], types[name]) for name in shapes}
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
            for slab in _encoded(source, old, types[new].name):
                file.write(np.ascontiguousarray(slab).data)
                progress.add(slab.nbytes)
        file.write(bytes(-file.tell() % source.alignment))
        file.flush()
        os.fsync(file.fileno())


def _encoded(source: Source, name: str, type: str) -> Iterator[NDArray[np.uint8]]:
    matrix = source.whole(name)
    if _TRANSPOSED in name:
        floats = np.concatenate(list(source.floats(matrix))).T
        yield _core.quantize(np.ascontiguousarray(floats), type.lower(), os.cpu_count() or 1)
    elif matrix.type == type:
        yield from source.encoded(matrix)
    else:
        for slab in source.floats(matrix):
            yield _core.quantize(slab, type.lower(), os.cpu_count() or 1)


def _type(name: str, shape: tuple[int, ...], recipe: Recipe) -> gguf.GGMLQuantizationType:
    return recipe.type_of(role_of(name), shape[-1])


def _bytes(shape: tuple[int, ...], type: gguf.GGMLQuantizationType) -> int:
    block, size = gguf.GGML_QUANT_SIZES[type]
    return math.prod(shape) // int(block) * int(size)


def _new_name(name: str) -> str:
    return name.replace(_TRANSPOSED, ".ffn_down.")


def _new_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[::-1] if _TRANSPOSED in name else shape
