"""Gemma 3 checkpoints: every key and tensor of the file, both generations of configurations, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import gemlet
import gguf
import numpy as np
import pytest
from gemlet.conversion import ConvertError, convert
from gemlet.conversion.sentencepiece import Piece, PieceKind
from numpy.typing import NDArray

from tiny import bfloat16_bits, tiny_pieces, tiny_tokenizer
from tiny_gemma3 import TinyGemma3, write_gemma3_checkpoint

Array = NDArray[np.float32]
TINY = TinyGemma3()
LAYER = {
    "attn_norm": "input_layernorm.weight",
    "attn_q": "self_attn.q_proj.weight",
    "attn_q_norm": "self_attn.q_norm.weight",
    "attn_k": "self_attn.k_proj.weight",
    "attn_k_norm": "self_attn.k_norm.weight",
    "attn_v": "self_attn.v_proj.weight",
    "attn_output": "self_attn.o_proj.weight",
    "post_attention_norm": "post_attention_layernorm.weight",
    "ffn_norm": "pre_feedforward_layernorm.weight",
    "ffn_gate": "mlp.gate_proj.weight",
    "ffn_up": "mlp.up_proj.weight",
    "ffn_down": "mlp.down_proj.weight",
    "post_ffw_norm": "post_feedforward_layernorm.weight",
}
PREFIX = "gemma3."


def read(path: Path) -> tuple[dict[str, Any], dict[str, Array], dict[str, str]]:
    """Metadata, tensors as float32 (outermost first) and their types, by the gguf package's own reader."""
    reader = gguf.GGUFReader(path)
    tensors = {
        tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(tensor.shape[::-1].tolist())
        for tensor in reader.tensors
    }
    types = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    return {name: field.contents() for name, field in reader.fields.items()}, tensors, types


def converted(
    folder: Path, tiny: TinyGemma3 = TINY, quant: str = "f32", **layout: Any
) -> tuple[dict[str, Any], dict[str, Array], dict[str, str]]:
    checkpoint = write_gemma3_checkpoint(folder / "checkpoint", tiny, **layout)
    return read(convert(checkpoint, folder / "model.gguf", quant).path)


def keys(folder: Path, tiny: TinyGemma3, config: dict[str, Any] | None = None) -> dict[str, Any]:
    """The architecture's own keys, without the prefix."""
    fields, _, _ = converted(folder, tiny, config=config)
    return {name.removeprefix(PREFIX): value for name, value in fields.items() if name.startswith(PREFIX)}


def expected_tensors(tiny: TinyGemma3) -> dict[str, Array]:
    weights = tiny.weights()
    expected = {
        "token_embd.weight": weights["embed_tokens.weight"],
        "output_norm.weight": weights["norm.weight"] + np.float32(1),
    }
    for i in range(len(tiny.layers)):
        for ours, theirs in LAYER.items():
            one = np.float32(1 if ours.endswith("norm") else 0)
            expected[f"blk.{i}.{ours}.weight"] = weights[f"layers.{i}.{theirs}"] + one
    return expected


def assert_tensors(tensors: dict[str, Array], expected: dict[str, Array]) -> None:
    assert tensors.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(tensors[name], values, err_msg=name)


def test_every_weight_arrives_in_its_place_and_norms_get_their_one(tmp_path: Path) -> None:
    _, tensors, types = converted(tmp_path)
    assert set(types.values()) == {"F32"}
    assert_tensors(tensors, expected_tensors(TINY))


@pytest.mark.parametrize("prefix", ["model.language_model.", "language_model.model."])
def test_the_text_half_of_multimodal_checkpoints(tmp_path: Path, prefix: str) -> None:
    checkpoint = write_gemma3_checkpoint(tmp_path / "c", TINY, prefix=prefix)
    outcome = convert(checkpoint, tmp_path / "m.gguf", "f32")
    assert len(outcome.left_out) == 3
    fields, tensors, _ = read(outcome.path)
    assert_tensors(tensors, expected_tensors(TINY))
    assert fields["general.architecture"] == "gemma3"
    assert fields["tokenizer.ggml.eot_token_id"] == 5


