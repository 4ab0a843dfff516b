"""Logits against transformers, on tiny random models whose dimensions are like no other's.

float32: within 1e-3 of transformers' float32, and no further from transformers in float64 than three times its own
float32 is.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gemlet
import numpy as np
import pytest
from gemlet.conversion import convert
from numpy.typing import NDArray

pytest.importorskip("torch", reason="needs the [live] extra")
pytest.importorskip("transformers", reason="needs the [live] extra")

from oracle_models import MODELS, tokens
from reference import Reference, half_cache, layer_report, rms
from tiny import Tiny, write_checkpoint

pytestmark = [pytest.mark.live, pytest.mark.filterwarnings("default")]

TOLERANCE = 1e-3
Logits = NDArray[np.floating[Any]]


def make(folder: Path, tiny: Tiny, quant: str = "f32") -> Path:
    checkpoint = write_checkpoint(folder / "checkpoint", tiny)
    convert(checkpoint, folder / "model.gguf", quant)
    return folder / "model.gguf"


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

    def check(self, ours: Logits, session: gemlet.Session, pieces: Sequence[Sequence[int]] | None = None) -> None:
        """`session` computed them from the ids, given in these pieces."""
        error = float(np.abs(ours - self.single).max())
        from_truth = float(np.abs(ours - self.double).max())
        own = float(np.abs(self.single - self.double).max())
        if not (np.isfinite(ours).all() and error < TOLERANCE and from_truth <= 3 * own):
            report = layer_report(session, pieces or [self.ids], Reference(self.tiny))
            pytest.fail(
                f"logits up to {np.abs(self.single).max():.1f} differ by {error:.2e} from transformers, and by"
                f" {from_truth:.2e} from float64, where transformers' own float32 differs by {own:.2e}; {report}"
            )


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
    session = gemlet.load(case.path, cache="f32", threads=1).session()
    case.check(session.prefill_all(case.ids), session)


@pytest.mark.parametrize("chunk", [1, 3, "window", "window + 1", "window * 2 + 1"])
def test_chunked_prefill(case: Case, chunk: int | str) -> None:
    size = chunk if isinstance(chunk, int) else int(eval(chunk, {"window": case.tiny.window}))
    session = gemlet.load(case.path, cache="f32", threads=2, chunk=size).session()
    case.check(session.prefill_all(case.ids), session)


def test_calls_of_several_lengths(case: Case) -> None:
    session = gemlet.load(case.path, cache="f32", threads=2, chunk=5).session()
    pieces, start = [], 0
    for size in [1, 4, 2, case.tiny.window + 1, 1, 1, len(case.ids)]:
        pieces += [case.ids[start : start + size]] if start < len(case.ids) else []
        start += size
    case.check(np.concatenate([session.prefill_all(piece) for piece in pieces]), session, pieces)


def test_step_by_step(case: Case) -> None:
    session = gemlet.load(case.path, cache="f32", threads=1).session()
    ours = np.stack([session.step(token) for token in case.ids])
    case.check(ours, session, [[token] for token in case.ids])


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
    """Beside transformers with keys and values rounded alike. What remains are values that lie so near a boundary that
    float32's noise e takes them across it, by a whole step d: a share of 2 e / d of them, each off by d where rounding
    is off by d / sqrt(12) in the mean. Together sqrt(24 e / d) of what rounding does to the logits: half of it for the
    noise of 1e-5 that test_layers_differ_by_rounding_alone sees, and steps of 2^-10."""
    ours = gemlet.load(case.path, cache="f16", threads=2).session().prefill_all(case.ids)
    with half_cache():
        rounded = Reference(case.tiny).logits(case.ids)
    assert rms(ours - rounded) < 0.5 * rms(rounded - case.single)
    assert np.abs(ours - rounded).max() < 0.5 * np.abs(rounded - case.single).max()


@pytest.mark.parametrize("kernels", ["scalar", None])
def test_long_sequences(tmp_path: Path, kernels: str | None) -> None:
    """Rotary angles and rings far from where they began."""
    tiny = Tiny(window=5)
    ids = tokens(tiny, 300)
    session = gemlet.load(make(tmp_path, tiny), cache="f32", context=300, chunk=64, kernels=kernels).session()
    ours = session.prefill_all(ids)
    single, double = Reference(tiny).logits(ids), Reference(tiny, double=True).logits(ids)
    Case(tiny, tmp_path, ids, single, double).check(ours, session)


@pytest.mark.parametrize("chunk", [4, 256])
@pytest.mark.parametrize("kernels", ["scalar", None])
def test_layers_differ_by_rounding_alone(case: Case, chunk: int, kernels: str | None) -> None:
    session = gemlet.load(case.path, cache="f32", threads=1, chunk=chunk, kernels=kernels).session()
    assert layer_report(session, [case.ids], Reference(case.tiny)).startswith("no layer differs")


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ("embed_tokens_per_layer.weight", "layer 0 is the first to differ"),
        ("layers.0.input_layernorm.weight", "layer 0 is the first to differ"),
        ("layers.2.mlp.down_proj.weight", "layer 2 is the first to differ"),
        ("layers.3.self_attn.q_proj.weight", "layer 3 is the first to differ"),
        ("layers.4.post_per_layer_input_norm.weight", "layer 4 is the first to differ"),
        ("norm.weight", "no layer differs"),
    ],
)
@pytest.mark.parametrize("cuts", [(), (7, 8)], ids=["at once", "in pieces"])
def test_a_mismatch_is_traced_to_its_layer(tmp_path: Path, changed: str, found: str, cuts: tuple[int, ...]) -> None:
    """The file has a tensor other than the reference's."""
    tiny = Tiny()
    weights = tiny.weights()[changed]
    weights = weights * np.linspace(1, 1.05, weights.shape[-1], dtype=np.float32)
    checkpoint = write_checkpoint(tmp_path / "checkpoint", tiny, extra={f"model.{changed}": weights})
    convert(checkpoint, tmp_path / "model.gguf", "f32")
    ids = tokens(tiny, length(tiny))
    logits = Reference(tiny).logits(ids)
    session = gemlet.load(tmp_path / "model.gguf", cache="f32", threads=1, chunk=5).session()
    pieces = [ids[start:end] for start, end in itertools.pairwise([0, *cuts, len(ids)])]
    ours = np.concatenate([session.prefill_all(piece) for piece in pieces])
    with pytest.raises(pytest.fail.Exception, match=found):
        Case(tiny, tmp_path, ids, logits, logits).check(ours, session, pieces)


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
