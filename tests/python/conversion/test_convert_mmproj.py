"""Conversion of the encoders: names, values, types and keys of the mmproj file, and what the core computes with it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import gemlet
import gguf
import numpy as np
import pytest
from gemlet import _core
from gemlet.conversion import ConvertError, convert, convert_mmproj, writer
from gemlet.conversion.encoders.taken import Taken
from gemlet.conversion.encoders.vision_mobilenet_v5 import PUBLISHED, Config, find_blocks, take
from numpy.typing import NDArray

import tiny_audio
import tiny_vision
from conftest import Cli
from media_inputs import see
from tiny import Array, write_checkpoint
from tiny_audio import TinyAudio
from tiny_encoders import AUDIO, ENCODED, TEXT, VISION, checkpoint, encoder_weights
from tiny_vision import TinyVision

# Widths of whole blocks of 32, so that everything that may be quantised is.
WIDE = TinyVision(
    stages=(
        ("er_r1_k3_s2_e4_c32",),
        ("uir_r1_a3_k5_s2_e2_c32",),
        ("uir_r1_a5_k5_s2_e2_c64", "mqa_r1_k3_h2_v2_s1_d32_c64", "uir_r1_a0_k0_s1_e1_c64"),
        ("uir_r1_a5_k5_s2_e2_c64", "mqa_r1_k3_h2_s1_d32_c64"),
    ),
    stem=32,
    text_hidden=TEXT.hidden,
)
Weights = dict[str, NDArray[Any]]


def read(path: Path) -> tuple[dict[str, Any], dict[str, gguf.ReaderTensor]]:
    reader = gguf.GGUFReader(path)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    assert len(tensors) == len(reader.tensors)
    return {name: field.contents() for name, field in reader.fields.items()}, tensors


def picture() -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (90, 130, 3), np.uint8)


def heard(encoders: _core.Encoders) -> Array:
    stream = encoders.sound()
    stream.feed(np.random.default_rng(2).normal(0, 0.1, 20000).astype(np.float32))
    stream.finish()
    return stream.rows()


@dataclasses.dataclass(frozen=True)
class Rounded:
    """Weights of a tiny encoder as a checkpoint of another type gives them."""

    tiny: Any
    dtype: str

    def weights(self) -> dict[str, Array]:
        return {name: self._decode(ENCODED[self.dtype](value)) for name, value in self.tiny.weights().items()}

    def _decode(self, values: NDArray[Any]) -> Array:
        if self.dtype == "BF16":
            return (values.astype(np.uint32) << 16).view(np.float32)
        return values.astype(np.float32)


@pytest.mark.parametrize("dtype", ENCODED)
@pytest.mark.parametrize("prefix", ["model.", ""])
def test_the_file_gives_the_bits_of_the_tests_own_writer(
    tmp_path: Path, dtype: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both towers in one file, from a checkpoint in two shards."""
    source = checkpoint(tmp_path / "checkpoint", encoder_weights(), prefix=prefix, dtype=dtype, shards=2)
    done = convert_mmproj(source, tmp_path / "mmproj.gguf", "f32")
    assert done.encoders == ("vision", "audio") and set(done.types) == {"F32"}
    encoders = _core.Encoders.load(tmp_path / "mmproj.gguf", 1)
    assert encoders.sees and encoders.hears and encoders.hidden_size == TEXT.hidden
    vision, audio = Rounded(VISION, dtype).weights(), Rounded(AUDIO, dtype).weights()
    monkeypatch.setattr(TinyVision, "weights", lambda self: vision)
    monkeypatch.setattr(TinyAudio, "weights", lambda self: audio)
    seen = _core.Encoders.load(VISION.write(tmp_path / "vision.gguf"), 1)
    np.testing.assert_array_equal(see(encoders, picture(), 256), see(seen, picture(), 256))
    np.testing.assert_array_equal(heard(encoders), heard(_core.Encoders.load(AUDIO.write(tmp_path / "audio.gguf"), 1)))


