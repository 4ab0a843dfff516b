"""The GGUF file that an export is made of: its tensors a slab at a time, and a text model's configuration."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gemlet import _core
from gemlet.conversion import architectures as conversions
from gemlet.conversion.planned import Role
from gemlet.errors import UnsupportedError

#: Weights that are converted at a time: 64 MB in float32, whatever the size of a tensor.
SLAB_WEIGHTS = 1 << 24

TABLE = "per_layer_token_embd.weight"
HEAD = "output.weight"
EMBEDDING = "token_embd.weight"
OF_ENCODERS = ("v.", "a.", "mm.")
"""What the names of the tensors begin with that are an encoder's, in a file that holds them beside the text model."""


@dataclass(frozen=True)
class LayerConfig:
    """One layer, as all architectures have it."""

    kv_heads: int
    head_dim: int
    window: int
    """Tokens that a token sees, itself among them; 0: all before it."""
    rope_base: float
    rope_factor: float
    """Positions are divided by it."""
    owns_kv: bool
    kv_layer: int
    """The layer whose keys and values this one reads."""


@dataclass(frozen=True)
class Config:
    """A text model, as all architectures have it, in the names of transformers' configurations."""

    vocab_size: int
    hidden_size: int
    num_attention_heads: int
    max_position_embeddings: int
    rms_norm_eps: float
    layers: tuple[LayerConfig, ...]
    own: Mapping[str, Any]
    """All hyperparameters, for those that only the architecture knows; lists have one entry a layer."""

    @classmethod
    def of(cls, layers: Sequence[_core._LayerShape], own: Mapping[str, Any]) -> Config:
        """From what the core reads in a model file: the shapes of the layers, and all hyperparameters."""
        return cls(
            vocab_size=own["vocab_size"],
            hidden_size=own["hidden_size"],
            num_attention_heads=own["num_attention_heads"],
            max_position_embeddings=own["max_position_embeddings"],
            rms_norm_eps=own["rms_norm_eps"],
            layers=tuple(
                LayerConfig(
                    kv_heads=layer["kv_heads"],
                    head_dim=layer["head_dim"],
                    window=layer["window"],
                    rope_base=own["rope_local_base_freq"] if layer["window"] else own["rope_theta"],
                    rope_factor=1.0 if layer["window"] else own.get("rope_scaling_factor", 1.0),
                    owns_kv=layer["kv_source"] == layer["file_index"],
                    kv_layer=layer["kv_source"],
                )
                for layer in layers
            ),
            own=own,
        )

    @property
    def window(self) -> int:
        """The widest of the sliding windows; 0 if there are none."""
        return max(layer.window for layer in self.layers)

    def common_fields(self) -> dict[str, Any]:
        """The fields of transformers' configurations that all text models have."""
        names = (
            *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"),
            *("head_dim", "sliding_window", "max_position_embeddings", "layer_types"),
        )
        full: dict[str, Any] = {"rope_type": "default", "rope_theta": decimal(self.own["rope_theta"])}
        if (factor := self.own.get("rope_scaling_factor", 1.0)) != 1.0:
            full |= {"rope_type": "linear", "factor": decimal(factor)}
        local = {"rope_type": "default", "rope_theta": decimal(self.own["rope_local_base_freq"])}
        return {
            **{name: self.own[name] for name in names},
            "rms_norm_eps": decimal(self.rms_norm_eps),
            "rope_parameters": {"full_attention": full, "sliding_attention": local},
            "hidden_activation": "gelu_pytorch_tanh",
            "attention_bias": False,
        }

    @property
    def kv_layers(self) -> tuple[int, ...]:
        """Indices of the layers that own keys and values; they come first."""
        return tuple(i for i, layer in enumerate(self.layers) if layer.owns_kv)


def decimal(value: float) -> float:
    """A float32 as its shortest decimal form: 1e-06 rather than 9.999999974752427e-07."""
    return float(str(np.float32(value)))


@dataclass(frozen=True)
class Matrix:
    """A matrix of weights: a stored tensor, or one of several that are stored as one tensor."""

    tensor: str
    rows: int
    cols: int
    type: str
    """GGUF's name of the type: "Q4_0"."""
    begin: int = 0
    """The first of its rows in the stored tensor."""
    part: int | None = None
    """The number of the matrix in its tensor, if that holds several."""

    @property
    def name(self) -> str:
        """Unique in the file."""
        stem = self.tensor.removesuffix(".weight")
        return stem if self.part is None else f"{stem}.{self.part}"


