"""One file for a text model and its encoders."""

from __future__ import annotations

import json
from pathlib import Path

import gemlet
import gguf
import numpy as np
import pytest
from gemlet import _core
from gemlet.conversion import ConvertError, convert, convert_mmproj

from conftest import Cli
from media_inputs import picture, see
from tiny import write_checkpoint
from tiny_encoders import TEXT, checkpoint, encoder_weights
from tiny_gemma3 import TinyGemma3, write_gemma3_checkpoint
from tiny_siglip import TinySiglip, siglip_checkpoint

SIGLIP = TinySiglip()
IDS = [2, 9, 33, 8, 90, 17, 5]


def make(architecture: str, folder: Path) -> Path:
    if architecture == "gemma3":
        return siglip_checkpoint(folder, SIGLIP)
    return checkpoint(folder, encoder_weights())


@pytest.mark.parametrize(("architecture", "size"), [("gemma3", SIGLIP.image_size), ("gemma3n", 256)])
def test_the_file_is_both_others(tmp_path: Path, architecture: str, size: int) -> None:
    source = make(architecture, tmp_path / "c")
    done = convert(source, tmp_path / "whole.gguf", "f32", media=True, media_quant="f16")
    text = convert(source, tmp_path / "text.gguf", "f32")
    mmproj = convert_mmproj(source, tmp_path / "mmproj.gguf", "f16")
    assert (done.encoders, done.left_out, done.encoders_left_out) == (mmproj.encoders, (), ())
    assert (text.encoders, text.encoders_left_out) == ((), mmproj.encoders) and text.left_out

    model, alone = gemlet.load(done.path, cache="f32"), gemlet.load(text.path, cache="f32")
    np.testing.assert_array_equal(model.logits(IDS), alone.logits(IDS))
    for counted in ("tensors", "parameters", "bytes", "tensor_type"):
        assert getattr(model.info, counted) == getattr(alone.info, counted), counted
    of_encoders = gguf.GGUFReader(mmproj.path).tensors
    assert model.info.encoder_bytes == sum(int(tensor.n_bytes) for tensor in of_encoders)
    assert alone.info.encoder_bytes == 0

    encoders, apart = (_core.Encoders.load(path, 1) for path in (done.path, mmproj.path))
    assert (encoders.sees, encoders.hears) == (apart.sees, apart.hears)
    np.testing.assert_array_equal(see(encoders, picture(90, 70), size), see(apart, picture(90, 70), size))


def test_an_answer_to_a_picture_needs_no_other_file(tmp_path: Path) -> None:
    path = convert(make("gemma3", tmp_path / "c"), tmp_path / "whole.gguf", "f32", media=True).path
    chat = gemlet.load(path).chat(max_tokens=4, temperature=0)
    chat.send(["what", gemlet.Image(picture(40, 30))])
    with pytest.raises(gemlet.UnsupportedError, match="ears"):
        chat.send([gemlet.Audio(np.zeros(1000, np.float32), 16000)])


def test_a_slice_keeps_the_encoders(tmp_path: Path) -> None:
    source = make("gemma3n", tmp_path / "c")
    whole = convert(source, tmp_path / "whole.gguf", "f32", media=True)
    cut = convert(source, tmp_path / "cut.gguf", "f32", media=True, slice="drop=3")
    assert cut.bytes < whole.bytes and cut.encoders == ("vision", "audio")
    assert gemlet.load(cut.path).info.encoder_bytes == gemlet.load(whole.path).info.encoder_bytes


def test_checkpoints_without_encoders(tmp_path: Path) -> None:
    for source in (write_checkpoint(tmp_path / "3n", TEXT), write_gemma3_checkpoint(tmp_path / "3", TinyGemma3())):
        with pytest.raises(ConvertError, match="the checkpoint is text only"):
            convert(source, tmp_path / "whole.gguf", media=True)
    assert convert(tmp_path / "3", tmp_path / "text.gguf").encoders_left_out == ()


def test_a_quantisation_of_encoders_that_are_not_converted(tmp_path: Path) -> None:
    with pytest.raises(gemlet.ArgumentError, match="media_quant is for the encoders"):
        convert(make("gemma3", tmp_path / "c"), tmp_path / "text.gguf", media_quant="q8_0")


def test_unfitting_tensors_of_an_encoder_leave_no_file(tmp_path: Path) -> None:
    source = siglip_checkpoint(tmp_path / "c", SIGLIP, drop="multi_modal_projector.mm_soft_emb_norm.weight")
    with pytest.raises(ConvertError, match=r"missing: multi_modal_projector\.mm_soft_emb_norm\.weight"):
        convert(source, tmp_path / "whole.gguf", media=True)
    assert not (tmp_path / "whole.gguf").exists()
    assert convert(source, tmp_path / "text.gguf").encoders_left_out == ("vision",)


def test_text_models_in_files_that_ollama_made(tmp_path: Path) -> None:
    """They hold the encoder under other keys and names; the text is read."""
    text = convert(make("gemma3", tmp_path / "c"), tmp_path / "text.gguf", "f32").path
    reader = gguf.GGUFReader(text)
    writer = gguf.GGUFWriter(tmp_path / "ollama.gguf", "gemma3")
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture":
            sub_type = field.types[1] if len(field.types) > 1 else None
            writer.add_key_value(name, field.contents(), field.types[0], sub_type)
    writer.add_uint32("gemma3.vision.block_count", 27)
    writer.add_uint32("gemma3.mm.tokens_per_image", 256)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data)
    for name in ("v.patch_embedding.weight", "v.blk.0.attn_q.weight", "mm.mm_soft_emb_norm.weight"):
        writer.add_tensor(name, np.ones((3, 5), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    model = gemlet.load(tmp_path / "ollama.gguf", cache="f32")
    np.testing.assert_array_equal(model.logits(IDS), gemlet.load(text, cache="f32").logits(IDS))
    assert model.info.encoder_bytes == 3 * 60


def test_the_command(cli: Cli, tmp_path: Path) -> None:
    source = make("gemma3n", tmp_path / "c")
    done = cli("convert", source, "-o", tmp_path / "whole.gguf", "--media", "--media-quant", "q8_0")
    assert done.returncode == 0 and "encoders: vision and audio" in done.stdout and done.stderr == ""
    assert json.loads(cli("convert", source, "-o", tmp_path / "w.gguf", "--media", "--json").stdout)["encoders"]
    done = cli("convert", source, "-o", tmp_path / "text.gguf")
    assert done.returncode == 0 and "encoders" not in done.stdout
    assert "the file has no eyes and no ears" in done.stderr
    assert "--media writes them into the same file, --mmproj into a second one" in done.stderr
    done = cli("convert", source, "-o", tmp_path / "x.gguf", "--media", "--mmproj")
    assert done.returncode != 0 and "--media writes the encoders into the model's file" in done.stderr
    assert not (tmp_path / "x.gguf").exists()
