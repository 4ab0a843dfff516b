"""The GGUF file that encoders are exported from: an "mmproj", or a model's file that holds them too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gemlet import _core
from gemlet.conversion.planned import Role
from gemlet.exporters.source import OF_ENCODERS, Matrix, TensorFile

VISION = "v.msfa.norm.weight"
AUDIO = "a.pre_encode.out.weight"
"""Tensors that tell the encoders which are exported."""

#: Of every norm in the encoders.
EPSILON = 1e-6

_ATTENTION_AND_PROJECTIONS = (
    *(f".attn.{part}.proj.weight" for part in ("query", "key", "value", "output")),
    *(".linear_pos.weight", ".pre_encode.out.weight", ".input_projection.weight"),
)
_CHANNELS = (".gamma", ".bias")


class EncoderSource(TensorFile):
    """The encoders of a GGUF file, every shape checked by the core."""

    def __init__(self, path: Path) -> None:
        """Raises what loading it in the core would: FileError, FormatError, UnsupportedError."""
        found = _core.read_encoders_file(path)
        tensors = {name: stored for name, stored in found["tensors"].items() if name.startswith(OF_ENCODERS)}
        super().__init__(path, tensors, found["alignment"])
        self.mel_bins = found["mel_bins"]
        self.filled_tokens = found["filled_tokens"]
        self.picture_size = found["picture_size"]

    @property
    def title(self) -> str:
        return "encoders"

    @property
    def hidden_size(self) -> int:
        """Of the text model: the values of a soft token."""
        return self.matrix(f"mm.{'' if self.sees else 'a.'}input_projection.weight").rows

    @property
    def sees(self) -> bool:
        return VISION in self.tensors

    @property
    def hears(self) -> bool:
        return AUDIO in self.tensors

    def matrix(self, name: str) -> Matrix:
        """The weight of a linear layer, or of a 1x1 convolution, which may have four dimensions."""
        stored = self._stored(name)
        rows, cols = stored["shape"][:2]
        return Matrix(name, rows, cols, stored["type"])

    def hard_token(self, prefix: str, index: int) -> NDArray[np.float32]:
        """The embedding of a row of an encoder's table, [hidden]: hard norm, projection, norm without a weight."""
        row = _normed(self.vector(f"{prefix}embedding.weight")[index]) * self.vector(f"{prefix}hard_emb_norm.weight")
        projection = np.concatenate(list(self.floats(self.matrix(f"{prefix}input_projection.weight"))))
        return _normed(projection.astype(np.float64) @ row).astype(np.float32)

    def role_of(self, name: str, shape: tuple[int, ...]) -> Role:
        """As gemlet.conversion gives them by a checkpoint's names."""
        if name.endswith(".embedding.weight"):
            return Role.TABLE
        if len(shape) == 2 or (len(shape) == 4 and shape[2:] == (1, 1) and not name.endswith(_CHANNELS)):
            return Role.GLUE if name.endswith(_ATTENTION_AND_PROJECTIONS) else Role.LAYER
        is_kernel = len(shape) == 4 and name.startswith("v.blk.") and not name.endswith(_CHANNELS)
        return Role.KERNEL if is_kernel else Role.VECTOR

    def flat_shape(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """A 1x1 convolution as the matrix that it is."""
        return shape[:2] if self.role_of(name, shape) in (Role.LAYER, Role.GLUE) else shape

    def hard_tokens(self, prefix: str) -> int:
        """How many rows the table has."""
        return self.matrix(f"{prefix}embedding.weight").rows


def _normed(x: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.asarray(x / np.sqrt(np.mean(np.square(x, dtype=np.float64)) + EPSILON), np.float64)
