"""Files whose sparse layers store the down projection transposed: the same model, of which less is read."""

from __future__ import annotations

from pathlib import Path

import gemlet
import gguf
import numpy as np
import pytest
from gemlet.conversion import convert

from oracle_models import NESTED, NESTED_TOKENS
from tiny import Array, write_checkpoint

SPARSE = [i for i, part in enumerate(NESTED.sparsity) if part > 0]


def files(folder: Path, quant: str) -> tuple[Path, Path]:
    """The model as it usually is, and with the transposed projections."""
    checkpoint = write_checkpoint(folder / "checkpoint", NESTED)
    plain, transposed = folder / "plain.gguf", folder / "transposed.gguf"
    convert(checkpoint, plain, quant)
    convert(checkpoint, transposed, quant, transpose_down=True)
    return plain, transposed


def logits(path: Path) -> Array:
    return gemlet.load(path, cache="f32").logits(NESTED_TOKENS)


def test_sparse_layers_and_no_others_are_transposed(tmp_path: Path) -> None:
    plain, transposed = (gguf.GGUFReader(path) for path in files(tmp_path, "f32"))
    values = {tensor.name: np.asarray(tensor.data) for tensor in plain.tensors}
    names = {tensor.name for tensor in transposed.tensors}
    assert names - set(values) == {f"blk.{i}.ffn_down_t.weight" for i in SPARSE}
    for tensor in transposed.tensors:
        old = values[tensor.name.replace("_down_t", "_down")]
        np.testing.assert_array_equal(tensor.data, old.T if "_down_t" in tensor.name else old)


@pytest.mark.parametrize("quant", ["f32", "bf16", "f16"])
def test_the_same_logits_where_the_weights_are_the_same(tmp_path: Path, quant: str) -> None:
    plain, transposed = files(tmp_path, quant)
    assert np.abs(logits(plain) - logits(transposed)).max() < 1e-3  # sums in another order: float32's own noise


@pytest.mark.parametrize("quant", ["q8_0", "q4_0"])
def test_quantised_along_the_other_side_it_is_as_near_to_the_floats(tmp_path: Path, quant: str) -> None:
    plain, transposed = files(tmp_path, quant)
    convert(tmp_path / "checkpoint", tmp_path / "f32.gguf", "f32")
    exact = logits(tmp_path / "f32.gguf")
    errors = [float(np.sqrt(np.mean((logits(path) - exact) ** 2))) for path in (plain, transposed)]
    # The transposed product takes its activations in float32, the plain one in int8: no reason to be further off than
    # chance makes it.
    assert errors[1] < 1.5 * errors[0]
    assert errors[1] > 0


@pytest.mark.parametrize("quant", ["f32", "q8_0", "q4_0"])
def test_prefill_steps_and_threads_give_the_same_bits(tmp_path: Path, quant: str) -> None:
    _, path = files(tmp_path, quant)
    whole = gemlet.load(path, threads=1).logits(NESTED_TOKENS)
    np.testing.assert_array_equal(whole, gemlet.load(path, threads=3).logits(NESTED_TOKENS))
    np.testing.assert_array_equal(whole, gemlet.load(path, threads=2, chunk=1).logits(NESTED_TOKENS))


@pytest.mark.parametrize("quant", ["f32", "q8_0", "q4_0"])
def test_slices(tmp_path: Path, quant: str) -> None:
    _, path = files(tmp_path, quant)
    part = gemlet.Slice(ffn_widths=(64, 32, 96, 64, 96, 64, 32, 64))
    convert(tmp_path / "checkpoint", tmp_path / "part.gguf", quant, slice=part, transpose_down=True)
    np.testing.assert_array_equal(
        gemlet.load(path, slice=part).logits(NESTED_TOKENS), gemlet.load(tmp_path / "part.gguf").logits(NESTED_TOKENS)
    )


def test_rows_that_are_read_are_counted(tmp_path: Path) -> None:
    plain, transposed = (gemlet.load(path, threads=1) for path in files(tmp_path, "f32"))
    for model in (plain, transposed):
        model.logits(NESTED_TOKENS[:1])
    saved = plain.work.weight_bytes - transposed.work.weight_bytes
    down = sum(4 * NESTED.hidden * NESTED.per_layer(NESTED.ffn)[i] for i in SPARSE)
    assert 0 < saved < down
    assert saved % (4 * NESTED.hidden) == 0