def test_every_tensor_arrives_under_a_name_of_its_own(tmp_path: Path) -> None:
    convert_mmproj(checkpoint(tmp_path / "checkpoint", encoder_weights()), tmp_path / "mmproj.gguf", "f32")
    _, tensors = read(tmp_path / "mmproj.gguf")
    expected = {tiny_vision.gguf_name(name): value for name, value in VISION.weights().items()}
    expected |= {tiny_audio.gguf_name(name): value for name, value in AUDIO.weights().items()}
    assert len(expected) == len(VISION.weights()) + len(AUDIO.weights())
    assert tensors.keys() == expected.keys()
    for name, value in expected.items():
        shape = tuple(tensors[name].shape[::-1].tolist())
        as_channels = name.endswith((".gamma", "conv.bias"))
        assert shape == ((1, *value.shape, 1, 1) if as_channels else value.shape), name
        np.testing.assert_array_equal(tensors[name].data.reshape(value.shape), value)


def test_keys(tmp_path: Path) -> None:
    convert_mmproj(checkpoint(tmp_path / "gemma-tiny", encoder_weights()), tmp_path / "mmproj.gguf")
    keys, _ = read(tmp_path / "mmproj.gguf")
    ours = {name: value for name, value in keys.items() if not name.startswith("GGUF.")}
    for name, value in ours.items():
        ours[name] = pytest.approx(value) if isinstance(value, float) else value
    assert ours == {
        "general.architecture": "clip",
        "general.type": "mmproj",
        "general.name": "gemma-tiny",
        "general.file_type": int(gguf.LlamaFileType.MOSTLY_F16),
        "general.quantization_version": gguf.GGML_QUANT_VERSION,
        "clip.has_vision_encoder": True,
        "clip.vision.projector_type": "gemma3nv",
        "clip.vision.projection_dim": 36,
        "clip.vision.image_size": 768,
        "clip.vision.patch_size": 3,
        "clip.vision.embedding_length": 2048,
        "clip.vision.feed_forward_length": 8192,
        "clip.vision.block_count": 128,
        "clip.vision.attention.head_count": 8,
        "clip.vision.attention.layer_norm_epsilon": pytest.approx(1e-6),
        "clip.vision.image_mean": [0.0, 0.0, 0.0],
        "clip.vision.image_std": [1.0, 1.0, 1.0],
        "clip.has_audio_encoder": True,
        "clip.audio.projector_type": "gemma3na",
        "clip.audio.projection_dim": 36,
        "clip.audio.embedding_length": 64,
        "clip.audio.feed_forward_length": 256,
        "clip.audio.block_count": 3,
        "clip.audio.attention.head_count": 4,
        "clip.audio.num_mel_bins": 32,
        "clip.audio.attention.layer_norm_epsilon": pytest.approx(1e-6),
    }


def test_keys_of_other_sizes(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "tiny", encoder_weights(), config={"audio_soft_tokens_per_image": 0})
    settings = source / "preprocessor_config.json"
    settings.write_text('{"size": {"height": 256, "width": 256}}')
    convert_mmproj(source, tmp_path / "mmproj.gguf")
    keys, _ = read(tmp_path / "mmproj.gguf")
    assert keys["clip.vision.image_size"] == 256
    assert keys["clip.vision.patch_size"] == 1
    assert keys["clip.audio.filled_soft_tokens"] == 0


@pytest.mark.parametrize("size", ["{}", '{"height": 256}', '{"height": 256, "width": 512}', "null", "[[]]"])
def test_a_size_of_pictures_that_the_encoder_does_not_take_is_refused(tmp_path: Path, size: str) -> None:
    source = checkpoint(tmp_path / "tiny", encoder_weights())
    (source / "preprocessor_config.json").write_text(f'{{"size": {size}}}')
    with pytest.raises(ConvertError, match=r"preprocessor_config\.json: size: expected a square of 256, 512 or 768"):
        convert_mmproj(source, tmp_path / "mmproj.gguf")


def test_a_number_of_filled_soft_tokens_that_is_none_is_refused(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "tiny", encoder_weights(), config={"audio_soft_tokens_per_image": -1})
    with pytest.raises(ConvertError, match="audio_soft_tokens_per_image: expected a whole number from 0"):
        convert_mmproj(source, tmp_path / "mmproj.gguf")


