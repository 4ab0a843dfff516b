"""Bundles with encoders in LiteRT-LM itself, on the CPU."""

from __future__ import annotations

import base64
import dataclasses
import json
from pathlib import Path
from typing import Any

import gemlet
import gguf
import pytest
from gemlet.conversion import convert
from gemlet.conversion.mmproj import convert_mmproj
from gemlet.conversion.sentencepiece import Piece, PieceKind
from gemlet.exporters import export
from gemlet.media.png import to_png
from gemlet.media.wav import to_wav

from media_inputs import picture, sound
from published_templates import GEMMA_3N
from tiny import tiny_pieces, tiny_tokenizer
from tiny_encoders import TEXT, checkpoint, encoder_weights

litert_lm = pytest.importorskip("litert_lm", reason="needs the [live] extra")

pytestmark = [pytest.mark.live, pytest.mark.filterwarnings("default")]

CONTEXT = 1400
TOKENS = 8
SAMPLES = 128 * 1875
"""Of sounds: neither LiteRT-LM nor gemlet pads them."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with the marks of pictures and sounds, and the published template."""
    folder = tmp_path_factory.mktemp("seeing")
    marks = [Piece(name, 0.0, PieceKind.USER_DEFINED) for name in ("<start_of_image>", "<start_of_audio>")]
    pieces = [*tiny_pieces(), *marks]
    text = dataclasses.replace(TEXT, vocab=len(pieces), ple_vocab=len(pieces) - 4)
    made = checkpoint(
        folder / "checkpoint", encoder_weights(), text=text, text_config={"max_position_embeddings": 4096}
    )
    (made / "tokenizer.model").write_bytes(tiny_tokenizer(pieces).serialize())
    (made / "tokenizer_config.json").write_text(json.dumps({"chat_template": GEMMA_3N}))
    return made


@pytest.fixture(scope="module")
def core(made: Path) -> gemlet.Model:
    text = convert(made, made.parent / "text.gguf", "f32").path
    mmproj = convert_mmproj(made, made.parent / "mmproj.gguf", "f32").path
    return gemlet.load(text, media=mmproj, context=CONTEXT, cache="f32")


@pytest.fixture(scope="module")
def bundle(made: Path) -> Path:
    path = made.parent / "seeing.litertlm"
    done = export(made, path, "litertlm", "fp32", context=CONTEXT, prefill=(64,), media=made)
    assert "litert-lm 0.18.1" in done.runtime and len(done.media) == 6
    return path


def to_part(part: str | gemlet.Image | gemlet.Audio) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if isinstance(part, gemlet.Image):
        return {"type": "image", "blob": base64.b64encode(to_png(part.pixels)).decode()}
    return {"type": "audio", "blob": base64.b64encode(to_wav(part.samples, 16000)).decode()}


def test_conversations_are_the_cores(bundle: Path, core: gemlet.Model) -> None:
    litert_lm.set_min_log_severity(litert_lm.LogSeverity.FATAL)
    cpu = litert_lm.Backend.CPU(thread_count=2)
    greedy = litert_lm.SamplerConfig(top_k=1, temperature=0.0)
    cat, dog = (gemlet.Image(picture(768, 768, seed)) for seed in range(2))
    words, other = (gemlet.Audio(sound(SAMPLES)[::step], 16000) for step in (1, -1))
    contents: list[list[str | gemlet.Image | gemlet.Audio]] = [
        ["the abc"],
        [cat, "the abc"],
        [dog, "the abc"],
        ["in", words, "then"],
        ["in", other, "then"],
        [cat, "and", dog, "an", words, "in"],
    ]
    answers = []
    with litert_lm.Engine(
        str(bundle), cpu, max_num_tokens=CONTEXT, cache_dir=":nocache", vision_backend=cpu, audio_backend=cpu
    ) as engine:
        for content in contents:
            expected = core.chat(temperature=0.0, max_tokens=TOKENS).send(content)
            with engine.create_conversation(sampler_config=greedy, max_output_tokens=TOKENS) as conversation:
                message = conversation.send_message({"role": "user", "content": list(map(to_part, content))})
                answers.append("".join(part["text"] for part in message["content"]))
                assert conversation.token_count == expected.stats.prompt_tokens + TOKENS
            assert answers[-1].replace("\ufffd", "") == expected.text.replace("\ufffd", "")
    assert len(set(answers)) == len(answers)  # each picture and sound is another


@pytest.mark.parametrize("filled", [0, 25])
def test_sounds_that_are_filled_up_to_another_length(filled: int, made: Path, tmp_path: Path) -> None:
    """Or not at all: LiteRT-LM is asked about a sound, and has to answer as gemlet does."""
    mmproj = tmp_path / "mmproj.gguf"
    reader = gguf.GGUFReader(convert_mmproj(made, tmp_path / "plain.gguf", "f32").path)
    writer = gguf.GGUFWriter(mmproj, "clip")
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture":
            writer.add_key_value(name, field.contents(), *field.types)
    writer.add_uint32("clip.audio.filled_soft_tokens", filled)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    done = export(made, tmp_path / "x.litertlm", "litertlm", "fp32", context=512, prefill=(64,), media=mmproj)
    assert "litert-lm" in done.runtime and len(done.media) == 6


@pytest.mark.parametrize("quant", ["int8", "int4"])
def test_quantised_bundles_answer_as_litert_does(quant: str, made: Path, tmp_path: Path) -> None:
    """About a picture and a sound too: the export asks."""
    done = export(made, tmp_path / "x.litertlm", "litertlm", quant, context=512, prefill=(64,), media=made)
    assert "litert-lm" in done.runtime
