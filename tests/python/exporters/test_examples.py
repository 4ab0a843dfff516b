"""The example programs that chat with an exported folder without gemlet, beside gemlet's own greedy answers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import gemlet
import pytest
from gemlet.exporters import export
from tokenizers import Tokenizer

from tiny_gemma3 import TinyGemma3, write_gemma3_checkpoint

EXAMPLES = Path(__file__).parents[3] / "examples"
PROGRAMS = {"onnx": EXAMPLES / "onnx" / "chat.py", "tflite": EXAMPLES / "litert" / "chat.py"}
QUESTIONS = ["What is the capital of Portugal?", "How do you say good night in French?"]


def answers(format: str, folder: Path, questions: list[str], *options: str) -> str:
    command = [sys.executable, str(PROGRAMS[format]), str(folder), "--temperature", "0", *options]
    text = "\n".join(questions)
    done = subprocess.run(command, input=text, capture_output=True, text=True, encoding="utf-8", timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("format", PROGRAMS)
def test_the_programs_know_nothing_of_gemlet(format: str) -> None:
    code = PROGRAMS[format].read_text(encoding="utf-8")
    assert "import gemlet" not in code and "from gemlet" not in code


@pytest.mark.parametrize("format", PROGRAMS)
def test_nano_answers_as_in_gemlet(format: str, nano_gguf: Path, tmp_path: Path) -> None:
    """Two turns of one conversation, each to its end token."""
    folder = export(nano_gguf, tmp_path / "out", format, "int8", context=256, prefill=(8, 32)).path
    chat = gemlet.load(folder).chat(temperature=0.0, max_tokens=60)
    expected = [chat.send(question) for question in QUESTIONS]
    assert all(answer.finish_reason == "stop" and answer.text for answer in expected)
    found = answers(format, folder, QUESTIONS, "--max-tokens", "60")
    assert found == "".join(f"{answer.text}\n" for answer in expected)


@pytest.mark.parametrize("format", PROGRAMS)
def test_gemma3_answers_as_in_the_core(format: str, tmp_path: Path) -> None:
    """A random model: the prompt and its continuation, past the window."""
    checkpoint = write_gemma3_checkpoint(tmp_path / "c", TinyGemma3(context=128))
    folder = export(checkpoint, tmp_path / "out", format, "fp32", context=128, prefill=(5, 16)).path
    gguf = gemlet.convert(checkpoint, tmp_path / "m.gguf", "f32").path
    prompt = "<start_of_turn>user\nthen the abc<end_of_turn>\n<start_of_turn>model\n"
    expected = gemlet.load(gguf, cache="f32").generate(prompt, temperature=0.0, max_tokens=24)
    assert len(expected.tokens) > 4 and expected.stats.prompt_tokens > 2 * TinyGemma3().window
    # Bytes that are no UTF-8, which a random model likes, are written as each library does.
    text = Tokenizer.from_file(str(folder / "tokenizer.json")).decode(expected.tokens)
    assert answers(format, folder, ["then the abc"], "--max-tokens", "24") == text + "\n"
