"""Logits of committed models against what transformers computed once (scripts/goldens/make_goldens.py); no torch."""

from __future__ import annotations

from pathlib import Path

import gemlet
import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "goldens"
TOLERANCE = 1e-3  # of quantised weights too: make_goldens.py tells how
NAMES = sorted(path.stem for path in FOLDER.glob("*.gguf"))


def test_there_are_goldens_of_every_kind_of_weight() -> None:
    assert {"f32", "f16", "bf16", "q8_0", "q4_0"} <= set(NAMES)


@pytest.mark.parametrize("kernels", ["scalar", None])
@pytest.mark.parametrize("name", NAMES)
def test_logits(name: str, kernels: str | None) -> None:
    golden = np.load(FOLDER / f"{name}.npz")
    ids, logits = golden["ids"].tolist(), golden["logits"]
    assert np.abs(logits).max() > 15
    model = gemlet.load(FOLDER / f"{name}.gguf", cache="f32", threads=2, kernels=kernels)
    steps = model.session()
    stepped = np.stack([np.array(steps.step(token)) for token in ids])
    for ours in (model.session().prefill_all(ids), stepped):
        error = ours - logits
        assert np.abs(error).max() < TOLERANCE
        assert np.sqrt(np.mean(error**2)) < TOLERANCE / 5
