"""What the converter writes: names, values, types, metadata, and the layouts it reads."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gemlet
import gguf
import numpy as np
import pytest
from gemlet.conversion import HEADS, PRESETS, ConvertError, convert, writer
from gemlet.conversion.architectures.gemma3n import read_config
from gemlet.conversion.config import ConfigFile
from gemlet.conversion.recipes import default_quant
from gemlet.conversion.sentencepiece import Piece, PieceKind, SentencePieceModel
from numpy.typing import NDArray

from tiny import Tiny, bfloat16_bits, tiny_pieces, tiny_tokenizer, write_checkpoint

Array = NDArray[np.float32]


def read(path: Path) -> tuple[dict[str, Any], dict[str, Array], dict[str, str]]:
    """Metadata, tensors as float32 (outermost first) and their types, by the gguf package's own reader."""
    reader = gguf.GGUFReader(path)
    tensors = {
        tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(tensor.shape[::-1].tolist())
        for tensor in reader.tensors
    }
    types = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    return {name: field.contents() for name, field in reader.fields.items()}, tensors, types


def converted(folder: Path, tiny: Tiny, quant: str = "f32", **layout: Any) -> Path:
    checkpoint = write_checkpoint(folder / "checkpoint", tiny, **layout)
    convert(checkpoint, folder / "model.gguf", quant)
    return folder / "model.gguf"


def test_every_weight_arrives_in_its_place(tmp_path: Path) -> None:
    tiny = Tiny()
    weights = tiny.weights()
    _, tensors, types = read(converted(tmp_path, tiny))
    assert set(types.values()) == {"F32"}
    layer = {
        "attn_norm": "input_layernorm.weight",
        "attn_q": "self_attn.q_proj.weight",
        "attn_q_norm": "self_attn.q_norm.weight",
        "attn_output": "self_attn.o_proj.weight",
        "post_attention_norm": "post_attention_layernorm.weight",
        "laurel_l": "laurel.linear_left.weight",
        "laurel_r": "laurel.linear_right.weight",
        "laurel_post_norm": "laurel.post_laurel_norm.weight",
        "ffn_norm": "pre_feedforward_layernorm.weight",
        "ffn_gate": "mlp.gate_proj.weight",
        "ffn_up": "mlp.up_proj.weight",
        "ffn_down": "mlp.down_proj.weight",
        "post_ffw_norm": "post_feedforward_layernorm.weight",
        "altup_router_norm": "altup.router_norm.weight",
        "altup_router": "altup.modality_router.weight",
        "altup_predict_coef": "altup.prediction_coefs.weight",
        "altup_correct_coef": "altup.correction_coefs.weight",
        "altup_correct_scale": "altup.correct_output_scale",
        "inp_gate": "per_layer_input_gate.weight",
        "proj": "per_layer_projection.weight",
        "post_norm": "post_per_layer_input_norm.weight",
    }
    own = {
        "attn_k": "self_attn.k_proj.weight",
        "attn_v": "self_attn.v_proj.weight",
        "attn_k_norm": "self_attn.k_norm.weight",
    }
    expected = {
        "token_embd.weight": weights["embed_tokens.weight"],
        "per_layer_model_proj.weight": weights["per_layer_model_projection.weight"],
        "per_layer_proj_norm.weight": weights["per_layer_projection_norm.weight"],
        "output_norm.weight": weights["norm.weight"],
        "altup_proj.weight": np.stack([weights[f"altup_projections.{i}.weight"] for i in range(3)]),
        "altup_unembd_proj.weight": np.stack([weights[f"altup_unembed_projections.{i}.weight"] for i in range(3)]),
    }
    for i in range(len(tiny.layers)):
        for ours, theirs in (layer | own if i < tiny.own_kv else layer).items():
            expected[f"blk.{i}.{ours}.weight"] = weights[f"layers.{i}.{theirs}"]
    table = tensors.pop("per_layer_token_embd.weight")
    assert tensors.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(tensors[name], values, err_msg=name)
    np.testing.assert_array_equal(table[: tiny.ple_vocab], weights["embed_tokens_per_layer.weight"])


@pytest.mark.parametrize("quant", ["f32", "q4_0"])
def test_rows_beyond_the_per_layer_table_are_copies_of_row_0(tmp_path: Path, quant: str) -> None:
    tiny = Tiny(ple=32)
    _, tensors, _ = read(converted(tmp_path, tiny, quant))
    table = tensors["per_layer_token_embd.weight"]
    assert table.shape == (tiny.vocab, 5 * 32)
    assert np.abs(table[0]).max() > 0
    np.testing.assert_array_equal(table[tiny.ple_vocab :], np.broadcast_to(table[0], (6, 160)))


