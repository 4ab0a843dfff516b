"""One test for each way in which implementations of Gemma 3n go wrong, on a model that makes the trap show. The numbers
are those of `scripts/check_traps`, which reintroduces each of them and sees its test fail."""

from __future__ import annotations

from pathlib import Path

import gemlet
import numpy as np
import pytest
from gemlet.conversion import convert

pytest.importorskip("torch", reason="needs the [live] extra")
pytest.importorskip("transformers", reason="needs the [live] extra")

from reference import Reference, layer_report
from tiny import Tiny, write_checkpoint

pytestmark = [pytest.mark.live, pytest.mark.filterwarnings("default")]


def agree(folder: Path, tiny: Tiny, ids: list[int] | None = None, chunk: int = 256) -> None:
    checkpoint = write_checkpoint(folder / "checkpoint", tiny)
    convert(checkpoint, folder / "model.gguf", "f32")
    if ids is None:
        ids = np.random.default_rng(5).integers(0, tiny.ple_vocab, 3 * tiny.window + 2).tolist()
    session = gemlet.load(folder / "model.gguf", cache="f32", threads=1, chunk=chunk, kernels="scalar").session()
    reference = Reference(tiny)
    error = np.abs(session.prefill_all(ids) - reference.logits(ids)).max()
    assert error < 1e-3, layer_report(session, [ids], reference)


def test_1_rms_norm_multiplies_by_w(tmp_path: Path) -> None:
    agree(tmp_path, Tiny())


def test_1_v_norm_has_no_weight(tmp_path: Path) -> None:
    agree(tmp_path, Tiny(layers="FFF", shared=1, sparsity=(0.0,)))


def test_1_attention_scale_is_one(tmp_path: Path) -> None:
    agree(tmp_path, Tiny(head_dim=16))


def test_1_logits_are_soft_capped(tmp_path: Path) -> None:
    agree(tmp_path, Tiny(logit_gain=9.0))


def test_2_cutoff_uses_the_population_deviation(tmp_path: Path) -> None:
    agree(tmp_path, Tiny(sparsity=(0.9,), ffn=(48,)))


def test_2_cutoff_is_subtracted_before_relu(tmp_path: Path) -> None:
    agree(tmp_path, Tiny(sparsity=(0.8,)))


def test_2_gelu_is_the_tanh_kind(tmp_path: Path) -> None:
    agree(tmp_path, Tiny(sparsity=(0.0,)))


def test_2_sparse_layers_come_from_the_file(tmp_path: Path) -> None:
    agree(tmp_path, Tiny(sparsity=(0.0, 0.9, 0.0, 0.0, 0.7)))


def test_3_mean_square_is_clamped(tmp_path: Path) -> None:
    agree(tmp_path, Tiny(altup_projection_gain=1e-3))


def test_3_router_input_is_scaled(tmp_path: Path) -> None:
    agree(tmp_path, Tiny())


def test_3_router_goes_through_tanh(tmp_path: Path) -> None:
    agree(tmp_path, Tiny())


def test_3_correction_coefficients_plus_one(tmp_path: Path) -> None:
    agree(tmp_path, Tiny())


def test_3_per_layer_input_never_enters_stream_0(tmp_path: Path) -> None:
    agree(tmp_path, Tiny())


def test_3_active_stream_comes_from_the_file(tmp_path: Path) -> None:
    agree(tmp_path, Tiny(active=2))


def test_3_laurel_sum_is_divided_by_sqrt_2(tmp_path: Path) -> None:
    agree(tmp_path, Tiny())


def test_3_streams_are_averaged(tmp_path: Path) -> None:
    agree(tmp_path, Tiny(eps=0.05))  # a norm follows, so that a sum instead shows by the epsilon alone


def test_4_projection_is_scaled_before_its_norm(tmp_path: Path) -> None:
    agree(tmp_path, Tiny(eps=0.05))  # likewise


def test_4_per_layer_embedding_is_scaled_by_its_width(tmp_path: Path) -> None:
    agree(tmp_path, Tiny(ple=11))


def test_4_per_layer_sum_is_divided_by_sqrt_2(tmp_path: Path) -> None:
    agree(tmp_path, Tiny())


def test_4_ids_beyond_the_table_use_row_0(tmp_path: Path) -> None:
    tiny = Tiny()
    agree(tmp_path, tiny, list(range(tiny.ple_vocab - 2, tiny.vocab)))


def test_4_zero_rows_after_the_table_are_padding(tmp_path: Path) -> None:
    """As llama.cpp's converter writes them."""
    tiny = Tiny()
    zeros = np.zeros((tiny.vocab - tiny.ple_vocab, tiny.ple * len(tiny.layers)), np.float32)
    weights = tiny.weights()
    padded = np.concatenate([weights["embed_tokens_per_layer.weight"], zeros])
    checkpoint = write_checkpoint(
        tmp_path / "c",
        tiny,
        extra={"model.embed_tokens_per_layer.weight": padded},
        config={"vocab_size_per_layer_input": tiny.vocab},
    )
    convert(checkpoint, tmp_path / "m.gguf", "f32")
    ids = list(range(tiny.ple_vocab - 2, tiny.vocab))
    ours = gemlet.load(tmp_path / "m.gguf", cache="f32").session().prefill_all(ids)
    assert np.abs(ours - Reference(tiny).logits(ids)).max() < 1e-3


def test_6_a_shared_layer_reads_the_last_of_its_kind(tmp_path: Path) -> None:
    agree(tmp_path, Tiny(layers="ssFFssFF", shared=3, sparsity=(0.0,)))


def test_6_the_number_of_shared_layers_comes_from_the_file(tmp_path: Path) -> None:
    agree(tmp_path, Tiny(layers="sFsFsF", shared=3, sparsity=(0.0,)))


def test_6_wrapped_windows_survive_chunks(tmp_path: Path) -> None:
    """Rings are made of pages of 64 positions: only a chunk of more than that asks for room of its own."""
    for chunk in (1, 7, 150):
        ids = [5 + i * 7 % 40 for i in range(250)]
        agree(tmp_path, Tiny(layers="sFss", shared=1, sparsity=(0.0,), window=4), ids, chunk)


def test_7_the_pattern_comes_from_the_file(tmp_path: Path) -> None:
    agree(tmp_path, Tiny(layers="FssFss", shared=2, sparsity=(0.0,), window=4))


def test_7_rope_bases_differ(tmp_path: Path) -> None:
    agree(tmp_path, Tiny(rope=5000.0, local_rope=11.0, head_dim=16, window=12))


def test_7_the_window_counts_the_token_itself(tmp_path: Path) -> None:
    agree(tmp_path, Tiny(layers="sss", shared=1, sparsity=(0.0,), window=4))


def test_9_keys_and_values_of_shared_layers_are_ignored(tmp_path: Path) -> None:
    tiny = Tiny()
    extra = {f"model.{name}": value for name, value in tiny.unused_keys_and_values().items()}
    checkpoint = write_checkpoint(tmp_path / "c", tiny, extra=extra)
    convert(checkpoint, tmp_path / "m.gguf", "f32")
    ids = list(range(4, 30))
    ours = gemlet.load(tmp_path / "m.gguf", cache="f32").session().prefill_all(ids)
    assert np.abs(ours - Reference(tiny).logits(ids)).max() < 1e-3
