"""Writes tests/cpp/goldens/weight_types.inc: for each quantised type a hash of the values that the `gguf` package gives
blocks of random bytes.

    python scripts/goldens/weight_types.py

The test makes the same bytes, so that the values are checked on machines without Python as well.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants

TARGET = Path(__file__).resolve().parents[2] / "tests" / "cpp" / "goldens" / "weight_types.inc"
BLOCKS = 64
ROUND = (1 << 64) - 1


def random_bytes(n: int, seed: int) -> npt.NDArray[np.uint8]:
    state = seed
    out = bytearray()
    for _ in range(n):
        state = (state * 6364136223846793005 + 1442695040888963407) & ROUND
        out.append(state >> 56)
    return np.frombuffer(bytes(out), np.uint8)


def fnv(values: npt.NDArray[np.float32]) -> int:
    """FNV-1a over 32-bit numbers; every NaN counts as the same."""
    state = 0xCBF29CE484222325
    bits = np.where(np.isnan(values), np.uint32(0x7FC00000), values.view(np.uint32))
    for number in bits.ravel().tolist():
        state = ((state ^ number) * 0x100000001B3) & ROUND
    return state


def main() -> None:
    lines = ["// Made by scripts/goldens/weight_types.py.", "constexpr Golden goldens[] = {"]
    for kind in GGMLQuantizationType:
        elements, size = GGML_QUANT_SIZES[kind]
        if elements == 1 or kind.name in ("Q8_1", "Q8_K", "Q1_0"):  # no weights; not known to the package's numpy part
            continue
        with np.errstate(all="ignore"):
            values = quants.dequantize(random_bytes(BLOCKS * size, kind.value).reshape(1, -1), kind)
        lines.append(f"    {{DType::{kind.name.lower()}, 0x{fnv(values):016x}}},")
    TARGET.write_text("\n".join([*lines, "};", ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