@pytest.mark.parametrize(
    ("quant", "layer", "glue", "table", "kernel"),
    [
        ("f32", "F32", "F32", "F32", "F32"),
        ("f16", "F16", "F16", "F16", "F16"),
        ("bf16", "BF16", "BF16", "BF16", "F32"),
        ("q8_0", "Q8_0", "Q8_0", "F16", "F16"),
        ("q4_0", "Q4_0", "Q8_0", "F16", "F16"),
    ],
)
def test_types_and_shapes(tmp_path: Path, quant: str, layer: str, glue: str, table: str, kernel: str) -> None:
    source = checkpoint(tmp_path / "checkpoint", encoder_weights(WIDE), vision=WIDE)
    whole = convert_mmproj(source, tmp_path / "f32.gguf", "f32")
    done = convert_mmproj(source, tmp_path / "mmproj.gguf", quant)
    assert sum(done.types.values()) == sum(whole.types.values())
    _, tensors = read(tmp_path / "mmproj.gguf")
    wanted = {
        "v.blk.0.0.conv_exp.weight": (kernel, [128, 32, 3, 3]),
        "v.blk.0.0.conv_pwl.weight": (layer, [32, 128, 1, 1]),
        "v.blk.1.0.dw_start.conv.weight": (kernel, [32, 1, 3, 3]),
        "v.blk.2.0.pw_exp.conv.weight": (layer, [64, 32, 1, 1]),
        "v.blk.2.1.attn.key.down_conv.weight": (kernel, [64, 1, 3, 3]),
        "v.blk.2.1.attn.query.proj.weight": (glue, [64, 64, 1, 1]),
        "v.blk.3.1.attn.output.proj.weight": (glue, [64, 64, 1, 1]),
        "v.msfa.ffn.pw_proj.conv.weight": (layer, [2048, 256, 1, 1]),
        "v.conv_stem.conv.weight": ("F32", [32, 3, 3, 3]),
        "v.conv_stem.conv.bias": ("F32", [1, 32, 1, 1]),
        "v.blk.2.0.layer_scale.gamma": ("F32", [1, 64, 1, 1]),
        "v.blk.2.1.norm.weight": ("F32", [64]),
        "mm.embedding.weight": (table, [128, 2048]),
        "mm.input_projection.weight": (glue, [36, 2048]),
        "a.conv1d.1.weight": ("F32", [8, 16, 3, 3]),
        "a.pre_encode.out.weight": (glue, [64, 64]),
        "a.blk.0.ffn_up_1.weight": (layer, [256, 64]),
        "a.blk.0.attn_q.weight": (layer, [64, 64]),
        "a.blk.0.linear_pos.weight": (glue, [64, 64]),
        "a.blk.0.conv_dw.weight": ("F32", [64, 1, 5]),
        "a.blk.0.per_dim_scale.weight": ("F32", [16]),
    }
    for name, (kind, shape) in wanted.items():
        found = tensors[name]
        if kind.startswith("Q"):  # in blocks there is no room for axes of length 1
            shape = shape[:2]
        assert (found.tensor_type.name, found.shape[::-1].tolist()) == (kind, shape), name
    whole_rows, rows = (
        see(_core.Encoders.load(tmp_path / name, 1), picture(), 256) for name in ("f32.gguf", "mmproj.gguf")
    )
    cosine = (whole_rows * rows).sum(-1) / np.sqrt((whole_rows**2).sum(-1) * (rows**2).sum(-1))
    assert cosine.min() > {"f32": 0.9999999, "f16": 0.9999, "bf16": 0.999, "q8_0": 0.99, "q4_0": 0.7}[quant]


def test_quantised_values_are_those_of_the_gguf_package(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "checkpoint", encoder_weights(WIDE), vision=WIDE)
    convert_mmproj(source, tmp_path / "mmproj.gguf", "q8_0")
    _, tensors = read(tmp_path / "mmproj.gguf")
    weights = WIDE.weights()
    for part in ("blocks.2.0.pw_exp.conv.weight", "blocks.3.1.attn.value.proj.weight"):
        expected = gguf.quants.quantize(weights[part][:, :, 0, 0], gguf.GGMLQuantizationType.Q8_0)
        np.testing.assert_array_equal(tensors[tiny_vision.gguf_name(part)].data, expected)