class TensorFile(ABC):
    """The tensors of a GGUF file, which are read as they are asked for."""

    def __init__(self, path: Path, tensors: Mapping[str, _core._StoredTensor], alignment: int) -> None:
        self.path = path
        self.tensors = tensors
        self.alignment = alignment

    def whole(self, tensor: str) -> Matrix:
        """A tensor of any rank, all its rows below each other."""
        stored = self._stored(tensor)
        *outer, cols = stored["shape"]
        return Matrix(tensor, math.prod(outer), cols, stored["type"])

    def vector(self, name: str) -> NDArray[np.float32]:
        """A small tensor in its shape: a norm, or the matrix of a router."""
        whole = self.whole(name)
        floats: NDArray[np.float32] = np.concatenate(list(self.floats(whole)))
        return floats.reshape(self._stored(name)["shape"])

    def encoded(self, matrix: Matrix) -> Iterator[NDArray[np.uint8]]:
        """The matrix's rows as they are stored, a slab at a time."""
        at_once = max(1, SLAB_WEIGHTS // matrix.cols)
        for begin in range(0, matrix.rows, at_once):
            yield self._read(matrix.tensor, matrix.begin + begin, min(at_once, matrix.rows - begin), matrix.cols)

    def floats(self, matrix: Matrix) -> Iterator[NDArray[np.float32]]:
        """The matrix's rows in float32, a slab at a time."""
        for slab in self.encoded(matrix):
            yield _core.dequantize(slab, matrix.type.lower(), matrix.cols)

    @property
    @abstractmethod
    def title(self) -> str:
        """What the file holds, as messages and graphs call it."""

    @abstractmethod
    def role_of(self, name: str, shape: tuple[int, ...]) -> Role:
        """The role of a tensor, by which recipes give types."""

    def flat_shape(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape without axes that would keep a tensor from having a type of blocks."""
        return shape

    def header(self, tensors: int) -> bytes:
        """The beginning of a GGUF file with the same metadata and so many tensors, up to their table."""
        return _core.gguf_header(self.path, tensors)

    def _stored(self, name: str) -> _core._StoredTensor:
        if name not in self.tensors:
            raise UnsupportedError(
                f"{self.path}: has no tensor {name!r}, which the exporter of {self.title!r} asks for"
            )
        return self.tensors[name]

    def _read(self, name: str, begin: int, rows: int, cols: int) -> NDArray[np.uint8]:
        """So many rows, [rows, bytes of a row]; not through a map, whose pages would stay resident."""
        stored = self._stored(name)
        row_bytes = stored["bytes"] // (math.prod(stored["shape"]) // cols)
        read = np.fromfile(stored["file"], np.uint8, rows * row_bytes, offset=stored["offset"] + begin * row_bytes)
        return read.reshape(rows, row_bytes)


class Source(TensorFile):
    """The text model of a GGUF file, every shape checked by the core."""

    def __init__(self, path: Path) -> None:
        """Raises what loading it in the core would: FileError, FormatError, UnsupportedError."""
        found = _core.read_model_file(path)
        tensors = {name: stored for name, stored in found["tensors"].items() if not name.startswith(OF_ENCODERS)}
        super().__init__(path, tensors, found["alignment"])
        self.architecture = found["architecture"]
        try:
            self.config = Config.of(found["layers"], found["hyperparameters"])
        except KeyError as missing:
            raise UnsupportedError(
                f"{path}: hyperparameters of {self.architecture!r} lack {missing}, which exports need"
            ) from missing
        self._table_rows: int = self.config.own.get("vocab_size_per_layer_input", 0)

    @property
    def title(self) -> str:
        return self.architecture

    def role_of(self, name: str, shape: tuple[int, ...]) -> Role:
        return conversions.by_name(self.architecture).role_of(name, shape)

    @property
    def tied(self) -> bool:
        """Whether the head is the token embedding."""
        return HEAD not in self.tensors

    def matrix(self, tensor: str, part: int | None = None) -> Matrix:
        """A tensor as one matrix, or matrix `part` of a stack of them."""
        stored = self._stored(tensor)
        *outer, rows, cols = stored["shape"]
        if tensor in (EMBEDDING, HEAD):
            rows = min(rows, self.config.vocab_size)  # public files may have more rows than tokens
        if not outer:
            return Matrix(tensor, rows, cols, stored["type"])
        return Matrix(tensor, rows, cols, stored["type"], (part or 0) * rows, part)

    def fused(self, tensor: str, sizes: Sequence[int]) -> list[Matrix]:
        """The matrices that a tensor holds one below the other, of so many rows."""
        stored = self._stored(tensor)
        begins = [sum(sizes[:i]) for i in range(len(sizes))]
        return [
            Matrix(tensor, rows, stored["shape"][-1], stored["type"], begin, part)
            for part, (begin, rows) in enumerate(zip(begins, sizes, strict=True))
        ]

    def embedding(self) -> Matrix:
        """[vocab_size, hidden_size]: files may pad it."""
        return dataclasses.replace(self.matrix(EMBEDDING), rows=self.config.vocab_size)

    def head(self) -> Matrix:
        """[vocab_size, hidden_size], the embedding itself where the model ties them."""
        return dataclasses.replace(self.matrix(EMBEDDING if self.tied else HEAD), rows=self.config.vocab_size)

    def _read(self, name: str, begin: int, rows: int, cols: int) -> NDArray[np.uint8]:
        slab = super()._read(name, begin, rows, cols)
        if name == TABLE and begin + len(slab) > self._table_rows:
            # Ids beyond the table use its row 0, so that no graph has to tell them apart.
            slab[max(0, self._table_rows - begin) :] = super()._read(TABLE, 0, 1, cols)
        return slab
