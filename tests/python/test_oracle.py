"""Logits against transformers, on tiny random models whose dimensions are like no other's.

float32: within 1e-3 of transformers' float32, and no further from transformers in float64 than three times its own
float32 is.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import gemlet
import numpy as np
import pytest
from gemlet.convert import convert
from numpy.typing import NDArray

pytest.importorskip("torch", reason="needs the [live] extra")
pytest.importorskip("transformers", reason="needs the [live] extra")

from reference import Reference
from tiny import Tiny, write_checkpoint

pytestmark = [pytest.mark.live, pytest.mark.filterwarnings("default")]

TOLERANCE = 1e-3
Logits = NDArray[np.floating[Any]]

MODELS = {
    "everything": Tiny(),
    "one own KV layer": Tiny(layers="sss", shared=2, sparsity=(0.8,), window=4, heads=4, kv_heads=2, head_dim=6),
    "two own KV layers": Tiny(layers="Fssss", shared=3, hidden=35, heads=5, kv_heads=5, head_dim=8, laurel=3, ple=5),
    "three own KV layers": Tiny(layers="FsFssFF", shared=4, sparsity=(0.5,), hidden=44, heads=2, ple=24, window=9),
    "nothing shared": Tiny(layers="FssF", shared=0, sparsity=(0.0,), hidden=42, heads=6, kv_heads=3, head_dim=14),
    "full only": Tiny(layers="FFF", shared=1, sparsity=(0.95,), ffn=(170, 131, 93), window=32),
    "sliding only": Tiny(layers="ssss", shared=2, sparsity=(0.95,), window=32, laurel=7),
    "two streams": Tiny(altup=2, hidden=30, heads=3, head_dim=12),
    "five streams, the third active": Tiny(altup=5, active=2, hidden=39, heads=3, kv_heads=3),
    "active stream 1": Tiny(active=1, layers="sFsF", shared=2, sparsity=(0.8, 0.0, 0.95, 0.0)),
    "no correct scale": Tiny(correct_scale=False),
    "rope bases": Tiny(rope=321.0, local_rope=17.0, head_dim=16, window=12),
    "whole per-layer table": Tiny(vocab=295, ple_vocab=295),
    "many layers": Tiny(layers="ssFsFsssFssF", shared=8, sparsity=(0.9,) * 3 + (0.0,) * 9, hidden=28, heads=7, ple=5),
}


def make(folder: Path, tiny: Tiny, quant: str = "f32") -> Path:
    checkpoint = write_checkpoint(folder / "checkpoint", tiny)
    convert(checkpoint, folder / "model.gguf", quant)
    return folder / "model.gguf"


def tokens(tiny: Tiny, count: int, seed: int = 1) -> list[int]:
    """Random ids, some of them beyond the per-layer table."""
    random = np.random.default_rng(seed)
    ids = random.integers(0, tiny.vocab, count)
    ids[2::7] = random.integers(tiny.ple_vocab - 1, tiny.vocab, len(ids[2::7]))
    return [int(i) for i in ids]


def length(tiny: Tiny) -> int:
    """Well past the window: more than three of them."""
    return 3 * tiny.window + 7


@dataclasses.dataclass(frozen=True)
class Case:
    """A model as gemlet loads it, and what transformers says about `ids`."""

    tiny: Tiny
    path: Path
    ids: list[int]
    single: Logits
    double: Logits

    def check(self, ours: Logits) -> None:
        error = float(np.abs(ours - self.single).max())
        assert np.isfinite(ours).all() and error < TOLERANCE, self.explain(error)
        own = float(np.abs(self.single - self.double).max())
        from_truth = float(np.abs(ours - self.double).max())
        assert from_truth <= 3 * own, f"{from_truth:.2e} from float64, transformers' own float32 {own:.2e}"

    def explain(self, error: float) -> str:
        position, token = np.unravel_index(np.argmax(np.abs(self.single)), self.single.shape)
        return f"{error:.3e} from transformers; its greatest logit is {self.single[position, token]:.2f} at {position}"


@pytest.fixture(scope="module", params=MODELS, ids=[name.replace(" ", "-") for name in MODELS])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    tiny = MODELS[request.param]
    path = make(tmp_path_factory.mktemp("oracle"), tiny)
    ids = tokens(tiny, length(tiny))
    return Case(tiny, path, ids, Reference(tiny).logits(ids), Reference(tiny, double=True).logits(ids))


def test_the_logits_are_of_magnitude_twenty(case: Case) -> None:
    """The tolerance means what it says, and the soft-cap of 30 bites."""
    assert 15 < np.abs(case.single).max() < 29


def test_prefill(case: Case) -> None:
    case.check(gemlet.load(case.path, cache="f32", threads=1).session().prefill_all(case.ids))


@pytest.mark.parametrize("chunk", [1, 3, "window", "window + 1", "window * 2 + 1"])
def test_chunked_prefill(case: Case, chunk: int | str) -> None:
    size = chunk if isinstance(chunk, int) else int(eval(chunk, {"window": case.tiny.window}))
    session = gemlet.load(case.path, cache="f32", threads=2, chunk=size).session()
    case.check(session.prefill_all(case.ids))


def test_calls_of_several_lengths(case: Case) -> None:
    session = gemlet.load(case.path, cache="f32", threads=2, chunk=5).session()
    rows, start = [], 0
    for size in [1, 4, 2, case.tiny.window + 1, 1, 1, len(case.ids)]:
        piece = case.ids[start : start + size]
        rows += [session.prefill_all(piece)] if piece else []
        start += size
    case.check(np.concatenate(rows))


def test_step_by_step(case: Case) -> None:
    session = gemlet.load(case.path, cache="f32", threads=1).session()
    case.check(np.stack([np.array(session.step(token)) for token in case.ids]))


def test_the_last_token_alone(case: Case) -> None:
    """Prompt tokens but the last may skip the shared layers: its logits must not change."""
    session = gemlet.load(case.path, cache="f32", threads=2, chunk=4).session()
    ours = np.array(session.prefill(case.ids))
    assert np.abs(ours - case.single[-1]).max() < TOLERANCE
    assert np.abs(ours - case.double[-1]).max() <= 3 * np.abs(case.single - case.double).max()


def test_greedy_text(case: Case) -> None:
    session = gemlet.load(case.path, cache="f32", threads=2).session()
    logits = session.prefill(case.ids[:5])
    ours = []
    for _ in range(12):
        ours.append(int(np.argmax(logits)))
        logits = session.step(ours[-1])
    assert ours == Reference(case.tiny).greedy(case.ids[:5], 12)


def test_cache_in_f16(case: Case) -> None:
    """Half precision rounds a key or value by up to 2^-12 of it, 4096 times what float32 does, and the noise of float32
    is up to 4e-4 here; rounding enters at two of the many places where float32 rounds, hence less than the product."""
    ours = gemlet.load(case.path, cache="f16", threads=2).session().prefill_all(case.ids)
    assert np.abs(ours - case.single).max() < 0.5


@pytest.mark.parametrize("isa", ["scalar", None])
def test_long_sequences(tmp_path: Path, isa: str | None) -> None:
    """Rotary angles and rings far from where they began."""
    tiny = Tiny(window=5)
    ids = tokens(tiny, 300)
    model = gemlet.load(make(tmp_path, tiny), cache="f32", context=300, chunk=64, isa=isa)
    ours = model.session().prefill_all(ids)
    single, double = Reference(tiny).logits(ids), Reference(tiny, double=True).logits(ids)
    Case(tiny, tmp_path, ids, single, double).check(ours)


def test_checkpoint_is_what_transformers_loads(tmp_path: Path) -> None:
    """Guards against a tiny checkpoint that only our own code can read."""
    import torch
    from transformers import AutoModelForCausalLM

    tiny = Tiny()
    checkpoint = write_checkpoint(tmp_path / "checkpoint", tiny)
    loaded, report = AutoModelForCausalLM.from_pretrained(
        checkpoint, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    ids = tokens(tiny, 9)
    with torch.no_grad():
        logits = loaded(input_ids=torch.tensor([ids])).logits[0].numpy()
    np.testing.assert_array_equal(logits, Reference(tiny).logits(ids))