def test_rows_that_are_not_whole_blocks_stay_convolutions_in_f16(tmp_path: Path) -> None:
    convert_mmproj(checkpoint(tmp_path / "checkpoint", encoder_weights()), tmp_path / "mmproj.gguf", "q4_0")
    _, tensors = read(tmp_path / "mmproj.gguf")
    found = tensors["v.blk.1.1.pw_exp.conv.weight"]
    assert (found.tensor_type.name, found.shape[::-1].tolist()) == ("F16", [160, 40, 1, 1])


def test_slabs_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = checkpoint(tmp_path / "checkpoint", encoder_weights())
    progress: list[tuple[int, int]] = []
    done = convert_mmproj(source, tmp_path / "whole.gguf", "q8_0")
    monkeypatch.setattr(writer, "_SLAB_WEIGHTS", 100)
    convert_mmproj(source, tmp_path / "slabs.gguf", "q8_0", lambda *at: progress.append(at), threads=2)
    assert (tmp_path / "whole.gguf").read_bytes() == (tmp_path / "slabs.gguf").read_bytes()
    assert progress == sorted(progress) and progress[-1][0] == progress[-1][1] <= done.bytes


def test_an_encoder_without_tensors_is_left_out(tmp_path: Path) -> None:
    done = convert_mmproj(checkpoint(tmp_path / "seeing", encoder_weights(audio=None)), tmp_path / "vision.gguf")
    encoders = _core.Encoders.load(tmp_path / "vision.gguf")
    assert (done.encoders, encoders.sees, encoders.hears) == (("vision",), True, False)
    done = convert_mmproj(checkpoint(tmp_path / "hearing", encoder_weights(vision=None)), tmp_path / "audio.gguf")
    encoders = _core.Encoders.load(tmp_path / "audio.gguf")
    assert (done.encoders, encoders.sees, encoders.hears) == (("audio",), False, True)
    assert "clip.has_vision_encoder" not in read(tmp_path / "audio.gguf")[0]


def test_the_oldest_checkpoints_have_no_bias_in_the_stem(tmp_path: Path) -> None:
    weights = encoder_weights(audio=None)
    bias = weights.pop("vision_tower.timm_model.conv_stem.conv.bias")
    convert_mmproj(checkpoint(tmp_path / "old", weights), tmp_path / "old.gguf")
    weights["vision_tower.timm_model.conv_stem.conv.bias"] = np.zeros_like(bias)
    convert_mmproj(checkpoint(tmp_path / "old_too", weights, config={"_name_or_path": "old"}), tmp_path / "new.gguf")
    assert (tmp_path / "old.gguf").read_bytes() == (tmp_path / "new.gguf").read_bytes()


def test_the_published_tower_has_548_tensors() -> None:
    taken = Taken({})
    take(Config(2048, 128, True, 768), 2048, taken)
    assert len(taken.problems) == 548 - 1 + 4  # the bias of the stem may be missing
    names = {problem.split()[1] for problem in taken.problems}
    assert len(names) == 551 and find_blocks(names) == PUBLISHED


def refused(source: Path, out: Path, quant: str = "f32") -> str:
    out.mkdir()
    (out / "mmproj.gguf").write_text("old")
    with pytest.raises(ConvertError) as caught:
        convert_mmproj(source, out / "mmproj.gguf", quant)
    assert [(path.name, path.read_text()) for path in out.iterdir()] == [("mmproj.gguf", "old")]
    return str(caught.value)


