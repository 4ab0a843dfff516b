"""Gemma 3 in the core beside a forward pass in numpy and float64, on tiny random models of odd shapes.

Every mistake that others have made is made in the reference, too: it must move the logits far beyond the tolerance, or
the comparison would not notice the core making it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gemlet
import numpy as np
import pytest
from gemlet.conversion import convert

from reference_gemma3 import MODELS, Doubles, Gemma3Reference, tokens
from tiny_gemma3 import TinyGemma3, write_gemma3_checkpoint

TOLERANCE = 1e-3


def converted(folder: Path, tiny: TinyGemma3) -> Path:
    return convert(write_gemma3_checkpoint(folder / "checkpoint", tiny), folder / "model.gguf", "f32").path


@pytest.mark.parametrize("name", MODELS)
def test_float32(name: str, tmp_path: Path) -> None:
    """As one prompt, in uneven chunks, and token by token past the window."""
    tiny = MODELS[name]
    path = converted(tmp_path, tiny)
    ids = tokens(tiny, 4 * tiny.window + 20)
    want = Gemma3Reference(tiny).logits(ids)
    model = gemlet.load(path, cache="f32", threads=2)
    assert np.abs(model.logits(ids) - want).max() < TOLERANCE
    session = gemlet.load(path, cache="f32", chunk=5).session()
    assert np.abs(session.prefill(ids[:17]) - want[16]).max() < TOLERANCE
    for i in range(17, len(ids)):
        assert np.abs(session.step(ids[i]) - want[i]).max() < TOLERANCE


def test_a_long_prompt(tmp_path: Path) -> None:
    """Past 2000 tokens, where a forgotten factor of the rotary angles breaks real models."""
    tiny = TinyGemma3(layers="sFs", context=4096)
    ids = tokens(tiny, 2200)
    want = Gemma3Reference(tiny).logits(ids)
    model = gemlet.load(converted(tmp_path, tiny), cache="f32", context=2200)
    assert np.abs(model.session().prefill(ids) - want[-1]).max() < TOLERANCE


MISTAKES: dict[str, Callable[[Gemma3Reference], None]] = {
    "norms multiply by w": lambda r: setattr(r, "norm_offset", 0.0),
    "norms multiply by 2 + w": lambda r: setattr(r, "norm_offset", 2.0),
    "scores are scaled by the head's dimension": lambda r: setattr(r, "scale", r.tiny.head_dim**-0.5),
    "scores are not scaled": lambda r: setattr(r, "scale", 1.0),
    "full layers forget the factor": lambda r: setattr(r, "full_factor", 1.0),
    "sliding layers have the factor": lambda r: setattr(r, "sliding_factor", r.tiny.rope_factor),
    "sliding layers use the base of full ones": lambda r: setattr(r, "sliding_base", r.tiny.rope),
    "full layers use the base of sliding ones": lambda r: setattr(r, "full_base", r.tiny.local_rope),
    "the window is one longer": lambda r: setattr(r, "window", r.tiny.window + 1),
    "the window is one shorter": lambda r: setattr(r, "window", r.tiny.window - 1),
    "heads are turned before their norm": lambda r: setattr(r, "rotate_before_norm", True),
    "embeddings are not scaled": lambda r: setattr(r, "embedding_scale", 1.0),
}


@pytest.fixture(scope="module")
def right() -> Doubles:
    return Gemma3Reference(TinyGemma3()).logits(tokens(TinyGemma3(), 48))


@pytest.mark.parametrize("mistake", MISTAKES)
def test_every_mistake_would_be_seen(mistake: str, right: Doubles) -> None:
    reference = Gemma3Reference(TinyGemma3())
    MISTAKES[mistake](reference)
    wrong = reference.logits(tokens(reference.tiny, 48))
    assert np.abs(wrong - right).max() > 20 * TOLERANCE
