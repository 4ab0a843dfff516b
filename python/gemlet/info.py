"""What a loaded model says about itself."""

from dataclasses import dataclass

from gemlet.protocols import Engine


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
    """Configuration of a model and how it was loaded. The tuples have one entry a layer."""

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
    heads: int
    kv_heads: int
    head_dim: int
    sliding_window: int
    kv_shared_layers: int
    hidden_size_per_layer_input: int
    layer_index: tuple[int, ...]
    """The number of each layer in the file."""
    intermediate_size: tuple[int, ...]
    sliding: tuple[bool, ...]
    """False: full attention."""
    activation_sparsity: tuple[float, ...]
    """Gate values this many standard deviations above their mean survive; minus infinity: dense."""
    kernels: str
    threads: int
    context: int
    file_bytes: int
    fingerprint: int
    """Hash of the weights, the configuration and the slice; saved sessions carry it."""
    tensors: tuple[TensorInfo, ...]
    """The model's tensors; for a slice, the parts that it uses."""

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(tensor.elements for tensor in self.tensors)

    @property
    def bytes(self) -> int:
        """Size of all weights: about the size of the file, or less for a slice."""
        return sum(tensor.bytes for tensor in self.tensors)

    @property
    def tensor_type(self) -> str:
        """The type that holds most of the bytes: what people call the file's quantisation."""
        sizes: dict[str, int] = {}
        for tensor in self.tensors:
            sizes[tensor.type] = sizes.get(tensor.type, 0) + tensor.bytes
        return max(sizes, key=lambda name: sizes[name], default="")

    @classmethod
    def of(cls, engine: Engine) -> "ModelInfo":
        """Read it from a loaded engine."""
        fields = dict(engine.info())
        tensors = tuple(TensorInfo(**tensor) for tensor in engine.info()["tensors"])
        return cls(**{**fields, "tensors": tensors})  # type: ignore[arg-type]
