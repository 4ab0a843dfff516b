"""Operations of the forward pass as ONNX nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, ValueInfoProto, helper, numpy_helper

from gemlet.exporters.graph import Builder, Pads, Shape, Value, broadcast, convolved, known, reshaped
from gemlet.exporters.packing import BLOCK
from gemlet.exporters.source import EMBEDDING, Matrix, TensorFile

from .packing import CODE_BITS, Part, parts

#: The newest that onnxruntime 1.20 (November 2024) takes.
OPSET: Final = 21
IR_VERSION: Final = 10

CONTRIB: Final = "com.microsoft"

_INT8_ACTIVATIONS: Final = 4
"""MatMulNBits' accuracy_level: activations are rounded to int8 by blocks, as the core does."""

_TYPES: Final = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}


class OnnxBuilder(Builder):
    """Collects nodes, initialisers, inputs and outputs. Weights are only named here; they go to a file of their own."""

    def __init__(self, tensors: TensorFile) -> None:
        super().__init__(tensors)
        self.nodes: list[Any] = []
        self.inputs: list[ValueInfoProto] = []
        self.outputs: list[ValueInfoProto] = []
        self.constants: dict[str, Any] = {}
        self.weights: dict[str, tuple[Matrix, list[Part], bool]] = {}
        """By the matrix's name: the matrix, its parts, and whether their scales are half precision."""
        self._kv: dict[int, tuple[Value, Value]] = {}
        self._count = 0

    # Inputs, outputs and nodes.

    def input(self, name: str, shape: Sequence[int | str], dtype: str = "float32") -> Value:
        self.inputs.append(helper.make_tensor_value_info(name, _TYPES[dtype], list(shape)))
        return Value(name, tuple(size if isinstance(size, int) else None for size in shape), dtype)

    def output(self, name: str, value: Value, shape: Sequence[int | str]) -> None:
        self.nodes.append(helper.make_node("Identity", [value.name], [name], name=name))
        self.outputs.append(helper.make_tensor_value_info(name, _TYPES[value.dtype], list(shape)))

    def node(
        self, operator: str, inputs: Sequence[str], shape: Shape, dtype: str = "float32", **attributes: object
    ) -> Value:
        """Adds one; its result is named after it."""
        self._count += 1
        name = f"{operator}_{self._count}"
        domain = attributes.pop("domain", "")
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name=name, domain=domain, **attributes))
        return Value(name, shape, dtype)

    def array(self, name: str, values: NDArray[Any]) -> str:
        """A small array of any type, by a name that stands for its content."""
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(values, name)
        return name

    def integers(self, *values: int) -> str:
        return self.array(f"integers_{'_'.join(map(str, values))}", np.array(values, np.int64))

    # Weights.

    def linear(self, x: Value, matrix: Matrix) -> Value:
        shape = (x.shape[0], matrix.rows)
        names = self._stored(matrix, half_scales=False)
        if matrix.type in CODE_BITS:
            return self.node(
                "MatMulNBits",
                [x.name, *names],
                shape,
                domain=CONTRIB,
                K=matrix.cols,
                N=matrix.rows,
                bits=CODE_BITS[matrix.type],
                block_size=BLOCK,
                accuracy_level=_INT8_ACTIVATIONS,
            )
        # Gemm takes the matrix as it is; MatMul would have it transposed, as a copy in memory.
        return self.node("Gemm", [x.name, self._as_float(names[0], matrix)], shape, transB=1)

    def rows(self, matrix: Matrix, ids: Value) -> Value:
        names = self._stored(matrix, half_scales=not self._is_head(matrix))
        found = self.node("Gather", [names[0], ids.name], (ids.shape[0], matrix.cols))
        if matrix.type == "F32":
            return found
        if matrix.type == "F16":
            return self._cast(found)
        if matrix.type == "Q4_0":
            low = self.node("BitwiseAnd", [found.name, self.array("low_bits", np.array([0x0F], np.uint8))], found.shape)
            high = self.node(
                "BitShift", [found.name, self.array("four", np.array([4], np.uint8))], found.shape, direction="RIGHT"
            )
            pairs = [self.node("Unsqueeze", [half.name, self.integers(-1)], half.shape) for half in (low, high)]
            found = self.node("Concat", [half.name for half in pairs], found.shape, axis=-1)
        blocks = matrix.cols // BLOCK
        codes = self.reshape(self._cast(found), (-1, blocks, BLOCK))
        scales = self._cast(self.node("Gather", [names[1], ids.name], (ids.shape[0], blocks)))
        centred = self.sub(codes, self.scalar(1 << (CODE_BITS[matrix.type] - 1)))
        return self.reshape(self.mul(centred, self.reshape(scales, (-1, blocks, 1))), (-1, matrix.cols))

    def constant(self, name: str, values: NDArray[np.float32]) -> Value:
        return Value(self.array(name, values), values.shape)

    def _is_head(self, matrix: Matrix) -> bool:
        return matrix.tensor == EMBEDDING and self.source.tied

    def _stored(self, matrix: Matrix, *, half_scales: bool) -> list[str]:
        if matrix.name not in self.weights:
            self.weights[matrix.name] = (matrix, parts(matrix, half_scales=half_scales), half_scales)
        return [f"{matrix.name}.{part.suffix}" for part in self.weights[matrix.name][1]]

    def _as_float(self, name: str, matrix: Matrix) -> str:
        return name if matrix.type == "F32" else self._cast(Value(name, (matrix.rows, matrix.cols))).name

    def _cast(self, x: Value) -> Value:
        return self.node("Cast", [x.name], x.shape, to=TensorProto.FLOAT)

    # Keys and values.

    def remember(self, layer: int, keys: Value, values: Value) -> None:
        config = self.source.config.layers[layer]
        heads, dim = config.kv_heads, config.head_dim
        both = []
        for kind, new in (("key", keys), ("value", values)):
            past = self.input(f"past_key_values.{layer}.{kind}", (1, heads, "past_sequence_length", dim))
            one = self.node("Squeeze", [past.name, self.integers(0)], (heads, None, dim))
            both.append(self.concat([one, new], 1))
            present = self.node("Unsqueeze", [both[-1].name, self.integers(0)], (1, heads, None, dim))
            self.output(f"present.{layer}.{kind}", present, (1, heads, "total_sequence_length", dim))
        self._kv[layer] = (both[0], both[1])

    def remembered(self, layer: int) -> tuple[Value, Value]:
        return self._kv[layer]

    # Arithmetic.

    def add(self, a: Value, b: Value) -> Value:
        return self._binary("Add", a, b)

    def sub(self, a: Value, b: Value) -> Value:
        return self._binary("Sub", a, b)

    def mul(self, a: Value, b: Value) -> Value:
        return self._binary("Mul", a, b)

    def div(self, a: Value, b: Value) -> Value:
        return self._binary("Div", a, b)

    def maximum(self, a: Value, b: Value) -> Value:
        return self._binary("Max", a, b)

    def square(self, x: Value) -> Value:
        # As a power, which onnxruntime knows as the beginning of a norm that it computes in one step.
        return self.node("Pow", [x.name, self.scalar(2.0).name], x.shape)

    def sqrt(self, x: Value) -> Value:
        return self.node("Sqrt", [x.name], x.shape)

    def relu(self, x: Value) -> Value:
        return self.node("Relu", [x.name], x.shape)

    def tanh(self, x: Value) -> Value:
        return self.node("Tanh", [x.name], x.shape)

    def sigmoid(self, x: Value) -> Value:
        return self.node("Sigmoid", [x.name], x.shape)

    def gelu(self, x: Value) -> Value:
        return self.node("Gelu", [x.name], x.shape, approximate="tanh")

    def cos(self, x: Value) -> Value:
        return self.node("Cos", [x.name], x.shape)

    def sin(self, x: Value) -> Value:
        return self.node("Sin", [x.name], x.shape)

    def softmax(self, x: Value) -> Value:
        return self.node("Softmax", [x.name], x.shape, axis=-1)

    def mean(self, x: Value, axis: int = -1) -> Value:
        shape = list(x.shape)
        shape[axis] = 1
        return self.node("ReduceMean", [x.name, self.integers(axis)], tuple(shape), keepdims=1)

    def cumulative_sum(self, x: Value) -> Value:
        return self.node("CumSum", [x.name, self.integers(0)], x.shape)

    def ones(self, x: Value) -> Value:
        shape = self.node("Concat", [self._length(x).name, self.integers(1)], (2,), "int64", axis=0)
        one = numpy_helper.from_array(np.ones(1, np.float32))
        return self.node("ConstantOfShape", [shape.name], (x.shape[0], 1), value=one)

    def matmul(self, a: Value, b: Value, *, transpose_b: bool = False) -> Value:
        if transpose_b:
            order = [*range(len(b.shape) - 2), len(b.shape) - 1, len(b.shape) - 2]
            b = self.transpose(b, order)
        return self.node("MatMul", [a.name, b.name], (*a.shape[:-1], b.shape[-1]))

    def _binary(self, operator: str, a: Value, b: Value) -> Value:
        return self.node(operator, [a.name, b.name], broadcast(a.shape, b.shape))

    # Layout.

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        return self.node("Reshape", [x.name, self.integers(*shape)], reshaped(x.shape, shape), x.dtype)

    def transpose(self, x: Value, order: Sequence[int]) -> Value:
        return self.node("Transpose", [x.name], tuple(x.shape[axis] for axis in order), x.dtype, perm=list(order))

    def concat(self, values: Sequence[Value], axis: int) -> Value:
        lengths = [value.shape[axis] for value in values]
        shape = list(values[0].shape)
        shape[axis] = None if None in lengths else sum(length for length in lengths if length is not None)
        return self.node("Concat", [value.name for value in values], tuple(shape), axis=axis)

    def slice(self, x: Value, axis: int, begin: int, end: int) -> Value:
        shape = list(x.shape)
        shape[axis] = end - begin
        names = [x.name, *map(self.integers, (begin, end, axis))]
        return self.node("Slice", names, tuple(shape), x.dtype)

    def pad(self, x: Value, axis: int, before: int, after: int) -> Value:
        size = x.shape[axis]
        shape = list(x.shape)
        shape[axis] = None if size is None else before + size + after
        return self.node("Pad", [x.name, self.integers(before, after), "", self.integers(axis)], tuple(shape), x.dtype)

    def pad_to_multiple(self, x: Value, size: int) -> Value:
        # Mod takes the sign of the divisor: what is missing of a multiple.
        missing = self.node("Neg", [self._length(x).name], (1,), "int64")
        missing = self.node("Mod", [missing.name, self.integers(size)], (1,), "int64")
        pads = self.node("Concat", [self.integers(0), missing.name], (2,), "int64", axis=0)
        return self.node("Pad", [x.name, pads.name, "", self.integers(0)], (None, *x.shape[1:]), x.dtype)

    def first(self, x: Value, whole: Value, divisor: int) -> Value:
        above = self.node("Add", [self._length(whole).name, self.integers(divisor - 1)], (1,), "int64")
        count = self.node("Div", [above.name, self.integers(divisor)], (1,), "int64")
        return self.node("Slice", [x.name, self.integers(0), count.name, self.integers(0)], (None, *x.shape[1:]))

    def delayed(self, x: Value, count: int) -> Value:
        kept = self.node("Slice", [x.name, *map(self.integers, (0, -count, 0))], (None, *x.shape[1:]))
        return self.pad(kept, 0, count, 0)

    def last(self, x: Value, count: Value) -> Value:
        """The last elements of the first axis; `count` is a value of the graph, int64 [1]."""
        begin = self.node("Neg", [count.name], (1,), "int64")
        end = self.integers(np.iinfo(np.int64).max)
        return self.node("Slice", [x.name, begin.name, end, self.integers(0)], (None, *x.shape[1:]), x.dtype)

    def _length(self, x: Value) -> Value:
        """Of the first axis, int64 [1]."""
        return self.node("Shape", [x.name], (1,), "int64", start=0, end=1)

    # Convolutions.

    def convolve(self, x: Value, name: str, weights: NDArray[np.float32], stride: int, pads: Pads) -> Value:
        return self._convolve(x, name, weights, stride, pads, 1)

    def convolve_depthwise(self, x: Value, name: str, weights: NDArray[np.float32], stride: int, pads: Pads) -> Value:
        return self._convolve(x, name, weights[:, None], stride, pads, known(x.shape[2]))

    def _convolve(
        self, x: Value, name: str, weights: NDArray[np.float32], stride: int, pads: Pads, groups: int
    ) -> Value:
        """Channels come first for the operator, which takes a batch."""
        kernel = (weights.shape[2], weights.shape[3])
        height, width, channels = shape = convolved(x.shape, weights.shape[0], kernel, stride, pads)
        given = self.transpose(x, (2, 0, 1))
        given = self.node("Unsqueeze", [given.name, self.integers(0)], (1, *given.shape))
        (top, bottom), (left, right) = pads
        found = self.node(
            "Conv",
            [given.name, self.array(name, weights)],
            (1, channels, height, width),
            kernel_shape=kernel,
            strides=[stride, stride],
            pads=[top, left, bottom, right],
            group=groups,
        )
        found = self.node("Squeeze", [found.name, self.integers(0)], (channels, height, width))
        moved = self.transpose(found, (1, 2, 0))
        return Value(moved.name, shape)
