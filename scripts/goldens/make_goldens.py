#!/usr/bin/env python3
"""Writes tests/goldens: tiny models with token ids and the logits that transformers computes for them.

    python scripts/goldens/make_goldens.py        # needs the [live] extra; rewrites every file

For NAME.gguf, NAME.npz holds `ids` int32[n] and `logits` float32[n][vocab]: of transformers in true float64 on the
weights that the file holds after dequantising, the inputs of quantised layers rounded to int8 as the core rounds them.

Rounding to int8 is a step function, and a value within float32's noise of a step may be rounded apart from float64.
The noise in a block is some 3e-7 of its greatest value (the unit in the last place is 1.2e-7), which is 127 steps: 4e-5
of a step. Of many random sequences the one is taken whose values stay furthest from a step, so that the tolerance of
float weights, 1e-3, holds for quantised ones too.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "python"))

from gemlet.conversion import convert  # noqa: E402

from oracle_models import dequantised  # noqa: E402
from reference import Reference, rounded_inputs  # noqa: E402
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


SEQUENCES = 200
MARGIN = 4e-5  # of a step


@contextmanager
def margins(reference: Reference, names: Sequence[str]) -> Iterator[list[float]]:
    """How near, in steps, the inputs of each of the named layers come to the boundary between two roundings."""
    found: list[float] = []

    def measure(_module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        blocks = inputs[0].reshape(-1, 32)
        steps = blocks / (blocks.abs().amax(-1, keepdim=True) / 127)
        found.append(float(((steps - steps.floor()) - 0.5).abs().nan_to_num(0.5).min()))

    modules = dict(reference.model.named_modules())
    handles = [modules[name].register_forward_pre_hook(measure, prepend=True) for name in names]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def logits_far_from_steps(
    reference: Reference, quantised: Sequence[str], tiny: Tiny
) -> tuple[NDArray[np.int64], NDArray[np.floating[Any]], float]:
    """Ids, their logits, and the margin."""
    best = None
    for seed in range(SEQUENCES if quantised else 1):
        ids = np.random.default_rng(7 + seed).integers(0, tiny.vocab, 3 * tiny.window + 3)
        with rounded_inputs(reference, quantised), margins(reference, quantised) as found:
            logits = reference.logits(ids.tolist())
        margin = min(found, default=0.5)
        if best is None or margin > best[2]:
            best = ids, logits, margin
    assert best is not None and best[2] > MARGIN
    return best


def main() -> None:
    folder = ROOT / "tests" / "goldens"
    folder.mkdir(exist_ok=True)
    for name, (tiny, quant) in GOLDENS.items():
        path = folder / f"{name}.gguf"
        with tempfile.TemporaryDirectory() as scratch:
            checkpoint = write_checkpoint(Path(scratch) / "golden", tiny)
            convert(checkpoint, path, quant)
        weights, quantised = dequantised(path, tiny)
        ids, logits, margin = logits_far_from_steps(Reference(tiny, weights, double=True), quantised, tiny)
        np.savez_compressed(
            folder / f"{name}.npz",
            ids=ids.astype(np.int32),
            logits=logits.astype(np.float32),
        )
        size = path.stat().st_size
        assert size < 300_000, f"{name}.gguf has {size} bytes"
        print(f"{name}: {size} bytes, logits up to {np.abs(logits).max():.1f}, {margin:.1e} steps from a boundary")


if __name__ == "__main__":
    main()
