"""What the old tflite-runtime 2.14.0 does with exported files. It lives in a Python of its own, which the variable
TFLITE_RUNTIME_PYTHON names: it needs numpy 1, and Python 3.11 at most."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import gemlet
import numpy as np
import pytest
from gemlet.conversion import convert
from gemlet.exporters import export
from gemlet.exporters.tflite import builder

from tiny import Tiny, write_checkpoint

PYTHON = os.environ.get("TFLITE_RUNTIME_PYTHON")

pytestmark = [pytest.mark.live, pytest.mark.skipif(PYTHON is None, reason="TFLITE_RUNTIME_PYTHON is not set")]

BLOCKS = Tiny(hidden=64, heads=2, head_dim=16, ffn=(128,), ple=32, laurel=32, vocab=320, ple_vocab=300)
TOKENS = [2, *((7 * i) % 320 for i in range(40))]
PREFILL = 16

RUN = """
import sys
import numpy as np
from tflite_runtime.interpreter import Interpreter
path, out, length, *tokens = sys.argv[1:]
length, tokens = int(length), np.array(tokens, np.int32)[None]
interpreter = Interpreter(path)
decode = interpreter.get_signature_runner("decode")
inputs = {name: np.zeros(of["shape"], of["dtype"]) for name, of in decode.get_input_details().items()}
names = [name for name in inputs if name.startswith("kv_cache_")]
rows = []
for begin, end in [(0, length), *((i, i + 1) for i in range(length, tokens.shape[1]))]:
    run = decode if end > length else interpreter.get_signature_runner(f"prefill_{length}")
    caches = {name: inputs[name] for name in names}
    found = run(tokens=tokens[:, begin:end], input_pos=np.arange(begin, end, dtype=np.int32), **caches)
    inputs.update((name, found[name]) for name in names)
    if end > length:
        rows.append(found["logits"].ravel())
np.save(out, np.stack(rows))
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    return convert(write_checkpoint(folder / "checkpoint", BLOCKS), folder / "tiny.gguf", "f32").path


def run(folder: Path) -> subprocess.CompletedProcess[str]:
    """A prompt and single steps past the window; the logits of the steps go to logits.npy."""
    assert PYTHON is not None
    command = [PYTHON, "-c", RUN, folder / "model.tflite", folder / "logits.npy", PREFILL, *TOKENS]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)


def test_fp32_answers_as_in_the_core(source: Path, tmp_path: Path) -> None:
    out = export(
        source, tmp_path / "out", "tflite", "fp32", context=64, prefill=(PREFILL,), runtime="tflite-runtime"
    ).path
    done = run(out)
    assert done.returncode == 0, done.stderr
    expected = gemlet.load(source, cache="f32").logits(TOKENS)[PREFILL:]
    assert np.allclose(np.load(out / "logits.npy"), expected, atol=1e-3)


@pytest.mark.parametrize(
    ("quant", "message"),
    [
        ("fp16", "Type 'FLOAT16' is not supported by gather"),
        ("int8", "opcode 'FULLY_CONNECTED' version '12'"),
        ("int4", "opcode 'FULLY_CONNECTED' version '13'"),
    ],
)
def test_other_files_are_refused_there_too(quant: str, message: str, source: Path, tmp_path: Path) -> None:
    done = run(export(source, tmp_path / "out", "tflite", quant, context=64, prefill=(PREFILL,)).path)
    assert done.returncode != 0 and message in done.stderr


def test_why_the_version_matters(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that claims less is taken, and every answer is zero."""
    monkeypatch.setattr(builder, "_INT8_ROWS", 9)
    out = export(source, tmp_path / "out", "tflite", "int8", context=64, prefill=(PREFILL,)).path
    assert run(out).returncode == 0
    assert not np.load(out / "logits.npy").any()