def test_all_unfitting_tensors_are_listed_at_once(tmp_path: Path) -> None:
    weights: Weights = dict(encoder_weights())
    tower = "vision_tower.timm_model."
    del weights[f"{tower}blocks.2.0.pw_exp.conv.weight"], weights["audio_tower.conformer.1.norm.weight"]
    del weights["embed_audio.embedding_projection.weight"]
    weights[f"{tower}blocks.1.0.layer_scale.gamma"] = np.ones(41, np.float32)
    weights["embed_vision.embedding.weight"] = np.zeros((128, 2048), np.int32)
    weights["audio_tower.conformer.3.norm.weight"] = np.ones(64, np.float32)
    weights[f"{tower}blocks.0.7.bn1.weight"] = np.ones(64, np.float32)
    message = refused(checkpoint(tmp_path / "checkpoint", weights), tmp_path / "out")
    assert message.startswith("7 tensors do not fit the configuration")
    for line in (
        "missing: vision_tower.timm_model.blocks.2.0.pw_exp.conv.weight [n, 40, 1, 1]",
        "missing: audio_tower.conformer.1.norm.weight [64]",
        "missing: embed_audio.embedding_projection.weight [36, 64]",
        "misshapen: model.vision_tower.timm_model.blocks.1.0.layer_scale.gamma is [41], expected [40]",
        "unreadable: model.embed_vision.embedding.weight has type I32, expected F32, F16 or BF16",
        "extra: model.audio_tower.conformer.3.norm.weight [64]",
        "extra: model.vision_tower.timm_model.blocks.0.7.bn1.weight [64]",
    ):
        assert line in message


def test_any_missing_tensor_is_named(tmp_path: Path) -> None:
    """The file's header calls one tensor after the other by another name."""
    weights = encoder_weights()
    source = checkpoint(tmp_path / "checkpoint", weights) / "model.safetensors"
    whole = source.read_bytes()
    for name in weights.keys() - {"vision_tower.timm_model.conv_stem.conv.bias"}:
        other = f'"model.{name}"'.replace("_tower.", "_tower_").replace("embed_", "embed-")
        with source.open("r+b") as file:
            file.seek(whole.index(f'"model.{name}"'.encode()))
            file.write(other.encode())
        with pytest.raises(ConvertError) as caught:
            convert_mmproj(source.parent, tmp_path / "mmproj.gguf")
        assert str(caught.value).startswith(f"1 tensors do not fit the configuration:\n  - missing: {name} ["), name
        with source.open("r+b") as file:
            file.write(whole[: len(whole) - 8])
    assert not (tmp_path / "mmproj.gguf").exists()


def test_the_published_tower_is_expected_where_no_other_is_named(tmp_path: Path) -> None:
    config = {"vision_config": {**VISION.config(), "model_args": None}}
    message = refused(checkpoint(tmp_path / "checkpoint", encoder_weights(), config=config), tmp_path / "out")
    assert "missing: vision_tower.timm_model.blocks.0.2.bn1.weight [n]" in message


