"""Operations of the forward pass as TFLite operators."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from gemlet.exporters.graph import Builder, Pads, Shape, Value, broadcast, convolved, known, reshaped, same
from gemlet.exporters.packing import BLOCK
from gemlet.exporters.source import EMBEDDING, Matrix, TensorFile

from . import packing
from .file import TfliteFile

_Op = schema.BuiltinOperator
_Type = schema.TensorType
_TYPES: Final = {"float32": _Type.FLOAT32, "float16": _Type.FLOAT16, "int32": _Type.INT32, "int8": _Type.INT8}
_TYPES["uint8"] = _Type.UINT8
_TYPES["int4"] = _Type.INT4

# Versions of operators other than 1, which say what a runtime has to know (tensorflow/lite/tools/versioning). Version
# 12 of a fully connected layer is the first with a scale for each row of int8; tflite-runtime 2.14 refuses 12 and 13,
# where it would take older numbers and answer zeros.
_DEQUANTIZE_FLOAT16: Final = 3
_NO_BIAS: Final = 6
_INT8_ROWS: Final = 12
_INT4_BLOCKS: Final = 13
_GATHER_INT8: Final = 2


class TfliteBuilder(Builder):
    """One graph of a file. All lengths are known; T is that of the signature, S the context's."""

    def __init__(self, tensors: TensorFile, file: TfliteFile, context: int = 0) -> None:
        """`context`: of a text model."""
        super().__init__(tensors)
        self.file = file
        self.context = context
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.inputs: dict[str, int] = {}
        self.outputs: dict[str, int] = {}
        self._tensors: dict[str, int] = {}
        self._kv: dict[int, tuple[Value, Value]] = {}
        self._start: Value | None = None

    # Tensors and operators.

    def input(self, name: str, shape: Sequence[int], dtype: str = "float32") -> Value:
        self.inputs[name] = self._tensor(name, shape, dtype, 0)
        return Value(name, tuple(shape), dtype)

    def output(self, name: str, value: Value) -> None:
        self.outputs[name] = self._tensors[value.name]

    def finish(self, signature: str) -> None:
        """Adds the graph to the file."""
        self.file.graph(self.graph, signature, self.inputs, self.outputs)

    def _tensor(self, name: str, shape: Sequence[int | None], dtype: str, buffer: int, quantization: Any = None) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = name, [known(size) for size in shape], _TYPES[dtype]
        tensor.buffer, tensor.quantization = buffer, quantization
        self._tensors[name] = len(self.graph.tensors)
        self.graph.tensors.append(tensor)
        return self._tensors[name]

    def _operator(
        self,
        code: int,
        inputs: Sequence[Value],
        shape: Shape,
        dtype: str = "float32",
        options: Any = None,
        version: int = 1,
        missing: int = 0,
    ) -> Value:
        """`missing`: operands at the end that are left out."""
        operator = schema.OperatorT()
        operator.opcodeIndex = self.file.operator(code, version)
        name = f"{len(self.graph.operators)}"
        operator.inputs = [*(self._tensors[value.name] for value in inputs), *[-1] * missing]
        operator.outputs = [self._tensor(name, shape, dtype, 0)]
        if options is not None:
            operator.builtinOptions = options
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        self.graph.operators.append(operator)
        return Value(name, shape, dtype)

    def _array(self, name: str, values: NDArray[Any]) -> Value:
        if name not in self._tensors:
            self._tensor(name, values.shape, values.dtype.name, self.file.constant(name, values))
        return Value(name, values.shape, values.dtype.name)

    def _integers(self, *values: int) -> Value:
        return self._array(f"integers {values}", np.array(values, np.int32))

    # Weights.

    def linear(self, x: Value, matrix: Matrix) -> Value:
        weights, version = self._weights(matrix)
        options = schema.FullyConnectedOptionsT()
        options.asymmetricQuantizeInputs = version == _INT8_ROWS
        shape = (x.shape[0], matrix.rows)
        return self._operator(_Op.FULLY_CONNECTED, [x, weights], shape, options=options, version=version, missing=1)

    def rows(self, matrix: Matrix, ids: Value) -> Value:
        count = ids.shape[0]
        if matrix.type == "F32":
            return self._gather(self._plain(matrix), ids)
        if matrix.type == "F16":
            found = self._gather(self._plain(matrix), ids)
            return self._operator(_Op.DEQUANTIZE, [found], found.shape, version=_DEQUANTIZE_FLOAT16)
        if matrix.type == "Q8_0" and matrix.tensor == EMBEDDING and self.source.tied:
            # The head's own weights, which have one scale a row.
            scales = self._array(f"{matrix.name} scales", self._row_scales(matrix)[:, None])
            codes = self.cast(self._gather(self._row_codes(matrix, f"{matrix.name} codes"), ids))
            return self.mul(codes, self._gather(scales, ids))
        blocks = matrix.cols // BLOCK
        scales = self._gather(self._block_scales(matrix, "float32"), ids)
        if matrix.type == "Q8_0":
            codes = self.cast(self._gather(self._stored_codes(matrix, "int8", BLOCK), ids))
        else:
            packed = self.cast(self._gather(self._stored_codes(matrix, "uint8", BLOCK // 2), ids))
            packed = self.reshape(packed, (-1, blocks, BLOCK // 2))
            high = self._operator(_Op.FLOOR, [self.scale(packed, 1 / 16)], packed.shape)
            low = self.sub(packed, self.scale(high, 16.0))
            codes = self.sub(self.concat([low, high], 2), self.scalar(8.0))
        values = self.mul(self.reshape(codes, (-1, blocks, BLOCK)), self.reshape(scales, (-1, blocks, 1)))
        return self.reshape(values, (known(count), matrix.cols))

    def constant(self, name: str, values: NDArray[np.float32]) -> Value:
        return self._array(name, values)

    def _weights(self, matrix: Matrix) -> tuple[Value, int]:
        """A matrix for a fully connected layer, and the version of that."""
        if matrix.type == "F32":
            return self._plain(matrix), _NO_BIAS
        if matrix.type == "F16":
            name = f"{matrix.name} float32"
            if name not in self._tensors:
                floats = self._operator(
                    _Op.DEQUANTIZE, [self._plain(matrix)], (matrix.rows, matrix.cols), version=_DEQUANTIZE_FLOAT16
                )
                self._tensors[name] = self._tensors[floats.name]
            return Value(name, (matrix.rows, matrix.cols)), _NO_BIAS
        if matrix.type == "Q8_0":
            quantization = schema.QuantizationParametersT()
            quantization.scale = self._row_scales(matrix)
            quantization.zeroPoint = np.zeros(matrix.rows, np.int64)
            quantization.quantizedDimension = 0
            return self._row_codes(matrix, matrix.name, quantization), _INT8_ROWS
        return self._blockwise(matrix), _INT4_BLOCKS

    def _plain(self, matrix: Matrix) -> Value:
        dtype, size = ("float32", 4) if matrix.type == "F32" else ("float16", 2)
        slabs = partial(packing.plain, self.tensors, matrix)
        return self._large(matrix.name, (matrix.rows, matrix.cols), dtype, size * matrix.rows * matrix.cols, slabs)

    def _row_codes(self, matrix: Matrix, name: str, quantization: Any = None) -> Value:
        slabs = partial(packing.row_codes, self.tensors, matrix, self._row_scales(matrix))
        shape = (matrix.rows, matrix.cols)
        return self._large(name, shape, "int8", matrix.rows * matrix.cols, slabs, quantization, f"{matrix.name} int8")

    def _row_scales(self, matrix: Matrix) -> NDArray[np.float32]:
        return self.file.once(f"{matrix.name} row scales", lambda: packing.row_scales(self.tensors, matrix))

    def _block_scales(self, matrix: Matrix, dtype: str) -> Value:
        shape = (matrix.rows, matrix.cols // BLOCK)

        def slabs() -> Any:
            return (slab.astype(dtype) for slab in packing.half_scales(self.tensors, matrix))

        size = np.dtype(dtype).itemsize * shape[0] * shape[1]
        return self._large(f"{matrix.name} scales {dtype}", shape, dtype, size, slabs)

    def _stored_codes(self, matrix: Matrix, dtype: str, block_bytes: int) -> Value:
        cols = matrix.cols // BLOCK * block_bytes
        slabs = partial(packing.stored_codes, self.tensors, matrix)
        return self._large(f"{matrix.name} codes", (matrix.rows, cols), dtype, matrix.rows * cols, slabs)

    def _blockwise(self, matrix: Matrix) -> Value:
        scales = self._block_scales(matrix, "float16")
        details = schema.BlockwiseQuantizationT()
        details.scales, details.zeroPoints, details.blockSize = self._tensors[scales.name], -1, BLOCK
        quantization = schema.QuantizationParametersT()
        quantization.details, quantization.detailsType = details, schema.QuantizationDetails.BlockwiseQuantization
        slabs = partial(packing.signed_nibbles, self.tensors, matrix)
        shape = (matrix.rows, matrix.cols)
        return self._large(matrix.name, shape, "int4", matrix.rows * matrix.cols // 2, slabs, quantization)

    def _large(
        self,
        name: str,
        shape: tuple[int, int],
        dtype: str,
        size: int,
        slabs: Any,
        quantization: Any = None,
        buffer: str | None = None,
    ) -> Value:
        if name not in self._tensors:
            self._tensor(name, shape, dtype, self.file.weights(buffer or name, size, slabs), quantization)
        return Value(name, shape, dtype)

    def _gather(self, table: Value, ids: Value) -> Value:
        options = schema.GatherOptionsT()
        options.axis = 0
        version = _GATHER_INT8 if table.dtype == "int8" else 1
        return self._operator(
            _Op.GATHER, [table, ids], (ids.shape[0], *table.shape[1:]), table.dtype, options, version=version
        )

    def cast(self, x: Value, dtype: str = "float32") -> Value:
        """To another type."""
        options = schema.CastOptionsT()
        options.inDataType, options.outDataType = _TYPES[x.dtype], _TYPES[dtype]
        return self._operator(_Op.CAST, [x], x.shape, dtype, options)

    # Keys and values.

    def positions(self, input_pos: Value) -> Value:
        """The positions as float32, [T]. Keys and values that are remembered from now on are stored there."""
        first = self.slice(input_pos, 0, 0, 1)
        zero = self._integers(0)
        self._start = self.concat([zero, zero, first, zero], 0)
        return self.cast(input_pos)

    def remember(self, layer: int, keys: Value, values: Value) -> None:
        config = self.source.config.layers[layer]
        shape = (1, config.kv_heads, self.context, config.head_dim)
        both = []
        for kind, new in (("k", keys), ("v", values)):
            name = f"kv_cache_{kind}_{layer}"
            update = self.reshape(new, (1, shape[1], known(new.shape[1]), shape[3]))
            assert self._start is not None
            held = self._operator(_Op.DYNAMIC_UPDATE_SLICE, [self.input(name, shape), update, self._start], shape)
            self.output(name, held)
            both.append(self.reshape(held, shape[1:]))
        self._kv[layer] = (both[0], both[1])

    def remembered(self, layer: int) -> tuple[Value, Value]:
        return self._kv[layer]

    # Arithmetic.

    def add(self, a: Value, b: Value) -> Value:
        return self._binary(_Op.ADD, a, b, schema.AddOptionsT())

    def sub(self, a: Value, b: Value) -> Value:
        return self._binary(_Op.SUB, a, b, schema.SubOptionsT())

    def mul(self, a: Value, b: Value) -> Value:
        return self._binary(_Op.MUL, a, b, schema.MulOptionsT())

    def div(self, a: Value, b: Value) -> Value:
        return self._binary(_Op.DIV, a, b, schema.DivOptionsT())

    def maximum(self, a: Value, b: Value) -> Value:
        return self._binary(_Op.MAXIMUM, a, b, schema.MaximumMinimumOptionsT())

    def square(self, x: Value) -> Value:
        return self._operator(_Op.SQUARE, [x], x.shape, options=schema.SquareOptionsT())

    def sqrt(self, x: Value) -> Value:
        return self._operator(_Op.SQRT, [x], x.shape)

    def relu(self, x: Value) -> Value:
        return self._operator(_Op.RELU, [x], x.shape)

    def tanh(self, x: Value) -> Value:
        return self._operator(_Op.TANH, [x], x.shape)

    def sigmoid(self, x: Value) -> Value:
        return self._operator(_Op.LOGISTIC, [x], x.shape)

    def gelu(self, x: Value) -> Value:
        options = schema.GeluOptionsT()
        options.approximate = True
        return self._operator(_Op.GELU, [x], x.shape, options=options)

    def cos(self, x: Value) -> Value:
        return self._operator(_Op.COS, [x], x.shape, options=schema.CosOptionsT())

    def sin(self, x: Value) -> Value:
        return self._operator(_Op.SIN, [x], x.shape)

    def softmax(self, x: Value) -> Value:
        options = schema.SoftmaxOptionsT()
        options.beta = 1.0
        return self._operator(_Op.SOFTMAX, [x], x.shape, options=options)

    def mean(self, x: Value, axis: int = -1) -> Value:
        options = schema.ReducerOptionsT()
        options.keepDims = True
        shape = list(x.shape)
        shape[axis] = 1
        return self._operator(_Op.MEAN, [x, self._integers(axis % len(shape))], tuple(shape), options=options)

    def cumulative_sum(self, x: Value) -> Value:
        return self._operator(
            _Op.CUMSUM, [x, self._array("axis 0", np.array(0, np.int32))], x.shape, options=schema.CumsumOptionsT()
        )

    def ones(self, x: Value) -> Value:
        count = known(x.shape[0])
        return self.constant(f"ones {count}", np.ones((count, 1), np.float32))

    def matmul(self, a: Value, b: Value, *, transpose_b: bool = False) -> Value:
        options = schema.BatchMatMulOptionsT()
        options.adjY = transpose_b
        return self._operator(
            _Op.BATCH_MATMUL, [a, b], (*a.shape[:-1], b.shape[-2 if transpose_b else -1]), options=options
        )

    def _binary(self, code: int, a: Value, b: Value, options: Any) -> Value:
        return self._operator(code, [a, b], broadcast(a.shape, b.shape), a.dtype, options)

    # Layout.

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        final = tuple(map(known, reshaped(x.shape, shape)))
        if final == x.shape:
            return x
        options = schema.ReshapeOptionsT()
        options.newShape = list(final)
        return self._operator(_Op.RESHAPE, [x, self._integers(*final)], final, x.dtype, options)

    def transpose(self, x: Value, order: Sequence[int]) -> Value:
        shape = tuple(x.shape[axis] for axis in order)
        return self._operator(_Op.TRANSPOSE, [x, self._integers(*order)], shape, x.dtype, schema.TransposeOptionsT())

    def concat(self, values: Sequence[Value], axis: int) -> Value:
        if len(values) == 1:
            return values[0]
        options = schema.ConcatenationOptionsT()
        options.axis = axis
        shape = list(values[0].shape)
        shape[axis] = sum(known(value.shape[axis]) for value in values)
        return self._operator(_Op.CONCATENATION, values, tuple(shape), values[0].dtype, options)

    def slice(self, x: Value, axis: int, begin: int, end: int) -> Value:
        begins = [0] * len(x.shape)
        sizes = list(map(known, x.shape))
        begins[axis], sizes[axis] = begin, end - begin
        inputs = [x, self._integers(*begins), self._integers(*sizes)]
        return self._operator(_Op.SLICE, inputs, tuple(sizes), x.dtype, schema.SliceOptionsT())

    def pad(self, x: Value, axis: int, before: int, after: int) -> Value:
        pads = [(0, 0)] * len(x.shape)
        pads[axis] = (before, after)
        return self._pad(x, pads)

    def _pad(self, x: Value, pads: Sequence[tuple[int, int]]) -> Value:
        if not any(map(any, pads)):
            return x
        shape = tuple(before + known(size) + after for size, (before, after) in zip(x.shape, pads, strict=True))
        amounts = self._array(f"pads {pads}", np.array(pads, np.int32))
        return self._operator(_Op.PAD, [x, amounts], shape, x.dtype, schema.PadOptionsT())

    def pad_to_multiple(self, x: Value, size: int) -> Value:
        return self.pad(x, 0, 0, -known(x.shape[0]) % size)

    def first(self, x: Value, whole: Value, divisor: int) -> Value:
        return self.slice(x, 0, 0, -(-known(whole.shape[0]) // divisor))

    def delayed(self, x: Value, count: int) -> Value:
        return self.pad(self.slice(x, 0, 0, known(x.shape[0]) - count), 0, count, 0)

    # Convolutions.

    def convolve(self, x: Value, name: str, weights: NDArray[np.float32], stride: int, pads: Pads) -> Value:
        options = schema.Conv2DOptionsT()
        options.dilationHFactor = options.dilationWFactor = 1
        return self._convolve(_Op.CONV_2D, x, self._array(name, weights.transpose(0, 2, 3, 1)), stride, pads, options)

    def convolve_depthwise(self, x: Value, name: str, weights: NDArray[np.float32], stride: int, pads: Pads) -> Value:
        options = schema.DepthwiseConv2DOptionsT()
        options.dilationHFactor = options.dilationWFactor = options.depthMultiplier = 1
        kernel = self._array(name, weights.transpose(1, 2, 0)[None])
        return self._convolve(_Op.DEPTHWISE_CONV_2D, x, kernel, stride, pads, options)

    def _convolve(self, code: int, x: Value, kernel: Value, stride: int, pads: Pads, options: Any) -> Value:
        window = (known(kernel.shape[1]), known(kernel.shape[2]))
        outputs = known(kernel.shape[0 if code == _Op.CONV_2D else 3])
        shape = convolved(x.shape, outputs, window, stride, pads)
        options.strideH = options.strideW = stride
        if pads == tuple(same(known(size), of, stride) for size, of in zip(x.shape[:2], window, strict=True)):
            options.padding = schema.Padding.SAME
        else:
            options.padding = schema.Padding.VALID
            x = self._pad(x, [*pads, (0, 0)])
        bias = self.constant(f"zeros {outputs}", np.zeros(outputs, np.float32))
        given = self.reshape(x, (1, *map(known, x.shape)))
        return self.reshape(
            self._operator(code, [given, kernel, bias], (1, *shape), options=options), list(map(known, shape))
        )
