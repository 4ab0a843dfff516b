"""Writes cpp/kernels/iq_grids.inc: the grids of the IQ types as the `gguf` package packs them, a vector to 16 bits.

    python scripts/goldens/iq_grids.py

An entry of two bits each for eight weights, or of four bits each for four, is a place in the grid's list of values.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf import quants

TARGET = Path(__file__).resolve().parents[2] / "cpp" / "kernels" / "iq_grids.inc"
GRIDS = ("IQ1_S", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S")
PER_LINE = 14


def main() -> None:
    parts = ["// Made by scripts/goldens/iq_grids.py from the tables of the gguf package.\n"]
    for name in GRIDS:
        packed = np.frombuffer(bytes.fromhex(getattr(quants, name).grid_hex.decode()), np.dtype("<u2"))
        numbers = [f"0x{entry:04x}" for entry in packed]
        parts.append(f"constexpr std::uint16_t packed_{name.lower()}[] = {{\n")
        parts += [f"    {', '.join(numbers[i : i + PER_LINE])},\n" for i in range(0, len(numbers), PER_LINE)]
        parts.append("};\n")
    TARGET.write_text("".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
