"""Gemma 3 in every format and quantisation, checked by the export itself and beside the numpy reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gemlet
import gguf
import numpy as np
import pytest
from gemlet.conversion import convert
from gemlet.exporters import export, onnx
from gemlet.exporters.source import Source

from reference_gemma3 import Gemma3Reference
from tiny_gemma3 import LoudGemma3, TinyGemma3, write_gemma3_checkpoint

BLOCKS = TinyGemma3(layers="sssFss", hidden=64, heads=4, kv_heads=2, head_dim=32, ffn=128, soft_cap=20.0, seed=3)
"""Rows that are whole blocks, so that matrices are quantised."""
FORMATS = ("onnx", "tflite")


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("quant", ["fp32", "fp16", "int8", "int4"])
def test_every_combination_passes_its_check(tmp_path: Path, format: str, quant: str) -> None:
    checkpoint = write_gemma3_checkpoint(tmp_path / "c", BLOCKS)
    done = export(checkpoint, tmp_path / "out", format, quant, context=96, prefill=(5, 16))
    found = done.same_weights
    assert found.longest >= 2 * BLOCKS.window and found.decoded > 16
    if quant in ("fp32", "fp16"):
        assert found.max_difference < 1e-3 and found.greedy_agreement == 1.0


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("tiny", [TinyGemma3(), BLOCKS, TinyGemma3(layers="FsF", kv_heads=3, rope_factor=1.0)])
def test_float32_beside_the_reference(tmp_path: Path, format: str, tiny: TinyGemma3) -> None:
    checkpoint = write_gemma3_checkpoint(tmp_path / "c", tiny)
    model = gemlet.load(export(checkpoint, tmp_path / "out", format, "fp32", context=64, prefill=(7, 16)).path)
    ids = [int(i) for i in np.random.default_rng(2).integers(0, tiny.vocab, 40)]
    want = Gemma3Reference(tiny).logits(ids)
    session = model.session()
    assert np.abs(session.prefill(ids[:19]) - want[18]).max() < 1e-3
    for i in range(19, 40):
        assert np.abs(session.step(ids[i]) - want[i]).max() < 1e-3


def test_a_file_with_more_rows_than_tokens(tmp_path: Path) -> None:
    """Public files have 262208 rows for 262144 tokens: the exported model's logits are of its tokens alone."""
    tiny = TinyGemma3()
    path = convert(write_gemma3_checkpoint(tmp_path / "c", tiny), tmp_path / "m.gguf", "f32").path
    shorter = rewritten(path, tmp_path / "shorter.gguf", tokens=290)
    model = gemlet.load(export(shorter, tmp_path / "out", "onnx", "fp32", context=64).path)
    ids = [2, 100, 289, 31]
    want = Gemma3Reference(tiny).logits(ids)[:, :290]
    assert np.abs(model.logits(ids) - want).max() < 1e-3
    assert onnx.build(Source(shorter)).weight_bytes < Source(path).tensors["token_embd.weight"]["bytes"] * 20


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("quant", ["fp32", "int8"])
def test_fused_queries_keys_and_values(tmp_path: Path, format: str, quant: str) -> None:
    """Newer converters can store the three matrices as one."""
    path = convert(write_gemma3_checkpoint(tmp_path / "c", BLOCKS), tmp_path / "m.gguf", "q8_0").path
    fused = rewritten(path, tmp_path / "fused.gguf", fuse=True)
    assert "blk.0.attn_qkv.weight" in Source(fused).tensors and "blk.0.attn_q.weight" not in Source(fused).tensors
    found = gemlet.load(export(fused, tmp_path / "fused", format, quant, context=64, prefill=(5,)).path)
    expected = gemlet.load(export(path, tmp_path / "apart", format, quant, context=64, prefill=(5,)).path)
    ids = [2, 100, 289, 31]
    np.testing.assert_array_equal(found.logits(ids), expected.logits(ids))


def rewritten(source: Path, target: Path, *, tokens: int | None = None, fuse: bool = False) -> Path:
    """A copy of a file whose tokenizer has only so many tokens, or with fused matrices of attention, by gguf's own
    reader and writer."""
    reader = gguf.GGUFReader(source)
    copy = gguf.GGUFWriter(target, "gemma3")
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        inner = field.types[1] if len(field.types) > 1 else None
        value = field.contents()
        if field.name in {f"tokenizer.ggml.{part}" for part in ("tokens", "scores", "token_type")}:
            value = value[:tokens]
        copy.add_key_value(field.name, value, field.types[0], sub_type=inner)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    for name, tensor in tensors.items():
        data = tensor.data
        if fuse and name.endswith(("attn_k.weight", "attn_v.weight")):
            continue
        if fuse and name.endswith("attn_q.weight"):
            data = np.concatenate([data, *(tensors[name.replace("attn_q", f"attn_{kind}")].data for kind in "kv")])
            name = name.replace("attn_q", "attn_qkv")
        copy.add_tensor(name, data, raw_dtype=tensor.tensor_type)
    copy.write_header_to_file()
    copy.write_kv_data_to_file()
    copy.write_tensors_to_file()
    copy.close()
    return target


@pytest.mark.parametrize("format", FORMATS)
def test_half_precision_is_of_the_weights_alone(tmp_path: Path, format: str) -> None:
    """The runtimes widen the weights of an fp16 file and compute in float32: a residual beyond 65504 stays finite."""
    checkpoint = write_gemma3_checkpoint(tmp_path / "c", LoudGemma3())
    core = gemlet.load(convert(checkpoint, tmp_path / "m.gguf", "f16").path, cache="f32", context=64)
    ids = [int(i) for i in np.random.default_rng(4).integers(0, 299, 30)]
    layers = core.session()._core.prefill_layers(ids)
    assert np.abs(layers[-1]).max() > 2 * 65504
    done = export(checkpoint, tmp_path / "out", format, "fp16", context=64, prefill=(5,))
    assert done.same_weights.relative_difference < 1e-3
    assert np.abs(gemlet.load(done.path).logits(ids) - core.logits(ids)).max() < 1e-3
    options: Any = {"temperature": 0.0, "max_tokens": 20}
    assert gemlet.load(done.path).generate("abc", **options).tokens == core.generate("abc", **options).tokens
