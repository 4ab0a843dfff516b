"""Encoders of pictures and sound as exported models: tiny towers with every kind of block, in every format."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gemlet
import gguf
import numpy as np
import pytest
from gemlet import _core
from gemlet.conversion import convert
from gemlet.conversion.mmproj import convert_mmproj
from gemlet.conversion.recipes import MEDIA_RECIPES
from gemlet.conversion.sentencepiece import Piece, PieceKind
from gemlet.exported.manifest import NAME, Manifest
from gemlet.exported.media import FILES, ExportedEncoders
from gemlet.exported.onnx_encoders import OnnxEncoders
from gemlet.exporters import Export, ExportError, export
from gemlet.exporters.encoders import vision_mobilenet_v5
from gemlet.exporters.encoders.source import EncoderSource
from gemlet.exporters.graph import same
from gemlet.exporters.requantise import matches
from gemlet.media.encoding import Encoders
from numpy.typing import NDArray

from media_inputs import picture, sound
from published_templates import GEMMA_3N
from tiny import Array, Tiny, tiny_pieces, tiny_tokenizer, write_checkpoint
from tiny_audio import TinyAudio
from tiny_encoders import checkpoint, encoder_weights
from tiny_vision import TinyVision

BLOCKS = Tiny(hidden=64, heads=4, kv_heads=2, head_dim=32, ffn=(128,), ple=32, laurel=32)
VISION = TinyVision(
    stages=(
        ("er_r1_k3_s2_e4_c32", "er_r1_k3_s1_e4_c32"),
        ("uir_r1_a3_k5_s2_e6_c32", "uir_r1_a5_k0_s1_e4_c32"),
        ("uir_r1_a5_k5_s2_e6_c64", "uir_r1_a0_k0_s1_e1_c64", "mqa_r1_k3_h3_v2_s1_d32_c64", "uir_r1_a0_k0_s1_e2_c64"),
        ("uir_r1_a5_k5_s2_e4_c96", "mqa_r1_k3_h4_s1_d32_c96", "uir_r1_a0_k0_s1_e2_c96"),
    ),
    stem=32,
    width=256,
    text_hidden=BLOCKS.hidden,
)
"""Rows that are whole blocks: so that matrices are quantised where the others would fall back to F16."""
AUDIO = TinyAudio(mel=64, text_hidden=BLOCKS.hidden)
ODD: dict[str, TinyVision | TinyAudio] = {
    "vision": TinyVision(text_hidden=BLOCKS.hidden),
    "audio": TinyAudio(text_hidden=BLOCKS.hidden),
}
FORMATS = ("onnx", "tflite")
QUANTS = ("fp32", "fp16", "int8", "int4")
TOLERANCES = {"fp32": 2e-5, "fp16": 2e-5, "int8": 0.08, "int4": 0.08}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    return convert(write_checkpoint(folder / "checkpoint", BLOCKS), folder / "text.gguf", "f32").path


@pytest.fixture(scope="module")
def mmproj(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return joined(tmp_path_factory.mktemp("mmproj") / "mmproj.gguf", VISION, AUDIO)


def joined(path: Path, vision: TinyVision, audio: TinyAudio, model: Path | None = None) -> Path:
    """Both towers in one file, with a text model or without."""
    parts = [vision.write(path.with_suffix(".v")), audio.write(path.with_suffix(".a"))]
    readers = [gguf.GGUFReader(part) for part in ([model] if model else []) + parts]
    writer = gguf.GGUFWriter(path, "gemma3n" if model else "clip")
    seen: set[str] = set()
    for reader in readers:
        for name, field in reader.fields.items():
            if name.startswith("GGUF.") or name == "general.architecture" or name in seen:
                continue
            seen.add(name)
            kind, *inner = field.types
            writer.add_key_value(name, field.contents(), kind, inner[-1] if inner else None)
        for tensor in reader.tensors:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def exports(text: Path, mmproj: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Export]:
    """Exports are made once, when a test first asks."""
    folder = tmp_path_factory.mktemp("exports")
    made: dict[tuple[str, str], Export] = {}

    def get(format: str, quant: str) -> Export:
        if (format, quant) not in made:
            out = folder / f"{format}-{quant}"
            made[format, quant] = export(text, out, format, quant, context=96, prefill=(5, 16), media=mmproj)
        return made[format, quant]

    return get


def encoders_of(folder: Path) -> ExportedEncoders:
    return Manifest.read(folder).open_encoders(folder, 2)


def picture_rows(encoders: Encoders, pixels: NDArray[np.uint8], size: int) -> Array:
    return encoders.encode(pixels, size).finish().rows()


def sound_rows(encoders: Encoders, samples: Array) -> Array:
    return encoders.encode_sound(samples).finish().rows()


def difference(rows: Array, expected: Array) -> float:
    assert rows.shape == expected.shape
    return float(np.sqrt(np.mean(np.square(rows - expected))) / expected.std())


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("quant", QUANTS)
def test_every_combination_passes_its_check(exports: Callable[[str, str], Export], format: str, quant: str) -> None:
    done = exports(format, quant)
    assert {name.split()[0] for name in done.media} == {"picture", "sound"} and len(done.media) == 6
    for found in done.media.values():
        assert found.relative_difference < TOLERANCES[quant]
        assert found.least_cosine > (0.9999 if quant in ("fp32", "fp16") else 0.99)
    assert (done.media_source is None) == (quant == "fp32")
    report = json.loads((done.path / "report.json").read_text())
    assert report["media"].keys() == done.media.keys()
    assert {name for part in FILES[format].values() for name in part} <= done.files.keys()


@pytest.mark.parametrize("format", FORMATS)
def test_pictures_and_sounds_of_any_shape(exports: Callable[[str, str], Export], format: str, mmproj: Path) -> None:
    found, core = encoders_of(exports(format, "fp32").path), _core.Encoders.load(mmproj, 2)
    assert found.sees and found.hears
    for width, height, size in ((300, 200, 256), (1, 900, 512), (768, 768, 768)):
        pixels = picture(width, height)
        assert difference(picture_rows(found, pixels, size), picture_rows(core, pixels, size)) < 1e-5
    for samples in (1, 513, 641, 5000, 65537, 82000, 480000):  # 82000: more than the shorter signature holds
        assert difference(sound_rows(found, sound(samples)), sound_rows(core, sound(samples))) < 1e-5


@pytest.mark.parametrize("format", FORMATS)
def test_channels_that_are_no_blocks(format: str, text: Path, tmp_path: Path) -> None:
    odd = joined(tmp_path / "odd.gguf", TinyVision(text_hidden=64), TinyAudio(36, 1, 2, 37, (5, 7), 64))
    done = export(text, tmp_path / "out", format, "int4", context=64, prefill=(8,), media=odd)
    assert max(found.relative_difference for found in done.media.values()) < 0.08


def test_sounds_that_no_signature_holds(exports: Callable[[str, str], Export], mmproj: Path) -> None:
    """In TFLite lengths are fixed; in ONNX they are free."""
    long = sound(482000)
    with pytest.raises(gemlet.ArgumentError, match="has 189 soft tokens, expected at most 188"):
        sound_rows(encoders_of(exports("tflite", "fp32").path), long)
    rows = sound_rows(encoders_of(exports("onnx", "fp32").path), long)
    assert difference(rows, sound_rows(_core.Encoders.load(mmproj, 2), long)) < 1e-5


def test_media_that_are_none(exports: Callable[[str, str], Export]) -> None:
    found = encoders_of(exports("onnx", "fp32").path)
    with pytest.raises(gemlet.ArgumentError, match="size is 300, expected 256, 512 or 768"):
        picture_rows(found, picture(8, 8), 300)
    with pytest.raises(gemlet.ArgumentError, match="at least one sample"):
        sound_rows(found, sound(0))
    for bad in (np.nan, -np.inf, 17.0):
        samples = sound(1000)
        samples[700] = bad
        with pytest.raises(gemlet.ArgumentError, match=r"sample 700 is .*, expected a number in \[-1, 1\]"):
            sound_rows(found, samples)


def test_hard_tokens(exports: Callable[[str, str], Export], mmproj: Path) -> None:
    """The rows that mark an end and fill sounds up, from their tables."""
    info = Manifest.read(exports("onnx", "fp32").path).media_info()
    assert info.vision is not None and info.audio is not None
    weights = encoder_weights(VISION, AUDIO)

    def hard(kind: str, index: int) -> Array:
        row = weights[f"embed_{kind}.embedding.weight"][index].astype(np.float64)
        row = row / np.sqrt(np.mean(row**2) + 1e-6) * weights[f"embed_{kind}.hard_embedding_norm.weight"]
        out = weights[f"embed_{kind}.embedding_projection.weight"] @ row
        return np.asarray(out / np.sqrt(np.mean(out**2) + 1e-6), np.float32)

    for found, expected in (
        (info.vision.end, hard("vision", 0)),
        (info.audio.end, hard("audio", 0)),
        (info.audio.padding, hard("audio", 127)),
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert (info.audio.mel_bins, info.audio.filled_tokens) == (64, 188)


def test_a_file_that_holds_all(text: Path, tmp_path: Path) -> None:
    """Nothing else needs to be named; the text model's weights are stored once, as if it were alone."""
    whole = joined(tmp_path / "whole.gguf", VISION, AUDIO, text)
    for quant in ("fp32", "int8"):
        done = export(whole, tmp_path / quant, "onnx", quant, context=64)
        assert len(done.media) == 6
        alone = export(text, tmp_path / f"{quant}-alone", "onnx", quant, context=64)
        assert done.files["model.onnx.data"] == pytest.approx(alone.files["model.onnx.data"], rel=0.01)


