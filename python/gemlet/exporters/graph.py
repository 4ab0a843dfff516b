"""What the forward pass is written in: a builder that each file format implements.

Values are tensors of the graph. Lengths that are known only when it runs are None. The operations are those that ONNX
and TFLite both have; what can be made of others is made here, once for both.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .source import Matrix, Source, TensorFile

Shape = tuple[int | None, ...]
Pads = tuple[tuple[int, int], tuple[int, int]]
"""Zeros before and after the rows of a map, and before and after its columns."""


@dataclass(frozen=True)
class Value:
    """A tensor of the graph, by its name there."""

    name: str
    shape: Shape
    dtype: str = "float32"


class Builder(ABC):
    """Adds operations to a graph. All values are float32 unless it says otherwise."""

    def __init__(self, tensors: TensorFile) -> None:
        self.tensors = tensors

    @property
    def source(self) -> Source:
        """The text model, if that is what the graph is of."""
        assert isinstance(self.tensors, Source)
        return self.tensors

    # Weights.

    @abstractmethod
    def linear(self, x: Value, matrix: Matrix) -> Value:
        """x [T, cols] to [T, rows]."""

    @abstractmethod
    def rows(self, matrix: Matrix, ids: Value) -> Value:
        """Rows of a table, [T, cols]; ids [T] are integers."""

    @abstractmethod
    def constant(self, name: str, values: NDArray[np.float32]) -> Value:
        """A small array, the same for every graph of the file that asks for that name."""

    # Keys and values of the layers that own them.

    @abstractmethod
    def remember(self, layer: int, keys: Value, values: Value) -> None:
        """Append [kv_heads, T, head_dim] each to what layer `layer` holds."""

    @abstractmethod
    def remembered(self, layer: int) -> tuple[Value, Value]:
        """Keys and values of the layer, [kv_heads, S, head_dim]: those in the cache, then the appended ones."""

    # Arithmetic; shapes broadcast as in numpy.

    @abstractmethod
    def add(self, a: Value, b: Value) -> Value: ...

    @abstractmethod
    def sub(self, a: Value, b: Value) -> Value: ...

    @abstractmethod
    def mul(self, a: Value, b: Value) -> Value: ...

    @abstractmethod
    def div(self, a: Value, b: Value) -> Value: ...

    @abstractmethod
    def maximum(self, a: Value, b: Value) -> Value: ...

    @abstractmethod
    def square(self, x: Value) -> Value: ...

    @abstractmethod
    def sqrt(self, x: Value) -> Value: ...

    @abstractmethod
    def relu(self, x: Value) -> Value: ...

    @abstractmethod
    def tanh(self, x: Value) -> Value: ...

    @abstractmethod
    def sigmoid(self, x: Value) -> Value: ...

    @abstractmethod
    def gelu(self, x: Value) -> Value:
        """The tanh approximation."""

    @abstractmethod
    def cos(self, x: Value) -> Value: ...

    @abstractmethod
    def sin(self, x: Value) -> Value: ...

    @abstractmethod
    def softmax(self, x: Value) -> Value:
        """Over the last axis."""

    @abstractmethod
    def mean(self, x: Value, axis: int = -1) -> Value:
        """Over one axis, which stays with length 1."""

    @abstractmethod
    def cumulative_sum(self, x: Value) -> Value:
        """Over the first axis: each row becomes the sum of those up to it."""

    @abstractmethod
    def ones(self, x: Value) -> Value:
        """[T, 1] for x [T, ...]."""

    @abstractmethod
    def matmul(self, a: Value, b: Value, *, transpose_b: bool = False) -> Value:
        """Products of the last two axes; the others are equal."""

    # Layout.

    @abstractmethod
    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        """At most one length is -1."""

    @abstractmethod
    def transpose(self, x: Value, order: Sequence[int]) -> Value: ...

    @abstractmethod
    def concat(self, values: Sequence[Value], axis: int) -> Value: ...

    @abstractmethod
    def slice(self, x: Value, axis: int, begin: int, end: int) -> Value:
        """Elements [begin, end) of an axis whose length is known."""

    @abstractmethod
    def pad(self, x: Value, axis: int, before: int, after: int) -> Value:
        """Zeros at both ends of an axis."""

    @abstractmethod
    def pad_to_multiple(self, x: Value, size: int) -> Value:
        """Rows of zeros behind the last, up to a multiple of `size`."""

    @abstractmethod
    def first(self, x: Value, whole: Value, divisor: int) -> Value:
        """The first rows of x, as many as `whole` has divided by `divisor`, rounded up."""

    @abstractmethod
    def delayed(self, x: Value, count: int) -> Value:
        """The rows moved on by `count`, zeros in front and the last ones dropped; there are at least so many."""

    # Convolutions of one map, [height, width, channels].

    @abstractmethod
    def convolve(self, x: Value, name: str, weights: NDArray[np.float32], stride: int, pads: Pads) -> Value:
        """Over all channels; weights are [out, in, kernel height, kernel width], the same for a name."""

    @abstractmethod
    def convolve_depthwise(self, x: Value, name: str, weights: NDArray[np.float32], stride: int, pads: Pads) -> Value:
        """Each channel on its own; weights are [channels, kernel height, kernel width], the same for a name."""

    # What is made of them.

    def scalar(self, value: float) -> Value:
        return self.constant(f"scalar_{np.float32(value)!s}", np.array([value], np.float32))

    def scale(self, x: Value, factor: float) -> Value:
        return self.mul(x, self.scalar(factor))

    def vector(self, name: str) -> Value:
        """A tensor of the source whose role is VECTOR."""
        return self.constant(name, self.tensors.vector(name))

    def rms(self, x: Value, epsilon: float = 0.0) -> Value:
        """Root of the mean square of the last axis."""
        mean = self.mean(self.square(x))
        return self.sqrt(self.add(mean, self.scalar(epsilon)) if epsilon else mean)

    def rms_norm(self, x: Value, weight: Value | None, epsilon: float) -> Value:
        normed = self.div(x, self.rms(x, epsilon))
        return normed if weight is None else self.mul(normed, weight)

    def silu(self, x: Value) -> Value:
        return self.mul(x, self.sigmoid(x))

    def soft_cap(self, x: Value, cap: float) -> Value:
        return self.scale(self.tanh(self.scale(x, 1 / cap)), cap)

    def rope(self, x: Value, cos: Value, sin: Value) -> Value:
        """Turns halves of the last axis against each other; cos and sin have half its length."""
        half = known(x.shape[-1]) // 2
        axis = len(x.shape) - 1
        a, b = self.slice(x, axis, 0, half), self.slice(x, axis, half, 2 * half)
        left = self.sub(self.mul(a, cos), self.mul(b, sin))
        right = self.add(self.mul(b, cos), self.mul(a, sin))
        return self.concat([left, right], axis)


def same(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's padding of that name along one axis: of an odd sum more zeros stand behind."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def convolved(x: Shape, outputs: int, kernel: tuple[int, int], stride: int, pads: Pads) -> Shape:
    """The shape of a convolution's result."""
    sizes = [
        None if size is None else (size + sum(pad) - window) // stride + 1
        for size, window, pad in zip(x[:2], kernel, pads, strict=True)
    ]
    return (*sizes, outputs)


def broadcast(a: Shape, b: Shape) -> Shape:
    """The shape of an elementwise result; None beside 1 or None is None."""
    longer, shorter = (a, b) if len(a) >= len(b) else (b, a)
    padded = (1,) * (len(longer) - len(shorter)) + shorter
    return tuple(y if x == 1 else x for x, y in zip(longer, padded, strict=True))


def reshaped(x: Shape, shape: Sequence[int]) -> Shape:
    """Replaces -1 by the length it stands for, None where that depends on the input."""
    if -1 not in shape:
        return tuple(shape)
    rest = math.prod(size for size in shape if size != -1)
    missing = None if None in x else math.prod(known(size) for size in x) // rest
    return tuple(missing if size == -1 else size for size in shape)


def known(length: int | None) -> int:
    """A length that does not depend on the input."""
    if length is None:
        raise ValueError("the length of this axis is known only at run time")
    return length
