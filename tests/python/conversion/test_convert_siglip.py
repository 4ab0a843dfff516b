"""Conversion of Gemma 3's vision encoder: layouts of checkpoints, names, values, types and keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gemlet import _core
from gemlet.conversion import ConvertError, convert_mmproj

from media_inputs import picture, see
from tiny import Array
from tiny_gemma3 import TinyGemma3, write_gemma3_checkpoint
from tiny_siglip import MEAN, TOWER, TinySiglip, siglip_checkpoint

TINY = TinySiglip()
WIDE = TinySiglip(width=64, heads=2, ffn=96, text_hidden=64)
"""Rows of whole blocks, so that everything that may be quantised is."""


def read(path: Path) -> tuple[dict[str, Any], dict[str, gguf.ReaderTensor]]:
    reader = gguf.GGUFReader(path)
    return {name: field.contents() for name, field in reader.fields.items()}, {t.name: t for t in reader.tensors}


def rows(path: Path, tiny: TinySiglip = TINY) -> Array:
    return see(_core.Encoders.load(path, 1), picture(50, 70), tiny.image_size)


def refused(source: Path, out: Path, quant: str = "f32") -> str:
    with pytest.raises(ConvertError) as caught:
        convert_mmproj(source, out, quant)
    assert not out.exists()
    return str(caught.value)


@pytest.mark.parametrize("layout", ["published", "renamed", "saved"])
def test_the_file_gives_the_bits_of_the_tests_own_writer(tmp_path: Path, layout: str) -> None:
    done = convert_mmproj(siglip_checkpoint(tmp_path / "c", TINY, layout=layout), tmp_path / "mmproj.gguf", "f32")
    assert done.encoders == ("vision",) and set(done.types) == {"F32"}
    np.testing.assert_array_equal(rows(done.path), rows(TINY.write(tmp_path / "own.gguf")))
    expected, tensors = TINY.tensors(), read(done.path)[1]
    assert tensors.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(tensors[name].data, value, name)


def test_keys(tmp_path: Path) -> None:
    source = siglip_checkpoint(tmp_path / "gemma-tiny", TinySiglip(tokens=36))
    keys, _ = read(convert_mmproj(source, tmp_path / "mmproj.gguf", "q8_0").path)
    ours = {name: value for name, value in keys.items() if not name.startswith("GGUF.")}
    assert ours == {
        "general.architecture": "clip",
        "general.type": "mmproj",
        "general.name": "gemma-tiny",
        "general.file_type": int(gguf.LlamaFileType.MOSTLY_Q8_0),
        "general.quantization_version": gguf.GGML_QUANT_VERSION,
        "clip.has_vision_encoder": True,
        "clip.projector_type": "gemma3",
        "clip.vision.projector_type": "gemma3",
        "clip.vision.projection_dim": 42,
        "clip.vision.image_size": 60,
        "clip.vision.patch_size": 5,
        "clip.vision.embedding_length": 44,
        "clip.vision.feed_forward_length": 70,
        "clip.vision.block_count": 3,
        "clip.vision.attention.head_count": 4,
        "clip.vision.attention.layer_norm_epsilon": pytest.approx(1e-6),
        "clip.vision.image_mean": pytest.approx(MEAN),
        "clip.vision.image_std": pytest.approx([0.5, 0.6, 0.4]),
        "clip.vision.projector.scale_factor": 2,
        "clip.use_gelu": True,
    }


@pytest.mark.parametrize("name", ["processor_config.json", "none"])
def test_where_the_mean_of_the_pixels_stands(tmp_path: Path, name: str) -> None:
    source = siglip_checkpoint(tmp_path / "c", TINY)
    (source / "preprocessor_config.json").unlink()
    if name != "none":
        (source / name).write_text(json.dumps({"image_processor": {"image_mean": [0.25, 0.5, 0.75]}}))
    keys, _ = read(convert_mmproj(source, tmp_path / "mmproj.gguf").path)
    assert keys["clip.vision.image_mean"] == ([0.25, 0.5, 0.75] if name != "none" else [0.5, 0.5, 0.5])
    assert keys["clip.vision.image_std"] == [0.5, 0.5, 0.5]


@pytest.mark.parametrize(
    ("quant", "layer", "glue", "transposed"),
    [
        ("f32", "F32", "F32", "F32"),
        ("f16", "F16", "F16", "F16"),
        ("bf16", "BF16", "BF16", "F16"),
        ("q8_0", "Q8_0", "Q8_0", "F16"),
        ("q4_0", "Q4_0", "Q8_0", "F16"),
    ],
)
def test_types(tmp_path: Path, quant: str, layer: str, glue: str, transposed: str) -> None:
    source = siglip_checkpoint(tmp_path / "c", WIDE)
    _, tensors = read(convert_mmproj(source, tmp_path / "mmproj.gguf", quant).path)
    wanted = {
        "v.patch_embd.weight": "F32",
        "v.position_embd.weight": "F32",
        "v.blk.0.attn_q.weight": glue,
        "v.blk.0.attn_q.bias": "F32",
        "v.blk.1.attn_out.weight": glue,
        "v.blk.1.ln1.weight": "F32",
        "v.blk.2.ffn_up.weight": layer,
        "v.blk.2.ffn_down.weight": layer,
        "mm.input_projection.weight": transposed,
    }
    assert {name: tensors[name].tensor_type.name for name in wanted} == wanted
    whole = rows(convert_mmproj(source, tmp_path / "f32.gguf", "f32").path, WIDE)
    found = rows(tmp_path / "mmproj.gguf", WIDE)
    cosine = (whole * found).sum(-1) / np.sqrt((whole**2).sum(-1) * (found**2).sum(-1))
    assert cosine.min() > {"f32": 0.9999999, "f16": 0.9999, "bf16": 0.999, "q8_0": 0.99, "q4_0": 0.9}[quant]


def test_a_pooling_head_has_no_use(tmp_path: Path) -> None:
    source = siglip_checkpoint(tmp_path / "c", TINY)
    expected = convert_mmproj(source, tmp_path / "expected.gguf").path.read_bytes()
    weights = TINY.weights() | {f"{TOWER}head.probe": np.ones((1, 1, 44), np.float32)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TinySiglip, "weights", lambda self: weights)
        source = siglip_checkpoint(tmp_path / "head" / "c", TINY)
    assert convert_mmproj(source, tmp_path / "mmproj.gguf").path.read_bytes() == expected


def test_any_missing_tensor_is_named(tmp_path: Path) -> None:
    for name in TINY.weights():
        message = refused(siglip_checkpoint(tmp_path / "c", TINY, drop=name), tmp_path / "mmproj.gguf")
        assert message.startswith(f"1 tensors do not fit the configuration:\n  - missing: {name} ["), name


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("hidden_act", "gelu", 'vision_config.hidden_act: expected "gelu_pytorch_tanh"'),
        ("num_channels", 1, "vision_config.num_channels: expected 3"),
        ("num_attention_heads", 5, "expected a divisor of hidden_size (44)"),
        ("hidden_size", None, "vision_config.hidden_size: expected a whole number"),
        ("image_size", 64, "vision_config.image_size: expected a multiple of patch_size x 4"),
        ("num_hidden_layers", 2, "extra: vision_tower.vision_model.encoder.layers.2."),
        ("intermediate_size", 71, "misshapen: vision_tower.vision_model.encoder.layers.0.mlp.fc1.weight is [70, 44]"),
    ],
)
def test_bad_fields(tmp_path: Path, field: str, value: Any, message: str) -> None:
    source = siglip_checkpoint(tmp_path / "c", TINY, vision_config={**TINY.config(), field: value})
    assert message in refused(source, tmp_path / "mmproj.gguf")


@pytest.mark.parametrize(
    ("processor", "message"),
    [
        ({"image_mean": [0.5, 0.5]}, "image_mean: expected a list of 3 numbers, found [0.5, 0.5]"),
        ({"image_std": [0.5, 0, 0.5]}, "image_std: expected a list of 3 numbers above 0"),
        ({"image_std": "0.5"}, "image_std: expected a list of 3 numbers above 0"),
    ],
)
def test_bad_processors(tmp_path: Path, processor: dict[str, Any], message: str) -> None:
    source = siglip_checkpoint(tmp_path / "c", TINY)
    (source / "preprocessor_config.json").write_text(json.dumps(processor))
    assert "preprocessor_config.json: " + message in refused(source, tmp_path / "mmproj.gguf")


@pytest.mark.parametrize("tokens", [15, 0, "256"])
def test_bad_numbers_of_soft_tokens(tmp_path: Path, tokens: Any) -> None:
    source = siglip_checkpoint(tmp_path / "c", TINY, mm_tokens_per_image=tokens)
    assert "mm_tokens_per_image: expected" in refused(source, tmp_path / "mmproj.gguf")


def test_checkpoints_without_encoders(tmp_path: Path) -> None:
    source = write_gemma3_checkpoint(tmp_path / "text", TinyGemma3())
    assert "the checkpoint is text only" in refused(source, tmp_path / "mmproj.gguf")
