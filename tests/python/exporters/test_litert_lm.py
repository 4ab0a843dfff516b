"""Bundles in LiteRT-LM itself, on the CPU."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gemlet
import pytest
from gemlet.conversion import convert
from gemlet.exporters import export
from gemlet.exporters.litertlm_check import answers_in_litert_lm

from tiny import Tiny, write_checkpoint
from tiny_gemma3 import LoudGemma3, TinyGemma3, write_gemma3_checkpoint

litert_lm = pytest.importorskip("litert_lm", reason="needs the [live] extra")

pytestmark = [pytest.mark.live, pytest.mark.filterwarnings("default")]

QUESTIONS = ("What is the capital of Portugal?", "How do you say good night in French?", "What is 2 plus 3?")


@contextmanager
def engine(path: Path, context: int) -> Iterator[Any]:
    litert_lm.set_min_log_severity(litert_lm.LogSeverity.FATAL)
    backend = litert_lm.Backend.CPU(thread_count=2)
    with litert_lm.Engine(str(path), backend, max_num_tokens=context, cache_dir=":nocache") as opened:
        yield opened


def greedy() -> Any:
    return litert_lm.SamplerConfig(top_k=1, temperature=0.0)


def continued(opened: Any, prompt: str, most: int) -> str:
    """Without a chat template."""
    with opened.create_session(apply_prompt_template=False, sampler_config=greedy(), max_output_tokens=most) as session:
        session.run_prefill([prompt])
        text: str = session.run_decode().texts[0]
    session.close()  # there may be one at a time, and leaving the block does not end it
    return text


@pytest.mark.parametrize("quant", ["fp32", "fp16", "int8", "int4"])
def test_nano_answers_as_in_the_core(quant: str, nano_gguf: Path, tmp_path: Path) -> None:
    path = tmp_path / "nano.litertlm"
    done = export(nano_gguf, path, "litertlm", quant, context=256, prefill=(16, 64))
    assert "litert-lm 0.18.1" in done.runtime
    answers = answers_in_litert_lm(path, [[question] for question in QUESTIONS[:2]], tmp_path, 256, 2, path)
    chat = gemlet.load(nano_gguf).chat(temperature=0.0)
    expected = []
    for question in QUESTIONS[:2]:
        expected.append(chat.send(question).text)
        chat.reset()
    assert answers == expected == ["The capital of Portugal is Lisbon.", "bonne nuit"]


@pytest.fixture(scope="module", params=["gemma3n", "gemma3"])
def checkpoint(request: pytest.FixtureRequest, nano_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One with every feature and a window of six or seven; a piece for each token, and a template that takes parts."""
    folder = tmp_path_factory.mktemp("tiny") / "checkpoint"
    if request.param == "gemma3":
        write_gemma3_checkpoint(folder, TinyGemma3(vocab=289))
    else:
        write_checkpoint(folder, Tiny(vocab=289, ple_vocab=285))
    return with_template_of(nano_gguf, folder)


def with_template_of(model: Path, checkpoint: Path) -> Path:
    """The checkpoint with the chat template of another model."""
    config = json.loads((checkpoint / "tokenizer_config.json").read_text())
    config["chat_template"] = gemlet.load(model).info.chat_template
    (checkpoint / "tokenizer_config.json").write_text(json.dumps(config))
    return checkpoint


@pytest.fixture(scope="module")
def core(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> gemlet.Model:
    path = tmp_path_factory.mktemp("core") / "tiny.gguf"
    return gemlet.load(convert(checkpoint, path, "f32").path, cache="f32")


def test_a_checkpoint_answers_as_in_the_core(checkpoint: Path, core: gemlet.Model, tmp_path: Path) -> None:
    """With its own tokenizer.model."""
    path = tmp_path / "tiny.litertlm"
    done = export(checkpoint, path, "litertlm", "fp32", context=128, prefill=(5, 16))
    assert "litert-lm" in done.runtime and done.source is None
    with engine(path, 128) as opened:
        for prompt in ("the", "abc in the an", "<start_of_turn>user\nabc<end_of_turn>\n", "in an " * 20):
            tokens = core.tokenize(prompt, bos=True)
            assert opened.tokenize(prompt) == tokens[1:]
            assert continued(opened, prompt, 12) == core.generate(tokens, max_tokens=12, temperature=0.0).text


def test_half_precision_is_of_the_weights_alone(nano_gguf: Path, tmp_path: Path) -> None:
    """A residual beyond 65504 stays finite in LiteRT-LM too, which computes fp16 files in float32 on the CPU."""
    checkpoint = with_template_of(nano_gguf, write_gemma3_checkpoint(tmp_path / "c", LoudGemma3(vocab=289)))
    path = tmp_path / "tiny.litertlm"
    assert "litert-lm" in export(checkpoint, path, "litertlm", "fp16", context=128, prefill=(5, 16)).runtime
    core = gemlet.load(convert(checkpoint, tmp_path / "m.gguf", "f16").path, cache="f32")
    with engine(path, 128) as opened:
        for prompt in ("the", "abc in the an", "in an " * 20):
            expected = core.generate(core.tokenize(prompt, bos=True), max_tokens=12, temperature=0.0)
            assert expected.tokens and continued(opened, prompt, 12) == expected.text


@pytest.mark.parametrize("context", [100, 96])
def test_prompts_of_any_length_that_the_context_holds(
    context: int, checkpoint: Path, core: gemlet.Model, tmp_path: Path
) -> None:
    """Also where the padding of the last part of a prompt reaches past its end."""
    path = tmp_path / "tiny.litertlm"
    export(checkpoint, path, "litertlm", "fp32", context=context, prefill=(32,))
    words = core.tokenize("in the an abc ab the nin " * 20)
    with engine(path, context) as opened:
        for count in (1, 31, 32, 33, 64, 65, 90, context - 3, context - 2):
            prompt = core.detokenize(words[:count])
            tokens = core.tokenize(prompt, bos=True)
            assert len(tokens) == count + 1
            assert continued(opened, prompt, 1) == core.generate(tokens, max_tokens=1, temperature=0.0).text, count


def test_turns_to_the_end_of_the_context(nano_gguf: Path, tmp_path: Path) -> None:
    path = tmp_path / "nano.litertlm"
    export(nano_gguf, path, "litertlm", "int8", context=200, prefill=(64,))
    chat = gemlet.load(nano_gguf, context=200).chat(temperature=0.0, max_tokens=16)
    with (
        engine(path, 200) as opened,
        opened.create_conversation(sampler_config=greedy(), max_output_tokens=16) as conversation,
    ):
        for question in (*QUESTIONS, *QUESTIONS, *QUESTIONS[:2]):
            message = conversation.send_message(question)
            assert "".join(part["text"] for part in message["content"]) == chat.send(question).text
        assert 180 < conversation.token_count <= 200


def test_a_broken_bundle(tmp_path: Path) -> None:
    (tmp_path / "x.litertlm").write_bytes(b"nothing")
    with pytest.raises(gemlet.GemletError, match=r"y\.litertlm: LiteRT-LM does not run it"):
        answers_in_litert_lm(tmp_path / "x.litertlm", [["Hi"]], tmp_path, 64, 1, tmp_path / "y.litertlm")