@pytest.mark.parametrize("format", FORMATS)
def test_a_checkpoint_with_towers(format: str, tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "checkpoint", encoder_weights())
    done = export(folder, tmp_path / "out", format, "int4", context=64, prefill=(8,), media=folder)
    assert len(done.media) == 6
    assert export(folder, tmp_path / "text", format, "int4", context=64, prefill=(8,)).media == {}


def test_a_text_model_is_described_as_before(text: Path, tmp_path: Path) -> None:
    done = export(text, tmp_path / "out", "onnx", "fp32", context=64)
    assert "media" not in json.loads((done.path / NAME).read_text())
    assert not Manifest.read(done.path).media


@pytest.mark.parametrize("tower", ["vision", "audio"])
def test_one_tower_alone(tower: str, text: Path, tmp_path: Path) -> None:
    path = ODD[tower].write(tmp_path / "mmproj.gguf")
    done = export(text, tmp_path / "out", "onnx", "fp32", context=64, media=path)
    found = encoders_of(done.path)
    assert (found.sees, found.hears) == (tower == "vision", tower == "audio")
    with pytest.raises(gemlet.UnsupportedError, match="no encoder for " + ("sound" if found.sees else "pictures")):
        sound_rows(found, sound(1000)) if found.sees else picture_rows(found, picture(9, 9), 256)


