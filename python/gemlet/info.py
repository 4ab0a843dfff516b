"""The description of a loaded model: configuration, layers, tensors."""

import math
from dataclasses import dataclass
from typing import Any

from gemlet import _core


@dataclass(frozen=True)
class TensorInfo:
    """One tensor of the file. ``shape`` is outermost first, as in PyTorch."""

    name: str
    type: str
    shape: tuple[int, ...]
    bytes: int
    on_flash: bool
    """Read row by row from the file, never resident as a whole."""

    @property
    def elements(self) -> int:
        """Number of values."""
        count = 1
        for size in self.shape:
            count *= size
        return count


@dataclass(frozen=True)
class LayerInfo:
    """One layer: what it stores, what it attends to and how wide it is."""

    index: int
    """Number in the file."""
    kv_source: int
    """Number of the layer whose keys and values it reads: its own, or one that it shares."""
    kv_heads: int
    head_dim: int
    window: int
    """Positions that a token attends to, itself included; 0: all before it."""
    intermediate_size: int

    @property
    def owns_kv(self) -> bool:
        """Whether it has keys and values of its own."""
        return self.kv_source == self.index


@dataclass(frozen=True)
class Work:
    """Amount of computation since the model was loaded, or between two moments."""

    weight_bytes: int
    """Bytes of weight matrices streamed from memory, counted once for each product."""
    multiply_adds: int
    """Multiply-adds of weights with activations."""
    barriers: int
    """Parallel loops, at whose ends the threads wait for one another."""

    def __sub__(self, earlier: "Work") -> "Work":
        """The work done since an earlier moment."""
        return Work(
            self.weight_bytes - earlier.weight_bytes,
            self.multiply_adds - earlier.multiply_adds,
            self.barriers - earlier.barriers,
        )


@dataclass(frozen=True)
class ModelInfo:
    """Configuration of a model and how it was loaded."""

    architecture: str
    name: str
    chat_template: str
    """Jinja source; empty if the file has none."""
    vocabulary: int
    hidden_size: int
    layers: int
    file_layers: int
    """More than ``layers`` where a slice drops some."""
    trained_context: int
    layer_info: tuple[LayerInfo, ...]
    hyperparameters: dict[str, Any]
    """The whole configuration, in the checkpoint's own vocabulary; lists have one entry a layer."""
    kernels: str
    threads: int
    context: int
    file_bytes: int
    encoder_bytes: int
    """Size of encoders of pictures and sound that stand in the same file."""
    fingerprint: int
    """Hash of the weights, the configuration and the slice; saved sessions carry it."""
    tensors: tuple[TensorInfo, ...]
    """The text model's tensors; for a slice, the parts that it uses."""

    @property
    def sliding_window(self) -> int:
        """The widest sliding window; 0 if all layers attend to everything."""
        return max((layer.window for layer in self.layer_info), default=0)

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(tensor.elements for tensor in self.tensors)

    @property
    def bytes(self) -> int:
        """Size of all weights of the text model: about the size of its file, or less for a slice."""
        return sum(tensor.bytes for tensor in self.tensors)

    @property
    def tensor_type(self) -> str:
        """The quantisation of the file: the type that holds most of the bytes."""
        sizes: dict[str, int] = {}
        for tensor in self.tensors:
            sizes[tensor.type] = sizes.get(tensor.type, 0) + tensor.bytes
        return max(sizes, key=lambda name: sizes[name], default="")

    @classmethod
    def of(cls, engine: _core.Engine) -> "ModelInfo":
        """Read it from a loaded engine."""
        fields: dict[str, Any] = dict(engine.info())
        fields["tensors"] = tuple(TensorInfo(**tensor) for tensor in fields["tensors"])
        fields["layer_info"] = tuple(LayerInfo(**layer) for layer in fields["layer_info"])
        return cls(**fields)


def without_infinities(hyperparameters: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinities: null stands for them."""
    return {
        name: [None if isinstance(entry, float) and math.isinf(entry) else entry for entry in value]
        if isinstance(value, list)
        else value
        for name, value in hyperparameters.items()
    }
