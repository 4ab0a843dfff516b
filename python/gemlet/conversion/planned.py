"""The plan of a GGUF file: its tensors, their roles, and the checkpoint's tensors that they are made of."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import Literal


class Role(enum.Enum):
    """The purpose of a tensor, which decides the type that it is stored in (recipes.py)."""

    VECTOR = "norms and the small matrices of routers: always f32"
    LAYER = "the matrices of attention and feed-forward, and others as large"
    GLUE = "small matrices whose outputs every later layer reads"
    HEAD = "token embedding and output head"
    TABLE = "an embedding table of which a token reads one row"
    TRANSPOSED = "a matrix that rows are multiplied with from the left, which llama.cpp transposes"
    KERNEL = "kernels of convolutions over several pixels, which are small"


@dataclass(frozen=True)
class PlannedTensor:
    """A tensor of the GGUF file. `shape` is outermost first and `rows` x `cols` its matrix; it is made of `sources`,
    one after the other, each `source_shape`, or the parts of their rows and columns that `row_parts` and `col_parts`
    name, each (begin, end). Rows that the sources do not give are copies of their row 0, or `constant` where there is
    no source at all. `transposed`: the source is a matrix whose columns are this one's rows. `shift` is added to every
    value. `absent`: what becomes of the tensor if its sources are not in the checkpoint. `header_shape`: the shape that
    the file's header gives, where readers want further axes of length 1."""

    name: str
    shape: tuple[int, ...]
    sources: tuple[str, ...]
    source_shape: tuple[int, ...]
    constant: float = 0.0
    row_parts: tuple[tuple[int, int], ...] = ()
    col_parts: tuple[tuple[int, int], ...] = ()
    transposed: bool = False
    shift: float = 0.0
    absent: Literal["refused", "left out", "zeros"] = "refused"
    header_shape: tuple[int, ...] = ()

    @property
    def cols(self) -> int:
        """Values of a row."""
        return self.shape[-1]

    @property
    def rows(self) -> int:
        """Rows of the matrix: all but the last axis, joined."""
        return math.prod(self.shape[:-1])


def one(name: str, source: str, *shape: int) -> PlannedTensor:
    """A tensor that is one of the checkpoint's."""
    return PlannedTensor(f"{name}.weight", shape, (source,), shape)


def stack(name: str, source: str, count: int, size: int) -> PlannedTensor:
    """Several square matrices of the checkpoint, `source`.0 and so on, as one tensor."""
    sources = tuple(f"{source}.{i}.weight" for i in range(count))
    return PlannedTensor(f"{name}.weight", (count, size, size), sources, (size, size))