@pytest.mark.parametrize(
    ("part", "field", "value", "message"),
    [
        ("vision_config", "architecture", "resnet50", 'vision_config.architecture: expected "mobilenetv5_300m_enc"'),
        ("vision_config", "hidden_size", None, "vision_config.hidden_size: expected a whole number"),
        ("vision_config", "rms_norm_eps", 1e-5, "vision_config.rms_norm_eps: expected 1e-06"),
        ("audio_config", "conf_attention_chunk_size", 13, "audio_config.conf_attention_chunk_size: expected 12"),
        ("audio_config", "conf_num_attention_heads", 5, "expected a divisor of hidden_size (64)"),
        ("audio_config", "sscp_conv_channel_size", [16], "expected a list of 2 whole numbers above 0"),
        ("audio_config", "sscp_conv_stride_size", [[1, 2], [2, 2]], "expected [[2, 2], [2, 2]]"),
        ("audio_config", "conf_num_hidden_layers", 2000, "expected a whole number from 1 to 1024"),
    ],
)
def test_bad_fields(tmp_path: Path, part: str, field: str, value: Any, message: str) -> None:
    parts = {"vision_config": VISION.config(), "audio_config": AUDIO.config()}
    config = {part: {**parts[part], field: value}}
    assert message in refused(checkpoint(tmp_path / "c", encoder_weights(), config=config), tmp_path / "out")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"vision_config": [1]}, "vision_config: expected a JSON object, found list"),
        ({"vision_config": None}, "vision_config.hidden_size: expected a whole number"),
        (
            {"vision_soft_tokens_per_image": 64},
            "vision_soft_tokens_per_image: expected 256 (gemlet runs nothing else), found 64",
        ),
    ],
)
def test_bad_configurations(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    assert message in refused(checkpoint(tmp_path / "c", encoder_weights(), config=config), tmp_path / "out")


def test_checkpoints_without_encoders(tmp_path: Path) -> None:
    assert "the checkpoint is text only" in refused(write_checkpoint(tmp_path / "text", TEXT), tmp_path / "out")


def test_the_same_tensor_under_two_names(tmp_path: Path) -> None:
    weights = encoder_weights(audio=None)
    weights["model.embed_vision.embedding.weight"] = weights["embed_vision.embedding.weight"]
    message = refused(checkpoint(tmp_path / "c", weights, prefix=""), tmp_path / "out")
    assert "model.embed_vision.embedding.weight stands for the same tensor as embed_vision.embedding.weight" in message


def test_a_tower_that_the_core_refuses(tmp_path: Path) -> None:
    """What only the core checks: the tower must have four stages."""
    vision = dataclasses.replace(VISION, stages=VISION.stages[:3])
    source = checkpoint(tmp_path / "c", encoder_weights(vision), vision=vision)
    assert "cannot be loaded: the vision encoder has 3 stages, expected 4" in refused(source, tmp_path / "out")


def test_weights_that_are_no_numbers(tmp_path: Path) -> None:
    weights = encoder_weights()
    weights["audio_tower.conformer.0.attention.post.weight"][3, 4] = np.nan
    message = refused(checkpoint(tmp_path / "c", weights), tmp_path / "out", "q8_0")
    assert "tensor model.audio_tower.conformer.0.attention.post.weight" in message


def test_bad_arguments(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "c", encoder_weights())
    assert "media_quant is 'q5_0', expected one of f32, f16, bf16, q8_0, q4_0" in refused(
        source, tmp_path / "o", "q5_0"
    )
    with pytest.raises(gemlet.ArgumentError, match="threads is 999, expected 0 to 256"):
        gemlet.convert_mmproj(source, tmp_path / "m.gguf", threads=999)


def test_the_text_of_the_same_checkpoint_is_a_file_of_its_own(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "c", encoder_weights())
    done = convert(source, tmp_path / "text.gguf", "f32")
    assert len(done.left_out) == len(encoder_weights()) and done.encoders == ()
    assert gemlet.load(tmp_path / "text.gguf").info.architecture == "gemma3n"


def test_the_command(cli: Cli, tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "c", encoder_weights())
    expected = convert_mmproj(source, tmp_path / "expected.gguf", "q8_0")
    done = cli("convert", source, "-o", tmp_path / "mmproj.gguf", "--mmproj", "--media-quant", "q8_0")
    assert done.returncode == 0 and done.stdout.rstrip().endswith(", encoders: vision and audio")
    assert (tmp_path / "mmproj.gguf").read_bytes() == expected.path.read_bytes()
    done = cli("convert", source, "-o", tmp_path / "mmproj.gguf", "--mmproj", "--json")
    assert json.loads(done.stdout)["encoders"] == ["vision", "audio"]
    assert read(tmp_path / "mmproj.gguf")[0]["general.file_type"] == int(gguf.LlamaFileType.MOSTLY_F16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--media-quant", "q8_0"], "--media-quant is for the encoders"),
        (["--mmproj", "--quant", "q8_0"], "--quant is for the text model"),
        (["--mmproj", "--head", "q6_k"], "--head is for the text model"),
        (["--mmproj", "--slice", "e2b"], "--slice is for the text model"),
        (["--mmproj", "--transpose-down"], "--transpose-down is for the text model"),
    ],
)
def test_options_of_the_other_part(cli: Cli, tmp_path: Path, options: list[str], message: str) -> None:
    done = cli("convert", tmp_path, "-o", tmp_path / "x.gguf", *options)
    assert done.returncode != 0 and message in done.stderr and list(tmp_path.iterdir()) == []
