"""Gemma 3's logits against transformers, on tiny random models of odd shapes.

float32: within 1e-3 of transformers' float32, and no further from transformers in float64 than three times its own
float32 is.
"""

from __future__ import annotations

from pathlib import Path

import gemlet
import numpy as np
import pytest
from gemlet.conversion import convert

pytest.importorskip("torch", reason="needs the [live] extra")
pytest.importorskip("transformers", reason="needs the [live] extra")

from reference import Reference, rms
from reference_gemma3 import MODELS, Gemma3Reference, tokens
from tiny_gemma3 import write_gemma3_checkpoint

pytestmark = [pytest.mark.live, pytest.mark.filterwarnings("default")]

TOLERANCE = 1e-3


@pytest.mark.parametrize("name", MODELS)
def test_float32(name: str, tmp_path: Path) -> None:
    tiny = MODELS[name]
    ids = tokens(tiny, 3 * tiny.window + 9)
    path = convert(write_gemma3_checkpoint(tmp_path / "checkpoint", tiny), tmp_path / "model.gguf", "f32").path
    ours = gemlet.load(path, cache="f32").logits(ids)
    single, double = Reference(tiny).logits(ids), Reference(tiny, double=True).logits(ids)
    assert np.abs(ours - single).max() < TOLERANCE
    assert rms(ours - double) <= 3 * rms(single - double)


@pytest.mark.parametrize("name", MODELS)
def test_the_numpy_reference_is_transformers_in_float64(name: str) -> None:
    tiny = MODELS[name]
    ids = tokens(tiny, 3 * tiny.window + 9)
    difference = Gemma3Reference(tiny).logits(ids) - Reference(tiny, double=True).logits(ids)
    assert np.abs(difference).max() < 1e-5
