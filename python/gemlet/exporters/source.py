"""The GGUF file that an export is made of: its configuration, and its tensors a slab at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gemlet import _core

#: Weights that are converted at a time: 64 MB in float32, whatever the size of a tensor.
SLAB_WEIGHTS = 1 << 24

TABLE = "per_layer_token_embd.weight"
HEAD = "output.weight"
EMBEDDING = "token_embd.weight"


@dataclass(frozen=True)
class LayerConfig:
    """See cpp/model/config.hpp."""

    intermediate_size: int
    sliding: bool
    sparsity_scale: float | None
    """icdf(sparsity); None: dense."""
    owns_kv: bool
    kv_layer: int
    """The layer whose keys and values this one reads."""


@dataclass(frozen=True)
class Config:
    """Gemma 3n's text model, in the names of `Gemma3nTextConfig` (transformers)."""

    vocab_size: int
    hidden_size: int
    hidden_size_per_layer_input: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    sliding_window: int
    altup_num_inputs: int
    altup_active_idx: int
    laurel_rank: int
    max_position_embeddings: int
    rms_norm_eps: float
    rope_theta: float
    rope_local_base_freq: float
    final_logit_softcapping: float
    layers: tuple[LayerConfig, ...]

    @property
    def kv_layers(self) -> tuple[int, ...]:
        """Indices of the layers that own keys and values; they come first."""
        return tuple(i for i, layer in enumerate(self.layers) if layer.owns_kv)


@dataclass(frozen=True)
class Matrix:
    """A matrix of weights: rows `begin` to `begin + rows` of a stored tensor."""

    tensor: str
    rows: int
    cols: int
    type: str
    """GGUF's name of the type: "Q4_0"."""
    begin: int = 0

    @property
    def name(self) -> str:
        """Unique in the file."""
        stem = self.tensor.removesuffix(".weight")
        return f"{stem}.{self.begin // self.rows}" if self.tensor.startswith("altup_") else stem


class Source:
    """A GGUF file of Gemma 3n, every shape checked by the core. Weights are read as they are asked for."""

    def __init__(self, path: Path) -> None:
        """Raises what loading it in the core would: FileError, FormatError, UnsupportedError."""
        found = _core.read_model_file(path)
        fields = dict(found["config"])
        layers = tuple(LayerConfig(**layer) for layer in found["config"]["layers"])
        self.path = path
        self.config = Config(**{**fields, "layers": layers})  # type: ignore[arg-type]
        self.tensors = found["tensors"]
        self._per_layer_rows = found["per_layer_rows"]
        self.alignment = found["alignment"]

    @property
    def tied(self) -> bool:
        """Whether the head is the token embedding."""
        return HEAD not in self.tensors

    def matrix(self, tensor: str, part: int | None = None) -> Matrix:
        """A tensor as one matrix, or matrix `part` of a stack of them."""
        stored = self.tensors[tensor]
        *outer, rows, cols = stored["shape"]
        return Matrix(tensor, rows, cols, stored["type"], 0 if part is None or not outer else part * rows)

    def whole(self, tensor: str) -> Matrix:
        """A tensor of any rank, all its rows below each other."""
        stored = self.tensors[tensor]
        *outer, cols = stored["shape"]
        return Matrix(tensor, math.prod(outer), cols, stored["type"])

    def head(self) -> Matrix:
        return self.matrix(EMBEDDING if self.tied else HEAD)

    def vector(self, name: str) -> NDArray[np.float32]:
        """A small tensor in its shape: a norm, or one of AltUp's matrices."""
        whole = self.whole(name)
        floats: NDArray[np.float32] = np.concatenate(list(self.floats(whole)))
        return floats.reshape(self.tensors[name]["shape"])

    def encoded(self, matrix: Matrix) -> Iterator[NDArray[np.uint8]]:
        """The matrix's rows as they are stored, a slab at a time."""
        at_once = max(1, SLAB_WEIGHTS // matrix.cols)
        for begin in range(0, matrix.rows, at_once):
            slab = self._read(matrix.tensor, matrix.begin + begin, min(at_once, matrix.rows - begin))
            if matrix.tensor == TABLE and begin + len(slab) > self._per_layer_rows:
                # Ids beyond the table use its row 0, so that no graph has to tell them apart.
                slab[max(0, self._per_layer_rows - begin) :] = self._read(TABLE, 0, 1)
            yield slab

    def floats(self, matrix: Matrix) -> Iterator[NDArray[np.float32]]:
        """The matrix's rows in float32, a slab at a time."""
        for slab in self.encoded(matrix):
            yield _core.dequantize(slab, matrix.type.lower(), matrix.cols)

    def header(self, tensors: int) -> bytes:
        """The beginning of a GGUF file with the same metadata and so many tensors, up to their table."""
        return _core.gguf_header(self.path, tensors)

    def _read(self, name: str, begin: int, rows: int) -> NDArray[np.uint8]:
        """So many rows, [rows, bytes of a row]; not through a map, whose pages would stay resident."""
        stored = self.tensors[name]
        row_bytes = stored["bytes"] // math.prod(stored["shape"][:-1])
        read = np.fromfile(stored["file"], np.uint8, rows * row_bytes, offset=stored["offset"] + begin * row_bytes)
        return read.reshape(rows, row_bytes)