def test_metadata(tmp_path: Path) -> None:
    tiny = Tiny(ffn=(52, 60, 52, 44, 52), active=1)
    fields, _, _ = read(converted(tmp_path, tiny))
    expected = {
        "general.architecture": "gemma3n",
        "general.file_type": 0,
        "gemma3n.block_count": 5,
        "gemma3n.context_length": 512,
        "gemma3n.embedding_length": 36,
        "gemma3n.embedding_length_per_layer_input": 7,
        "gemma3n.feed_forward_length": [52, 60, 52, 44, 52],
        "gemma3n.attention.head_count": 3,
        "gemma3n.attention.head_count_kv": 1,
        "gemma3n.attention.key_length": 10,
        "gemma3n.attention.value_length": 10,
        "gemma3n.attention.layer_norm_rms_epsilon": pytest.approx(1e-5),
        "gemma3n.attention.sliding_window": 6,
        "gemma3n.attention.sliding_window_pattern": [True, False, True, True, False],
        "gemma3n.attention.shared_kv_layers": 2,
        "gemma3n.rope.freq_base": 1e6,
        "gemma3n.rope.freq_base_swa": 1e4,
        "gemma3n.final_logit_softcapping": 30.0,
        "gemma3n.altup.active_idx": 1,
        "gemma3n.altup.num_inputs": 4,
        "gemma3n.activation_sparsity_scale": [
            pytest.approx(1.6448536, abs=3e-7),
            pytest.approx(0.8416212, abs=3e-7),
            -math.inf,
            0.0,
            -math.inf,
        ],
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.ggml.eot_token_id": 5,
        "tokenizer.ggml.unknown_token_id": 3,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_space_prefix": False,
    }
    assert {name: fields.get(name) for name in expected} == expected
    assert "<start_of_turn>" in fields["tokenizer.chat_template"]


def test_vocabulary(tmp_path: Path) -> None:
    fields, _, _ = read(converted(tmp_path, Tiny()))
    tokens, types = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    assert len(tokens) == len(types) == 299
    assert tokens[:8] == ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>", "\n\n", "  "]
    assert types[:9] == [3, 3, 3, 2, 3, 3, 4, 4, 6]
    assert tokens[289:291] == ["[PAD289]", "[PAD290]"] and types[289:] == [5] * 10
    assert fields["tokenizer.ggml.scores"][264:276] == [-float(i) for i in range(12)]


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
def test_published_layout_in_shards(tmp_path: Path, dtype: str) -> None:
    tiny = Tiny()
    prefix = "model.language_model."
    extra = {f"{prefix}{name}": value for name, value in tiny.unused_keys_and_values().items()}
    extra |= {
        "model.vision_tower.timm_model.conv_stem.conv.weight": np.zeros((3, 2), np.float32),
        "model.audio_tower.conformer.0.norm.weight": np.zeros(3, np.float32),
        "model.embed_vision.embedding.weight": np.zeros((3, 2), np.float32),
        "model.embed_audio.embedding.weight": np.zeros((3, 2), np.float32),
    }
    checkpoint = write_checkpoint(tmp_path / "c", tiny, prefix=prefix, dtype=dtype, shards=3, extra=extra)
    outcome = convert(checkpoint, tmp_path / "m.gguf", "f32")
    assert len(outcome.left_out) == 4
    _, tensors, _ = read(tmp_path / "m.gguf")
    given = tiny.weights()["layers.1.mlp.up_proj.weight"]
    rounded = {
        "F32": given,
        "F16": given.astype(np.float16).astype(np.float32),
        "BF16": (bfloat16_bits(given).astype(np.uint32) << 16).view(np.float32),
    }[dtype]
    np.testing.assert_array_equal(tensors["blk.1.ffn_up.weight"], rounded)
    for name in ("attn_k", "attn_v", "attn_k_norm"):
        assert f"blk.4.{name}.weight" in tensors


