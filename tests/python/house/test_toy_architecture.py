"""A made-up architecture registers itself and is converted, generates and is exported, and no other file knows it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import gemlet
import numpy as np
import pytest
from gemlet.conversion import architectures as conversions
from gemlet.exporters import architectures as exports

import toy_architecture
from toy_architecture import Runner, Toy

PROMPT = "then the abc"


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for registry in (conversions, exports):
        monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    toy_architecture.register()
    yield Toy().write(tmp_path / "checkpoint")


def test_a_checkpoint_becomes_a_model_that_generates(checkpoint: Path, tmp_path: Path) -> None:
    path = gemlet.convert(checkpoint, tmp_path / "toy.gguf", "f32").path
    model = gemlet.load(path)
    assert (model.info.architecture, model.info.layers, model.info.vocabulary) == ("toy", 3, 299)
    tokens = model.tokenize(PROMPT, bos=True)
    expected = Runner(path, 299)
    np.testing.assert_array_equal(model.logits(tokens), expected.run(expected.empty(), tokens, "all"))
    answer = model.generate(PROMPT, temperature=0.0, max_tokens=20)
    cache = expected.empty()
    logits = expected.run(cache, tokens, "last")
    for token in answer.tokens:
        assert token == logits[0].argmax()
        logits = expected.run(cache, [token], "last")
    assert len(answer.tokens) > 1
    chat = model.chat(temperature=0.0, max_tokens=4)
    chat.send("a")
    assert chat.send("the").stats.reused_tokens > 0


@pytest.mark.parametrize("quant", ["fp32", "int8"])
@pytest.mark.parametrize("format", ["onnx", "tflite"])
def test_it_is_exported_and_answers_as_its_own_code(checkpoint: Path, tmp_path: Path, format: str, quant: str) -> None:
    """The export checks itself against what the registered code computes; so do greedy answers here."""
    path = gemlet.convert(checkpoint, tmp_path / "toy.gguf", "f32").path
    done = gemlet.export(path, tmp_path / "out", format, quant, context=64, prefill=(4,))
    assert done.same_weights.relative_difference < (1e-5 if quant == "fp32" else 0.15)
    exported = gemlet.load(done.path)
    assert exported.info.architecture == "toy"
    if quant == "fp32":
        options = {"temperature": 0.0, "max_tokens": 20}
        found, expected = (model.generate(PROMPT, **options).tokens for model in (exported, gemlet.load(path)))  # type: ignore[arg-type]
        assert found == expected


def test_python_ends_well_with_a_registered_architecture() -> None:
    code = "from gemlet import _core; _core.register_architecture('toy', lambda path, tokens: None)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
