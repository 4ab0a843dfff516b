#!/usr/bin/env python3
"""Writes tests/goldens: tiny models with token ids and the logits that transformers computes for them.

    python scripts/goldens/make_goldens.py        # needs the [live] extra; rewrites every file

For NAME.gguf, NAME.npz holds `ids` int32[n] and `logits` float32[n][vocab]: of transformers in true float64 on the
weights that the file holds after dequantising, the inputs of quantised layers rounded to int8 as the core rounds them.
`tolerance` is what tests/python/test_goldens.py allows in one logit: 1e-3 for float weights, 1.0 for quantised ones,
where noise may move an activation across a rounding boundary (tests/python/test_oracle_quantized.py).
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "python"))

from gemlet.convert import convert  # noqa: E402

from reference import Reference, rounded_inputs  # noqa: E402
from test_oracle_quantized import dequantised  # noqa: E402
from tiny import Tiny, write_checkpoint  # noqa: E402

SMALL = Tiny(layers="sFssF", hidden=18, heads=3, ffn=(70,), ple=5, laurel=3, window=4)
BLOCKS = Tiny(layers="sFs", shared=1, sparsity=(0.9, 0.0, 0.8), hidden=64, heads=2, head_dim=32, ffn=(96,), ple=32)

GOLDENS = {
    "f32": (SMALL, "f32"),
    "f32-active-1": (Tiny(layers="FsFs", shared=2, sparsity=(0.7,), active=1, altup=3, hidden=20, heads=5), "f32"),
    "f16": (SMALL, "f16"),
    "bf16": (SMALL, "bf16"),
    "q8_0": (BLOCKS, "q8_0"),
    "q4_0": (BLOCKS, "q4_0"),
}


def main() -> None:
    folder = ROOT / "tests" / "goldens"
    folder.mkdir(exist_ok=True)
    for name, (tiny, quant) in GOLDENS.items():
        path = folder / f"{name}.gguf"
        with tempfile.TemporaryDirectory() as scratch:
            checkpoint = write_checkpoint(Path(scratch) / "golden", tiny)
            convert(checkpoint, path, quant)
        weights, quantised = dequantised(path, tiny)
        ids = np.random.default_rng(7).integers(0, tiny.vocab, 3 * tiny.window + 3)
        reference = Reference(tiny, weights, double=True)
        with rounded_inputs(reference, quantised):
            logits = reference.logits(ids.tolist())
        tolerance = 1.0 if quantised else 1e-3
        np.savez_compressed(
            folder / f"{name}.npz",
            ids=ids.astype(np.int32),
            logits=logits.astype(np.float32),
            tolerance=np.float32(tolerance),
        )
        size = path.stat().st_size
        assert size < 300_000, f"{name}.gguf has {size} bytes"
        print(f"{name}: {size} bytes, logits up to {np.abs(logits).max():.1f}, tolerance {tolerance:.4f}")


if __name__ == "__main__":
    main()