def test_shared_layers_get_zero_keys_where_llama_cpp_could_run_the_file(tmp_path: Path) -> None:
    tiny = Tiny(layers="ssssF" * 6, shared=10, sparsity=(0.95,) * 10 + (0.0,) * 20, hidden=12, ffn=(20,), ple=3)
    _, tensors, _ = read(converted(tmp_path, tiny))
    for i in range(20, 30):
        assert tensors[f"blk.{i}.attn_k.weight"].shape == (10, 12)
        assert not tensors[f"blk.{i}.attn_k.weight"].any()
    _, tensors, _ = read(converted(tmp_path, Tiny()))
    assert "blk.4.attn_k.weight" not in tensors


def test_a_head_of_its_own_is_written_and_a_tied_one_is_not(tmp_path: Path) -> None:
    tiny = Tiny()
    embedding = tiny.weights()["embed_tokens.weight"]
    _, tensors, _ = read(converted(tmp_path, tiny, extra={"lm_head.weight": embedding}))
    assert "output.weight" not in tensors
    _, tensors, _ = read(converted(tmp_path, tiny, extra={"lm_head.weight": embedding * np.float32(2)}))
    np.testing.assert_array_equal(tensors["output.weight"], embedding * np.float32(2))


def test_no_correct_scale_becomes_ones(tmp_path: Path) -> None:
    _, tensors, _ = read(converted(tmp_path, Tiny(correct_scale=False)))
    assert (tensors["blk.3.altup_correct_scale.weight"] == 1).all()


QUANTISABLE = Tiny(hidden=256, heads=2, head_dim=32, ffn=(96,), ple=64, laurel=32, vocab=299)


@pytest.mark.parametrize(
    ("quant", "layer", "head", "table", "glue"),
    [
        ("f16", "F16", "F16", "F16", "F16"),
        ("bf16", "BF16", "BF16", "BF16", "BF16"),
        ("q8_0", "Q8_0", "Q8_0", "Q8_0", "Q8_0"),
        ("q4_0", "Q4_0", "Q6_K", "Q4_0", "Q8_0"),
    ],
)
def test_types(tmp_path: Path, quant: str, layer: str, head: str, table: str, glue: str) -> None:
    path = converted(tmp_path, QUANTISABLE, quant)
    _, _, types = read(path)
    assert types["token_embd.weight"] == head
    assert types["per_layer_token_embd.weight"] == table
    for name in ("altup_proj", "altup_unembd_proj", "per_layer_model_proj", "blk.0.laurel_l", "blk.0.laurel_r"):
        assert types[f"{name}.weight"] == glue
    for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down", "inp_gate", "proj"):
        assert types[f"blk.2.{name}.weight"] == layer
    for name in ("attn_norm", "altup_router", "altup_predict_coef", "altup_correct_coef", "altup_correct_scale"):
        assert types[f"blk.2.{name}.weight"] == "F32"


def test_quantised_values_are_those_of_the_gguf_package(tmp_path: Path) -> None:
    weights = QUANTISABLE.weights()
    reader = gguf.GGUFReader(converted(tmp_path, QUANTISABLE, "q4_0"))
    stored = {tensor.name: tensor for tensor in reader.tensors}
    for ours, theirs, kind in (
        ("blk.1.ffn_down.weight", "layers.1.mlp.down_proj.weight", gguf.GGMLQuantizationType.Q4_0),
        ("blk.1.laurel_l.weight", "layers.1.laurel.linear_left.weight", gguf.GGMLQuantizationType.Q8_0),
    ):
        assert stored[ours].tensor_type == kind
        np.testing.assert_array_equal(stored[ours].data, gguf.quants.quantize(weights[theirs], kind))


def test_rows_that_are_not_whole_blocks_fall_back(tmp_path: Path) -> None:
    _, _, types = read(converted(tmp_path, Tiny(hidden=96, ple=7), "q4_0"))
    assert types["token_embd.weight"] == "Q8_0"  # 96 is no multiple of Q6_K's 256
    assert types["blk.0.proj.weight"] == "F16"  # 7 is no multiple of anything
    assert types["blk.0.attn_q.weight"] == "Q4_0"


@pytest.mark.parametrize("head", HEADS)
def test_another_head(tmp_path: Path, head: str) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", QUANTISABLE)
    plain, chosen = (tmp_path / name for name in ("plain.gguf", "chosen.gguf"))
    convert(checkpoint, plain, "q4_0")
    convert(checkpoint, chosen, "q4_0", head=head)
    types = [read(file)[2] for file in (plain, chosen)]
    assert types[1] == types[0] | {"token_embd.weight": head.upper()}
    with pytest.raises(ConvertError, match="head is 'q5_k', expected one of q4_0, q6_k, q8_0"):
        convert(checkpoint, tmp_path / "none.gguf", "q4_0", head="q5_k")
    assert not (tmp_path / "none.gguf").exists()