def test_padding_that_is_off_by_half_a_pixel_is_found(
    text: Path, mmproj: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that computes something else does not get its name."""

    def symmetric(size: int, kernel: int, stride: int) -> tuple[int, int]:
        before, after = same(size, kernel, stride)
        return after, before

    monkeypatch.setattr(vision_mobilenet_v5, "same", symmetric)
    with pytest.raises(ExportError, match=r"the soft tokens of a picture of 256 pixels differ by .*, expected at most"):
        export(text, tmp_path / "out", "onnx", "fp32", context=64, media=mmproj)
    assert not (tmp_path / "out").exists()


def test_silence_is_no_answer(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OnnxEncoders, "hear", lambda _, mel: np.zeros((-(-len(mel) // 16), 64), np.float32))
    mmproj = ODD["audio"].write(tmp_path / "mmproj.gguf")
    with pytest.raises(ExportError, match=r"the soft tokens of a sound of 0\.04 s differ by 0\."):
        export(text, tmp_path / "out", "onnx", "fp32", context=64, media=mmproj)
    assert not (tmp_path / "out").exists()


def test_media_of_another_model(text: Path, tmp_path: Path) -> None:
    other = TinyAudio(text_hidden=40).write(tmp_path / "other.gguf")
    with pytest.raises(ExportError, match=r"other\.gguf: its soft tokens have 40 values, expected 64, the hidden size"):
        export(text, tmp_path / "out", "onnx", "fp32", context=64, media=other)
    with pytest.raises(gemlet.UnsupportedError, match="holds no encoder"):
        export(text, tmp_path / "out", "onnx", "fp32", context=64, media=text)
    with pytest.raises(gemlet.ArgumentError, match=r"tflite-runtime.*runs no encoders"):
        export(text, tmp_path / "out", "tflite", "fp32", runtime="tflite-runtime", media=text)


@pytest.mark.parametrize("quant", MEDIA_RECIPES)
def test_roles_by_the_names_of_the_file_are_those_of_the_checkpoint(quant: str, tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "checkpoint", encoder_weights())
    path = convert_mmproj(folder, tmp_path / "mmproj.gguf", quant).path
    assert matches(EncoderSource(path), MEDIA_RECIPES[quant])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vision": 3}, "media.vision is 3, expected an object"),
        ({"vision": {"size": 256}}, "media.vision.end is None, expected 64 finite numbers"),
        ({"vision": {"end": [0.0] * 64}}, "media.vision.size is None, expected 256 to 768"),
        ({"vision": {"size": 256, "end": [0.0] * 63}}, "media.vision.end .* expected 64 finite numbers"),
        ({"vision": {"size": 256, "end": [True] * 64}}, "media.vision.end .* expected 64 finite numbers"),
        ({"vision": {"size": 256, "end": [float("nan")] * 64}}, "media.vision.end .* expected 64 finite numbers"),
        ({"vision": {"size": 256, "end": [10**400] * 64}}, "media.vision.end .* expected 64 finite numbers"),
        ({"vision": {"size": 256, "end": {"a": 1}}}, "media.vision.end .* expected 64 finite numbers"),
        ({"audio": {"mel_bins": 1 << 40}}, "media.audio.mel_bins is 1099511627776, expected 8 to 512"),
        ({"audio": {"mel_bins": 64, "filled_tokens": -1}}, "media.audio.filled_tokens is -1, expected 0 to"),
        ({"audio": {"mel_bins": 64, "filled_tokens": 188.0}}, "media.audio.filled_tokens is 188.0, expected 0 to"),
        ([], r"media is \[\], expected dict"),
    ],
)
def test_hostile_descriptions(exports: Callable[[str, str], Export], change: Any, message: str, tmp_path: Path) -> None:
    folder = tmp_path / "hostile"
    folder.mkdir()
    for part in exports("onnx", "fp32").path.iterdir():
        (folder / part.name).symlink_to(part)
    described = json.loads((folder / NAME).read_text())
    described["media"] = described["media"] | change if isinstance(change, dict) else change
    (folder / NAME).unlink()
    (folder / NAME).write_text(json.dumps(described))
    with pytest.raises(gemlet.FormatError, match=message):
        Manifest.read(folder)


@pytest.mark.parametrize("name", ["vision-256.onnx", "vision.onnx.data", "audio.onnx", "audio.onnx.data"])
def test_no_file_of_an_encoder_goes_unchecked(exports: Callable[[str, str], Export], name: str, tmp_path: Path) -> None:
    folder = tmp_path / "hostile"
    folder.mkdir()
    for part in exports("onnx", "fp32").path.iterdir():
        (folder / part.name).symlink_to(part)
    described = json.loads((folder / NAME).read_text())
    del described["files"][name]
    (folder / NAME).unlink()
    (folder / NAME).write_text(json.dumps(described))
    with pytest.raises(gemlet.FormatError, match=f"files: {name} is missing"):
        Manifest.read(folder)


def with_template(folder: Path, template: str, *marks: str) -> Path:
    """A checkpoint with the template, and with marks of media in its vocabulary."""
    checkpoint(folder, encoder_weights())
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    pieces = [*tiny_pieces(), *(Piece(mark, 0.0, PieceKind.USER_DEFINED) for mark in marks)]
    (folder / "tokenizer.model").write_bytes(tiny_tokenizer(pieces).serialize())
    return folder


def test_sections_of_bundles(tmp_path: Path) -> None:
    """That LiteRT-LM runs them is tested where it is installed (test_litert_lm_media.py)."""
    from litert_lm_builder import litertlm_peek

    folder = with_template(tmp_path / "checkpoint", GEMMA_3N, "<start_of_image>", "<start_of_audio>")
    path = tmp_path / "tiny.litertlm"
    done = export(folder, path, "litertlm", "fp32", context=128, prefill=(8,), media=folder)
    assert len(done.media) == 6
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["checkpoint", path.name, f"{path.name}.report.json"]
    shown = io.StringIO()
    litertlm_peek.peek_litertlm_file(str(path), None, shown)
    sections = ("prefill_decode", "embedder", "per_layer_embedder", "end_of_vision", "end_of_audio")
    for section in (*sections, "vision_encoder", "vision_adapter", "audio_encoder_hw", "audio_adapter"):
        assert f"tf_lite_{section}" in shown.getvalue()
    for what in ("generic_model", "<image_soft_token>", "<audio_soft_token>", "audio_num_mel_bins: 32"):
        assert what in shown.getvalue()


def test_templates_that_bundles_cannot_have(tmp_path: Path) -> None:
    """LiteRT-LM looks for what the template writes where a picture or a sound stands."""
    texts = "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}" + (
        "{% for part in m.content %}{{ part.text }}{% endfor %}{% endif %}{% endfor %}"
    )
    folder = with_template(tmp_path / "texts", texts)
    with pytest.raises(ExportError, match=r"x\.litertlm: LiteRT-LM finds the place of a picture by what the chat"):
        export(folder, tmp_path / "x.litertlm", "litertlm", "fp32", context=64, prefill=(8,), media=folder)
    folder = with_template(tmp_path / "unmarked", GEMMA_3N, "<start_of_image>")
    with pytest.raises(ExportError, match=r"x\.litertlm: the vocabulary lacks '<start_of_audio>', which stands"):
        export(folder, tmp_path / "x.litertlm", "litertlm", "fp32", context=64, prefill=(8,), media=folder)
