"""Quantised files against transformers on the dequantised weights.

f16 and bf16 weights meet float32 activations: the float32 tolerance holds. Quantised weights meet activations rounded to
int8 in blocks of 32, scale max|x| / 127, so each input of a product is off by at most scale / 2, uniformly: a relative
error of about max|x| / (127 sqrt(12) rms(x)), which is 0.5 % for normal numbers (max of 32 is 2.1 deviations) in every
product. Some thirty products in a row, each followed by a norm, add up to at most a few percent of a logit of 25. The
test does not rest on that: transformers is made to round the inputs of the same layers in the same way. What is left is
float32 noise, and the values that it moves across a rounding boundary: such a flip changes one input of one product by
one step, 1/127 of the block's maximum, where the whole rounding error is a random sum over all inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gemlet
import gguf
import numpy as np
import pytest
from gemlet.convert import convert
from numpy.typing import NDArray

pytest.importorskip("torch", reason="needs the [live] extra")
pytest.importorskip("transformers", reason="needs the [live] extra")

from reference import Reference, rounded_inputs
from tiny import Tiny, write_checkpoint

pytestmark = [pytest.mark.live, pytest.mark.filterwarnings("default")]

Array = NDArray[np.float32]

TINY = Tiny(
    layers="sFssF", hidden=256, heads=4, kv_heads=2, head_dim=64, ffn=(512,), ple=256, laurel=256, window=6, vocab=300
)

_LAYER = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "laurel_l": "laurel.linear_left",
    "laurel_r": "laurel.linear_right",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "inp_gate": "per_layer_input_gate",
    "proj": "per_layer_projection",
}
_WHOLE = {
    "token_embd.weight": "embed_tokens.weight",
    "per_layer_token_embd.weight": "embed_tokens_per_layer.weight",
    "per_layer_model_proj.weight": "per_layer_model_projection.weight",
}


def dequantised(path: Path, tiny: Tiny) -> tuple[dict[str, Array], list[str]]:
    """The file's weights by transformers' names, decoded by the gguf package, and the modules of the quantised ones."""
    weights, quantised = tiny.weights(), []
    plain = (gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16, gguf.GGMLQuantizationType.BF16)
    for tensor in gguf.GGUFReader(path).tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(tensor.shape[::-1].tolist())
        names: dict[str, Array] = {}
        if tensor.name in _WHOLE:
            names = {_WHOLE[tensor.name]: values}
        elif tensor.name in ("altup_proj.weight", "altup_unembd_proj.weight"):
            kind = "altup_projections" if tensor.name == "altup_proj.weight" else "altup_unembed_projections"
            names = {f"{kind}.{i}.weight": matrix for i, matrix in enumerate(values)}
        elif tensor.name.startswith("blk.") and tensor.name.split(".")[2] in _LAYER:
            _, layer, part, _ = tensor.name.split(".")
            names = {f"layers.{layer}.{_LAYER[part]}.weight": values}
        for name, value in names.items():
            assert value.size and weights[name].shape[1:] == value.shape[1:]
            weights[name] = np.ascontiguousarray(value[: len(weights[name])], np.float32)
            if tensor.tensor_type not in plain and not name.startswith("embed_tokens"):
                quantised.append("model." + name.removesuffix(".weight"))
        if tensor.name == "token_embd.weight" and tensor.tensor_type not in plain:
            quantised.append("lm_head")
    return weights, quantised


def random_blocks(
    kind: gguf.GGMLQuantizationType, rows: int, cols: int, deviation: float, seed: int
) -> NDArray[np.uint8]:
    """Valid blocks of random bits, with scales that give about the wanted deviation."""
    block, size = gguf.GGML_QUANT_SIZES[kind]
    random = np.random.default_rng(seed)
    data = random.integers(0, 256, (rows, cols // block, size), np.uint8)
    # where the half-precision scales lie, and the deviation of the codes under a scale of one (measured)
    places = {"Q4_K": ((0, 1.0), (2, 0.5)), "Q5_K": ((0, 1.0), (2, 0.5)), "Q6_K": ((208, 1.0),)}[kind.name]
    for at, share in places:
        data[..., at : at + 2] = np.frombuffer(np.float16(share).tobytes(), np.uint8)
    spread = float(gguf.quants.dequantize(data.reshape(rows, -1), kind).std())
    for at, share in places:
        data[..., at : at + 2] = np.frombuffer(np.float16(share * deviation / spread).tobytes(), np.uint8)
    return data.reshape(rows, -1)


def with_k_quants(source: Path, target: Path, kind: gguf.GGMLQuantizationType) -> None:
    """A copy of a file whose matrices are random blocks of a type that the converter does not write."""
    reader = gguf.GGUFReader(source)
    copy = gguf.GGUFWriter(target, "gemma3n")
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        inner = field.types[1] if len(field.types) > 1 else None
        copy.add_key_value(field.name, field.contents(), field.types[0], inner)
    for i, tensor in enumerate(reader.tensors):
        shape: list[int] = tensor.shape[::-1].tolist()
        if len(shape) == 2 and tensor.n_elements > 4096 and "altup" not in tensor.name:
            blocks = random_blocks(kind, shape[0], shape[1], 1 / np.sqrt(shape[1]), i)
            copy.add_tensor(tensor.name, blocks, raw_dtype=kind)
        else:
            copy.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    copy.write_header_to_file()
    copy.write_kv_data_to_file()
    copy.write_tensors_to_file()
    copy.close()


def compare(path: Path, tolerance: float, exact: float) -> None:
    """`tolerance`: of the whole int8 error; `exact`: of what is left when transformers rounds alike."""
    ids = np.random.default_rng(3).integers(0, TINY.vocab, 25).tolist()
    ours = gemlet.load(path, cache="f32", threads=2, chunk=7).session().prefill_all(ids)
    weights, quantised = dequantised(path, TINY)
    reference = Reference(TINY, as_arrays(weights))
    plain = reference.logits(ids)
    with rounded_inputs(reference, quantised):
        rounded = reference.logits(ids)
    assert np.abs(plain).max() > 15
    assert np.abs(ours - plain).max() < tolerance
    left = np.abs(ours - rounded)
    assert left.max() < exact, f"{left.max():.2e} is left when transformers rounds alike"
    if quantised:  # and that is a small part of what the rounding does
        assert np.sqrt(np.mean(left**2)) < 0.3 * np.sqrt(np.mean((rounded - plain) ** 2))


def as_arrays(weights: Mapping[str, Any]) -> dict[str, Array]:
    return {name: np.asarray(value, np.float32) for name, value in weights.items()}


@pytest.mark.parametrize("quant", ["f16", "bf16", "q8_0", "q4_0"])
def test_converted_types(tmp_path: Path, quant: str) -> None:
    convert(write_checkpoint(tmp_path / "c", TINY), tmp_path / "m.gguf", quant)
    tolerance, exact = (1e-3, 1e-3) if quant in ("f16", "bf16") else (1.5, 0.5)
    compare(tmp_path / "m.gguf", tolerance, exact)


@pytest.mark.parametrize("kind", ["Q4_K", "Q5_K", "Q6_K"])
def test_k_quants(tmp_path: Path, kind: str) -> None:
    convert(write_checkpoint(tmp_path / "c", TINY), tmp_path / "m.gguf", "f32")
    with_k_quants(tmp_path / "m.gguf", tmp_path / "k.gguf", gguf.GGMLQuantizationType[kind])
    compare(tmp_path / "k.gguf", 1.5, 0.5)