@pytest.mark.parametrize(("preset", "quant"), PRESETS.items())
def test_presets(tmp_path: Path, preset: str, quant: str) -> None:
    checkpoint = write_checkpoint(tmp_path / "c", QUANTISABLE)
    convert(checkpoint, tmp_path / "preset.gguf", preset)
    convert(checkpoint, tmp_path / "quant.gguf", quant)
    assert (tmp_path / "preset.gguf").read_bytes() == (tmp_path / "quant.gguf").read_bytes()


def test_the_default_depends_on_the_size(tmp_path: Path) -> None:
    """Gemma 3 270M keeps eight bits; Gemma 3 1B, with 999,885,952 parameters, takes four."""
    assert default_quant(268_098_176) == "q8_0" and default_quant(999_885_952) == "q4_0"
    checkpoint = write_checkpoint(tmp_path / "c", QUANTISABLE)
    convert(checkpoint, tmp_path / "default.gguf")
    convert(checkpoint, tmp_path / "q8_0.gguf", "q8_0")
    assert (tmp_path / "default.gguf").read_bytes() == (tmp_path / "q8_0.gguf").read_bytes()


def test_slabs_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large tensors are converted in pieces, whatever the number of threads."""
    checkpoint = write_checkpoint(tmp_path / "c", QUANTISABLE)
    convert(checkpoint, tmp_path / "whole.gguf", "q4_0", threads=1)
    monkeypatch.setattr(writer, "_SLAB_WEIGHTS", 1000)
    convert(checkpoint, tmp_path / "pieces.gguf", "q4_0", threads=3)
    assert (tmp_path / "whole.gguf").read_bytes() == (tmp_path / "pieces.gguf").read_bytes()


def test_progress_goes_up_to_the_whole(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    checkpoint = write_checkpoint(tmp_path / "c", Tiny())
    outcome = convert(checkpoint, tmp_path / "m.gguf", "f32", lambda done, total: calls.append((done, total)))
    done, totals = zip(*calls, strict=True)
    assert list(done) == sorted(done) and set(totals) == {done[-1]}
    assert done[-1] < outcome.bytes == (tmp_path / "m.gguf").stat().st_size


def test_special_tokens_come_from_the_settings_first(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "c", Tiny())
    (checkpoint / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "bos_token": {"content": "<start_of_turn>"},
                "add_bos_token": False,
                "added_tokens_decoder": {
                    "270": {"content": "<tool>", "special": True},
                    "295": {"content": "<far>", "special": False},
                },
                "chat_template": [{"name": "tool", "template": "T"}, {"name": "default", "template": "D"}],
            }
        )
    )
    (checkpoint / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, 270]}))
    convert(checkpoint, tmp_path / "m.gguf", "f32")
    fields, _, _ = read(tmp_path / "m.gguf")
    assert fields["tokenizer.ggml.bos_token_id"] == 4
    assert fields["tokenizer.ggml.add_bos_token"] is False
    assert fields["tokenizer.chat_template"] == "D"
    tokens, types = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    assert (tokens[270], types[270], tokens[295], types[295]) == ("<tool>", 3, "<far>", 4)
    (checkpoint / "chat_template.jinja").write_text("J")
    convert(checkpoint, tmp_path / "m.gguf", "f32")
    assert read(tmp_path / "m.gguf")[0]["tokenizer.chat_template"] == "J"


def test_all_end_tokens_that_a_checkpoint_names_end(tmp_path: Path) -> None:
    """llama.cpp reads one under each of three keys; the array of all is Ollama's."""
    checkpoint = write_checkpoint(tmp_path / "c", Tiny())
    for ids, others in (([1, 270, 5], [270]), ([271, 270, 5, 272], [271, 270, 272]), ([1, 5, 1], []), (1, [])):
        (checkpoint / "generation_config.json").write_text(json.dumps({"eos_token_id": ids}))
        path = convert(checkpoint, tmp_path / "m.gguf", "f32").path
        fields, _, _ = read(path)
        assert fields.get("tokenizer.ggml.eom_token_id") == next(iter(others), None)
        assert fields.get("tokenizer.ggml.eos_token_ids", [1, 5]) == [1, 5, *others]
        model = gemlet.load(path, threads=1)
        for end in (1, 5, *others):
            done = model.generate("the", max_tokens=4, logit_bias={end: 1000.0})
            assert (done.text, done.tokens, done.finish_reason) == ("", [], "stop")
        assert [token for token in range(299) if model.is_end(token)] == sorted([1, 5, *others])


