"""Bundles in LiteRT-LM itself, on the CPU."""

from pathlib import Path

import gemlet
import pytest
from gemlet.export import export, litertlm

pytest.importorskip("litert_lm", reason="needs the [live] extra")

pytestmark = [pytest.mark.live, pytest.mark.filterwarnings("default")]


@pytest.mark.parametrize("quant", ["fp32", "fp16", "int8", "int4"])
def test_nano_answers_as_in_the_core(quant: str, nano_gguf: Path, tmp_path: Path) -> None:
    path = tmp_path / "nano.litertlm"
    done = export(nano_gguf, path, "litertlm", quant, context=256, prefill=(16, 64))
    assert "litert-lm 0.18.1" in done.runtime
    answers = litertlm.answers_in_litert_lm(path, 256, 2)
    chat = gemlet.load(nano_gguf).chat(temperature=0.0)
    expected = []
    for question in ("What is the capital of Portugal?", "How do you say good night in French?"):
        expected.append(chat.send(question).text)
        chat.reset()
    assert answers == expected == ["The capital of Portugal is Lisbon.", "bonne nuit"]


def test_a_broken_bundle(tmp_path: Path) -> None:
    (tmp_path / "x.litertlm").write_bytes(b"nothing")
    with pytest.raises(gemlet.GemletError, match="LiteRT-LM does not run it"):
        litertlm.answers_in_litert_lm(tmp_path / "x.litertlm", 64, 1)