def test_the_one_is_added_in_float32(tmp_path: Path) -> None:
    """bfloat16 has eight bits: 1.004 would become 1 in it."""
    _, tensors, _ = converted(tmp_path, dtype="BF16")
    given = TINY.weights()["layers.2.input_layernorm.weight"]
    rounded = (bfloat16_bits(given).astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(tensors["blk.2.attn_norm.weight"], rounded + np.float32(1))


def test_metadata(tmp_path: Path) -> None:
    fields, _, _ = converted(tmp_path)
    assert {name: value for name, value in fields.items() if name.startswith(PREFIX)} == {
        "gemma3.block_count": 6,
        "gemma3.context_length": 512,
        "gemma3.embedding_length": 36,
        "gemma3.feed_forward_length": 58,
        "gemma3.attention.head_count": 3,
        "gemma3.attention.head_count_kv": 1,
        "gemma3.attention.key_length": 10,
        "gemma3.attention.value_length": 10,
        "gemma3.attention.layer_norm_rms_epsilon": pytest.approx(1e-5),
        "gemma3.attention.scale": pytest.approx(17**-0.5),
        "gemma3.attention.sliding_window": 7,
        "gemma3.attention.sliding_window_pattern": [True, False, True, True, False, True],
        "gemma3.rope.freq_base": 1e6,
        "gemma3.rope.freq_base_swa": 1e4,
        "gemma3.rope.scaling.type": "linear",
        "gemma3.rope.scaling.factor": 8.0,
    }
    general = {
        "general.architecture": "gemma3",
        "general.file_type": 0,
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.ggml.eot_token_id": 5,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_space_prefix": False,
    }
    assert {name: fields.get(name) for name in general} == general
    assert len(fields["tokenizer.ggml.tokens"]) == TINY.vocab > len(tiny_pieces())


def test_what_needs_no_key_has_none(tmp_path: Path) -> None:
    tiny = TinyGemma3(layers="sssssFss", rope_factor=1.0, query_scalar=10)
    found = keys(tmp_path, tiny)
    absent = {"attention.scale", "attention.sliding_window_pattern", "rope.scaling.type", "rope.scaling.factor"}
    assert not absent & found.keys() and "final_logit_softcapping" not in found


def test_what_readers_would_take_for_granted_is_said_otherwise(tmp_path: Path) -> None:
    """A long context without a factor, and as many layers as 27B with the usual scale."""
    tiny = TinyGemma3(layers="sssssF", rope_factor=1.0, context=131072)
    found = keys(tmp_path / "long", tiny)
    assert found["rope.scaling.type"] == "none" and "rope.scaling.factor" not in found
    tiny = TinyGemma3(layers=("sssssF" * 11)[:62], query_scalar=10, hidden=12, ffn=8)
    assert keys(tmp_path / "deep", tiny)["attention.scale"] == pytest.approx(10**-0.5)


@pytest.mark.parametrize(
    ("layers", "pattern"),
    [
        ("ssss", None),  # the usual period, six, of which no layer is the last
        ("sssssF", None),
        ("FFF", 1),
        ("sFsF", 2),
        ("ssFssFs", 3),
        ("ssssssss", 9),
        ("FssF", [False, True, True, False]),
    ],
)
def test_the_pattern_of_the_layers(tmp_path: Path, layers: str, pattern: object) -> None:
    assert keys(tmp_path, TinyGemma3(layers=layers)).get("attention.sliding_window_pattern") == pattern


def test_a_soft_cap_of_the_logits_is_kept(tmp_path: Path) -> None:
    assert keys(tmp_path, TinyGemma3(soft_cap=25.0))["final_logit_softcapping"] == 25.0


@pytest.mark.parametrize("period", [3, 6])
def test_both_generations_of_fields_give_the_same_file(tmp_path: Path, period: int) -> None:
    tiny = TinyGemma3(layers="".join("F" if i % period == period - 1 else "s" for i in range(7)))
    older = tiny.older_config(period)
    newer = keys(tmp_path / "newer", tiny)
    assert keys(tmp_path / "older", tiny, older) == newer
    if period == 6:
        del older["sliding_window_pattern"]
        assert keys(tmp_path / "absent", tiny, older) == newer
    older["_sliding_window_pattern"] = period
    assert keys(tmp_path / "private", tiny, older) == newer


@pytest.mark.parametrize(
    "scaling",
    [
        {"rope_type": "linear", "factor": 8.0},
        {"type": "linear", "factor": 8},
        {"type": "linear", "rope_type": "linear", "factor": 8.0},
    ],
)
def test_both_spellings_of_the_kind_of_scaling(tmp_path: Path, scaling: dict[str, Any]) -> None:
    tiny = TinyGemma3(layers="sssssFs")
    found = keys(tmp_path / "older", tiny, {**tiny.older_config(), "rope_scaling": scaling})
    assert (found["rope.scaling.type"], found["rope.scaling.factor"]) == ("linear", 8.0)
    config = tiny.config()
    config["rope_parameters"]["full_attention"] = {"rope_theta": 1e6, **scaling}
    assert keys(tmp_path / "newer", tiny, config) == found


def test_fields_that_published_configurations_leave_out(tmp_path: Path) -> None:
    """Gemma 3 4B's text_config has five fields; the others are the class's defaults."""
    tiny = TinyGemma3(layers="ssss", hidden=8, heads=8, kv_heads=4, head_dim=256, ffn=12, vocab=262208, window=1024)
    config = {
        "hidden_size": 8,
        "intermediate_size": 12,
        "model_type": "gemma3_text",
        "num_hidden_layers": 4,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
    }
    checkpoint = write_gemma3_checkpoint(tmp_path / "c", tiny, prefix="language_model.model.", config=config)
    fields, tensors, _ = read(convert(checkpoint, tmp_path / "m.gguf", "f16").path)
    assert {name.removeprefix(PREFIX): value for name, value in fields.items() if name.startswith(PREFIX)} == {
        "block_count": 4,
        "context_length": 131072,
        "embedding_length": 8,
        "feed_forward_length": 12,
        "attention.head_count": 8,
        "attention.head_count_kv": 4,
        "attention.key_length": 256,
        "attention.value_length": 256,
        "attention.layer_norm_rms_epsilon": pytest.approx(1e-6),
        "attention.sliding_window": 1024,
        "rope.freq_base": 1e6,
        "rope.freq_base_swa": 1e4,
        "rope.scaling.type": "linear",
        "rope.scaling.factor": 8.0,
    }
    assert tensors["token_embd.weight"].shape == (262208, 8)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("attn_logit_softcapping", 50.0, "attn_logit_softcapping: expected null"),
        ("use_bidirectional_attention", True, "use_bidirectional_attention: expected false"),
        ("attention_bias", True, "attention_bias: expected false"),
        ("hidden_activation", "gelu", 'hidden_activation: expected "gelu_pytorch_tanh"'),
        ("hidden_size", None, "hidden_size: expected a whole number"),
        ("intermediate_size", [58] * 6, "intermediate_size: expected a whole number"),
        ("num_key_value_heads", 2, "num_key_value_heads: expected a divisor of num_attention_heads (3)"),
        ("head_dim", 11, "head_dim: expected an even number"),
        ("query_pre_attn_scalar", 0, "query_pre_attn_scalar: expected a number above 0"),
        ("final_logit_softcapping", -1, "final_logit_softcapping: expected a number above 0"),
        ("layer_types", ["full_attention"] * 5, "layer_types: expected a list of 6 entries"),
        ("rope_parameters", {"full_attention": {"rope_type": "default"}}, "rope_parameters: expected"),
        ("model_type", "gemma3n_text", 'model_type is "gemma3n_text", expected "gemma3_text"'),
        ("architectures", ["Gemma2ForCausalLM"], "gemlet converts Gemma 3"),
        ("quantization_config", {"quant_method": "gptq"}, "quantization_config: the weights are quantised by gptq"),
        ("quantization", {"group_size": 64, "bits": 4}, "quantization: the weights are quantised"),
    ],
)
def test_bad_fields(tmp_path: Path, field: str, value: Any, message: str) -> None:
    checkpoint = write_gemma3_checkpoint(tmp_path / "c", TINY, config={**TINY.config(), field: value})
    with pytest.raises(ConvertError) as caught:
        convert(checkpoint, tmp_path / "m.gguf", "f32")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "parameters", "message"),
    [
        ("full_attention", {"rope_type": "yarn", "factor": 8.0}, "rope_parameters.full_attention.rope_type: expected"),
        ("full_attention", {"rope_type": "linear", "type": "yarn", "factor": 8.0}, "rope_type: expected"),
        ("full_attention", {"rope_type": "linear"}, "rope_parameters.full_attention.rope_type.factor: expected"),
        ("full_attention", {"rope_theta": 0}, "rope_parameters.full_attention.rope_theta: expected a number above 0"),
        ("sliding_attention", {"rope_type": "linear", "factor": 8.0}, "rope_parameters: expected"),
    ],
)
def test_bad_rope(tmp_path: Path, kind: str, parameters: dict[str, Any], message: str) -> None:
    config = TINY.config()
    config["rope_parameters"][kind] = parameters
    checkpoint = write_gemma3_checkpoint(tmp_path / "c", TINY, config=config)
    with pytest.raises(ConvertError) as caught:
        convert(checkpoint, tmp_path / "m.gguf", "f32")
    assert message in str(caught.value)