def test_tokenizer_json_alone_gives_merges(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "c", Tiny())
    (checkpoint / "tokenizer.model").unlink()
    vocab = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "a", "b", "\u2581", "ab"]
    described = {
        "model": {
            "type": "BPE",
            "unk_token": "<unk>",
            "byte_fallback": True,
            "vocab": {text: i for i, text in enumerate(vocab)},
            "merges": [["a", "b"], "a b", ["a ", "b"]],
        },
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
        "added_tokens": [
            {"id": 2, "content": "<bos>", "special": True},
            {"id": 264, "content": "<end_of_turn>", "special": True},
        ],
    }
    (checkpoint / "tokenizer.json").write_text(json.dumps(described))
    convert(checkpoint, tmp_path / "m.gguf", "f32")
    fields, _, _ = read(tmp_path / "m.gguf")
    assert fields["tokenizer.ggml.model"] == "gemma4"
    assert fields["tokenizer.ggml.merges"] == ["a b", "a b"]  # a part with a space can never match
    assert fields["tokenizer.ggml.eot_token_id"] == 264
    types = fields["tokenizer.ggml.token_type"]
    assert [types[i] for i in (2, 3, 4, 260, 264, 265)] == [3, 2, 6, 1, 3, 5]

    described["normalizer"] = {"type": "NFC"}
    (checkpoint / "tokenizer.json").write_text(json.dumps(described))
    with pytest.raises(ConvertError, match="normalizer"):
        convert(checkpoint, tmp_path / "m.gguf", "f32")


def test_sentencepiece_model_survives_a_round_trip_and_the_library_reads_it(tmp_path: Path) -> None:
    import sentencepiece

    model = tiny_tokenizer()
    assert SentencePieceModel.parse(model.serialize()) == model
    (tmp_path / "t.model").write_bytes(model.serialize())
    library = sentencepiece.SentencePieceProcessor()
    library.Load(str(tmp_path / "t.model"))
    assert library.bos_id() == 2 and library.eos_id() == 1
    assert library.Encode("the nin abc\n\n", out_type=str) == ["the", "\u2581", "nin", "\u2581", "abc", "\n\n"]


def broken_tokenizer(change: Callable[[SentencePieceModel], None]) -> bytes:
    model = tiny_tokenizer(list(tiny_pieces()))
    change(model)
    return model.serialize()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x0a\xff\xff\xff\xff\x0f", "not a SentencePiece model"),
        (b"", "holds no pieces"),
        (broken_tokenizer(lambda m: setattr(m, "kind", 1)), "UNIGRAM"),
        (broken_tokenizer(lambda m: setattr(m, "charsmap", b"x")), "normalises"),
        (broken_tokenizer(lambda m: setattr(m, "remove_extra_whitespaces", True)), "white space"),
        (broken_tokenizer(lambda m: m.pieces.extend([Piece("x", 0.0, PieceKind.UNUSED)] * 11)), "300 tokens.* 299"),
    ],
)
def test_bad_tokenizers(tmp_path: Path, data: bytes, message: str) -> None:
    checkpoint = write_checkpoint(tmp_path / "c", Tiny())
    (checkpoint / "tokenizer.model").write_bytes(data)
    with pytest.raises(ConvertError, match=message):
        convert(checkpoint, tmp_path / "m.gguf", "f32")


def test_config_of_older_transformers(tmp_path: Path) -> None:
    """Flat rope fields, and one width for all layers."""
    checkpoint = write_checkpoint(tmp_path / "c", Tiny())
    config = json.loads((checkpoint / "config.json").read_text())
    del config["rope_parameters"]
    config |= {"rope_theta": 5e5, "rope_local_base_freq": 123.0, "rope_scaling": None, "intermediate_size": 116}
    (checkpoint / "config.json").write_text(json.dumps(config))
    read_back = read_config(ConfigFile.read(checkpoint))
    assert (read_back.rope_theta, read_back.rope_local_base_freq) == (5e5, 123.0)
    assert read_back.intermediate_size == (116,) * 5
    assert dataclasses.replace(read_back, name="x").first_shared_layer == 3
