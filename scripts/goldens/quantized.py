"""Writes tests/cpp/goldens/quantized.inc: what ggml's reference quantisers make of given rows, and the values of given
K-quant blocks.

    python scripts/goldens/quantized.py path/to/libggml-base.so

The library is llama.cpp's own, built without fused multiply-add (its default for this part). The `gguf` package gives
the values of the blocks, and must agree with the library wherever it has a quantiser of its own.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize, quantize

TARGET = Path(__file__).resolve().parents[2] / "tests" / "cpp" / "goldens" / "quantized.inc"
SEED = 20
QUANTIZERS = {
    "q4_0": (GGMLQuantizationType.Q4_0, "quantize_row_q4_0_ref"),
    "q8_0": (GGMLQuantizationType.Q8_0, "quantize_row_q8_0_ref"),
    "q6_k": (GGMLQuantizationType.Q6_K, "quantize_row_q6_K_ref"),
}
K_QUANTS = {
    "q4_k": GGMLQuantizationType.Q4_K,
    "q5_k": GGMLQuantizationType.Q5_K,
    "q6_k": GGMLQuantizationType.Q6_K,
}
Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]


def inputs(random: np.random.Generator) -> Floats:
    """Rows of 256: weights as models have them, then every kind that rounding or scaling might get wrong."""
    rows = random.standard_normal((5, 256)).astype(np.float32)
    rows[0] *= 0.02
    rows[1] *= np.exp(random.uniform(-12, 8, 256)).astype(np.float32)
    rows[2] = np.round(rows[2] * 8) / 2  # many ties
    rows[3, 0:32] = 0
    rows[3, 32:64] = -0.0
    rows[3, 64:96] = np.float32(1e-30) * rows[3, 64:96]
    rows[3, 96:128] = np.float32(1e-7)
    rows[3, 128:160] = np.where(np.arange(32) % 2, 1, -1)
    rows[3, 160:192] = np.where(np.arange(32) == 7, -1000, 0.1)
    rows[3, 192:224] = np.arange(32) - 16
    rows[3, 224:256] = 3e4 * rows[3, 224:256]
    rows[4] = np.where(np.abs(rows[4]) > 1, rows[4], 0)
    return rows


def quantize_with(library: ctypes.CDLL, function: str, kind: GGMLQuantizationType, rows: Floats) -> Bytes:
    elements, size = GGML_QUANT_SIZES[kind]
    out = np.zeros(rows.size // elements * size, np.uint8)
    call = library[function]
    call.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
    call.restype = None
    call(rows.ctypes.data, out.ctypes.data, rows.size)
    if kind is not GGMLQuantizationType.Q6_K:
        # By value: for a block of -0 they differ in the sign of a zero.
        theirs = dequantize(quantize(rows.ravel(), kind), kind)
        if not np.array_equal(dequantize(out, kind), theirs):
            raise SystemExit(f"gguf and the library disagree on {kind.name}")
    return out


def k_quant_blocks(random: np.random.Generator, kind: GGMLQuantizationType) -> Bytes:
    """Three blocks of random bytes, with scales that are finite: ordinary, negative, denormal."""
    size = GGML_QUANT_SIZES[kind][1]
    blocks = random.integers(0, 256, (3, size), np.uint8)
    halves = np.array([[0.013, 0.21], [-1.75, -0.5], [3e-6, 6e-8]], np.float16)
    if kind is GGMLQuantizationType.Q6_K:
        blocks[:, 208:210] = halves[:, :1].view(np.uint8)
    else:
        blocks[:, 0:4] = halves.view(np.uint8)
    return blocks


def array(name: str, ctype: str, values: list[str]) -> str:
    lines = [f"constexpr {ctype} {name}[] = {{"]
    per_line = 10 if ctype == "std::uint32_t" else 20
    lines += ["    " + ", ".join(values[i : i + per_line]) + "," for i in range(0, len(values), per_line)]
    return "\n".join([*lines, "};", ""])


def float_bits(name: str, values: Floats) -> str:
    return array(name, "std::uint32_t", [f"0x{v:08x}" for v in values.ravel().view(np.uint32)])


def byte_array(name: str, values: Bytes) -> str:
    return array(name, "std::uint8_t", [f"{v}" for v in values.ravel()])


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    library = ctypes.CDLL(sys.argv[1])
    random = np.random.default_rng(SEED)
    rows = inputs(random)
    parts = ["// Made by scripts/goldens/quantized.py. Floats are given by their bits.\n", float_bits("inputs", rows)]
    for name, (kind, function) in QUANTIZERS.items():
        parts.append(byte_array(f"{name}_of_inputs", quantize_with(library, function, kind, rows)))
    for name, kind in K_QUANTS.items():
        blocks = k_quant_blocks(random, kind)
        parts.append(byte_array(f"{name}_blocks", blocks))
        parts.append(float_bits(f"{name}_values", dequantize(blocks, kind)))
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text("\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
