"""Exported files against transformers.

fp32: within 1e-3, as the core, and the same greedy text. fp16: within 1e-3 of transformers on weights in half
precision, as both compute in float32. Rounding the weights of these networks moves transformers' own logits by half a
point; a file may add 2e-2 to that.

int8 and int4: against transformers on the very weights that the file holds, whose activations are not rounded. ONNX
Runtime rounds them by blocks of 32 like the core, and the same bound holds, 15 % of the logits' root mean square
(test_oracle_quantized.py). LiteRT has one scale for all activations of a token, so that an error is greatest/127 of a
row, 1.6 times as much for 256 normal numbers: 25 %. What is seen is printed by `pytest -rP`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import gemlet
import numpy as np
import pytest
from gemlet.conversion import convert
from gemlet.exporters import export
from gemlet.exporters.progress import Progress
from gemlet.exporters.quants import QUANTS, find_quant
from gemlet.exporters.requantise import requantise
from gemlet.exporters.source import Source
from gemlet.exporters.tflite import packing
from numpy.typing import NDArray

pytest.importorskip("torch", reason="needs the [live] extra")
pytest.importorskip("transformers", reason="needs the [live] extra")

from oracle_models import MODELS, QUANTISABLE, dequantised, tokens
from reference import Reference, rms
from tiny import Tiny, write_checkpoint

pytestmark = [pytest.mark.live, pytest.mark.filterwarnings("default")]

FORMATS = ("onnx", "tflite")
QUANTISED = dataclasses.replace(QUANTISABLE, layers="ssFssF", sparsity=(0.95, 0.8, 0.0, 0.5, 0.0, 0.0))
BOUNDS = {"onnx": 0.15, "tflite": 0.25}


def stepped(model: gemlet.Model, ids: list[int], prompt: int) -> NDArray[np.float32]:
    """Logits of a prefill and of single steps behind it, from the last token of the prompt on."""
    session = model.session()
    return np.stack([session.prefill(ids[:prompt]), *(session.step(token) for token in ids[prompt:])])


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", MODELS)
def test_float32(name: str, format: str, tmp_path: Path) -> None:
    tiny = MODELS[name]
    checkpoint = write_checkpoint(tmp_path / "checkpoint", tiny)
    model = gemlet.load(export(checkpoint, tmp_path / "out", format, "fp32", context=128, prefill=(7, 16)).path)
    reference = Reference(tiny)
    ids = tokens(tiny, 3 * tiny.window + 9)
    prompt = tiny.window + 2
    assert np.abs(stepped(model, ids, prompt) - reference.logits(ids)[prompt - 1 :]).max() < 1e-3
    start = ids[:5]
    bias = {token: -1e9 for token in range(tiny.vocab) if model.is_end(token)}
    answer = model.generate(start, temperature=0.0, max_tokens=2 * tiny.window, logit_bias=bias)
    greedy: list[int] = []
    for _ in range(2 * tiny.window):
        logits = reference.logits([*start, *greedy])[-1].copy()
        logits[list(bias)] = -np.inf
        greedy.append(int(np.argmax(logits)))
    assert answer.tokens == greedy


@pytest.mark.parametrize("format", FORMATS)
def test_float16(format: str, tmp_path: Path) -> None:
    tiny = Tiny()
    checkpoint = write_checkpoint(tmp_path / "checkpoint", tiny)
    model = gemlet.load(export(checkpoint, tmp_path / "out", format, "fp16", context=128).path)
    ids = tokens(tiny, 40)
    found = stepped(model, ids, 9)
    halved, _ = dequantised(convert(checkpoint, tmp_path / "f16.gguf", "f16").path, tiny)
    same_weights, exact = Reference(tiny, halved).logits(ids)[8:], Reference(tiny).logits(ids)[8:]
    assert np.abs(found - same_weights).max() < 1e-3
    off, own = np.abs(found - exact).max(), np.abs(same_weights - exact).max()
    print(f"{format}: {off:.3f} from the network before its weights were rounded; transformers itself {own:.3f}")
    assert off < own + 2e-2


def by_rows(weights: dict[str, NDArray[np.float32]], quantised: list[str]) -> dict[str, NDArray[np.float32]]:
    """int8 with one scale for each row, as LiteRT has them; the tied embedding too."""
    out = dict(weights)
    for module in [*(name.removeprefix("model.") for name in quantised), "embed_tokens"]:
        name = f"{module}.weight"
        if name in out:
            scales = np.abs(out[name]).max(axis=1, keepdims=True) / 127
            out[name] = np.rint(out[name] / scales).astype(np.float32) * scales
    return out


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("quant", ["int8", "int4"])
def test_quantised(format: str, quant: str, tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", QUANTISED)
    done = export(checkpoint, tmp_path / "out", format, quant, context=64)
    chosen = find_quant(quant)
    float_gguf = convert(checkpoint, tmp_path / "bf16.gguf", "bf16").path
    gguf = convert(checkpoint, tmp_path / "q.gguf", chosen.recipe_name, head=chosen.head).path
    if format == "tflite" and quant == "int4":
        requantise(Source(float_gguf), chosen.recipe, gguf, Progress(), positive=True)
    weights, quantised = dequantised(gguf, QUANTISED)
    if format == "tflite":
        eight = [name for name in quantised if quant == "int8" or not _is_layer_matrix(name)]
        weights = by_rows(weights, eight)
    ids = tokens(QUANTISED, 36)
    found = stepped(gemlet.load(done.path), ids, 10)
    exact = Reference(QUANTISED, weights).logits(ids)[9:]
    relative = rms(found - exact) / rms(exact)
    print(f"{format} {quant}: {relative:.3f} of the logits' root mean square")
    assert relative < BOUNDS[format]


def _is_layer_matrix(name: str) -> bool:
    """What int4 stores in four bits; the head and the glue have eight (quants.py)."""
    return ".layers." in name and "laurel" not in name


def test_row_codes_are_what_the_oracle_uses(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", QUANTISED)
    source = Source(convert(checkpoint, tmp_path / "q8.gguf", "q8_0").path)
    matrix = source.matrix("blk.1.ffn_up.weight")
    scales = packing.row_scales(source, matrix)
    codes = np.concatenate(list(packing.row_codes(source, matrix, scales)))
    exact = np.concatenate(list(source.floats(matrix)))
    apart = np.abs(codes - by_rows({"x.weight": exact}, ["x"])["x.weight"] / scales[:, None])
    assert apart.max() < 1.01 and (apart > 0.01).mean() < 0.01, "the same but for ties"
    assert set(QUANTS) == {"fp32", "fp16", "int8", "int4"}