def test_a_model_of_one_key_and_value_head_for_each_query_head(tmp_path: Path) -> None:
    tiny = TinyGemma3(heads=5, kv_heads=5, head_dim=6)
    _, tensors, _ = converted(tmp_path, tiny)
    assert_tensors(tensors, expected_tensors(tiny))


def test_a_tied_head_is_dropped_and_one_of_its_own_is_kept(tmp_path: Path) -> None:
    embedding = TINY.weights()["embed_tokens.weight"]
    for name in ("lm_head.weight", "language_model.lm_head.weight"):
        _, tensors, _ = converted(tmp_path, extra={name: embedding})
        assert "output.weight" not in tensors
    _, tensors, _ = converted(tmp_path, extra={"lm_head.weight": embedding * np.float32(2)})
    np.testing.assert_array_equal(tensors["output.weight"], embedding * np.float32(2))


def test_types_of_q4_0(tmp_path: Path) -> None:
    tiny = TinyGemma3(hidden=256, heads=2, head_dim=32, ffn=96)
    _, _, types = converted(tmp_path, tiny, "q4_0")
    assert types["token_embd.weight"] == "Q6_K"
    for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
        assert types[f"blk.3.{name}.weight"] == "Q4_0"
    assert {kind for name, kind in types.items() if "norm" in name} == {"F32"}


def test_slices_are_refused(tmp_path: Path) -> None:
    checkpoint = write_gemma3_checkpoint(tmp_path / "c", TINY)
    with pytest.raises(gemlet.ArgumentError, match=r"slice: MatFormer slices are Gemma 3n's, and .* is Gemma 3"):
        convert(checkpoint, tmp_path / "m.gguf", "f32", slice=0.5)
    with pytest.raises(gemlet.ArgumentError, match="transpose_down: Gemma 3 has no sparse layers"):
        convert(checkpoint, tmp_path / "m.gguf", "f32", transpose_down=True)
    assert not (tmp_path / "m.gguf").exists()


def test_tensors_that_do_not_fit_are_listed(tmp_path: Path) -> None:
    checkpoint = write_gemma3_checkpoint(
        tmp_path / "c",
        dataclasses.replace(TINY, layers="sFssF"),
        config=TINY.config(),
        extra={"model.layers.0.self_attn.v_norm.weight": np.ones(10, np.float32)},
    )
    with pytest.raises(ConvertError) as caught:
        convert(checkpoint, tmp_path / "m.gguf", "f32")
    assert "extra: model.layers.0.self_attn.v_norm.weight [10]" in str(caught.value)
    assert "missing: layers.5.mlp.up_proj.weight [58, 36]" in str(caught.value)


def settings(checkpoint: Path, **more: Any) -> None:
    path = checkpoint / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **more}))


PICTURE = {"content": "<image_soft_token>", "special": True}


def test_the_picture_token_of_a_text_model_has_no_row(tmp_path: Path) -> None:
    """Text models come with the multimodal tokenizer, whose last token lies just behind their rows."""
    checkpoint = write_gemma3_checkpoint(tmp_path / "c", TINY)
    settings(checkpoint, added_tokens_decoder={str(TINY.vocab): PICTURE})
    (checkpoint / "added_tokens.json").write_text(json.dumps({"<image_soft_token>": TINY.vocab}))
    fields, _, _ = read(convert(checkpoint, tmp_path / "m.gguf", "f32").path)
    assert len(fields["tokenizer.ggml.tokens"]) == TINY.vocab
    assert "<image_soft_token>" not in fields["tokenizer.ggml.tokens"]


@pytest.mark.parametrize("pieces", [-1, 0, 1])
def test_one_piece_fewer_as_many_or_one_more_than_rows(tmp_path: Path, pieces: int) -> None:
    """Published tokenizers have 262144 or 262145 pieces, embeddings 262144 or 262208 rows."""
    checkpoint = write_gemma3_checkpoint(tmp_path / "c", TINY)
    listed = tiny_pieces()
    filler = [Piece(f"filler{i}", -500.0 - i) for i in range(TINY.vocab - len(listed) - 1 + min(pieces, 0) + 1)]
    tail = [Piece("<image_soft_token>", 0.0, PieceKind.CONTROL)] if pieces == 1 else []
    (checkpoint / "tokenizer.model").write_bytes(tiny_tokenizer([*listed, *filler, *tail]).serialize())
    fields, _, _ = read(convert(checkpoint, tmp_path / "m.gguf", "f32").path)
    tokens = fields["tokenizer.ggml.tokens"]
    assert len(tokens) == TINY.vocab
    assert (tokens[-1] == f"[PAD{TINY.vocab - 1}]") == (pieces == -1)


def test_pieces_of_text_without_a_row_are_an_error(tmp_path: Path) -> None:
    checkpoint = write_gemma3_checkpoint(tmp_path / "c", TINY)
    filler = [Piece(f"filler{i}", -500.0 - i) for i in range(TINY.vocab)]
    (checkpoint / "tokenizer.model").write_bytes(tiny_tokenizer([*tiny_pieces(), *filler]).serialize())
    with pytest.raises(ConvertError, match="the model only 299 rows"):
        convert(checkpoint, tmp_path / "m.gguf", "f32")
    checkpoint = write_gemma3_checkpoint(tmp_path / "c", TINY)
    settings(checkpoint, added_tokens_decoder={str(TINY.vocab): {"content": "<mine>", "special": False}})
    with pytest.raises(ConvertError, match="'<mine>' has id 299, the model has 299 rows"):
        convert(checkpoint, tmp_path / "m.gguf", "f32")
