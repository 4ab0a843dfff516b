"""Tiny models that several rooms compare with an oracle, and the weights of a converted one by transformers' names."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

from tiny import Array, Tiny

MODELS = {
    "everything": Tiny(),
    "one own KV layer": Tiny(layers="sss", shared=2, sparsity=(0.8,), window=4, heads=4, kv_heads=2, head_dim=6),
    "two own KV layers": Tiny(layers="Fssss", shared=3, hidden=35, heads=5, kv_heads=5, head_dim=8, laurel=3, ple=5),
    "three own KV layers": Tiny(layers="FsFssFF", shared=4, sparsity=(0.5,), hidden=44, heads=2, ple=24, window=9),
    "nothing shared": Tiny(layers="FssF", shared=0, sparsity=(0.0,), hidden=42, heads=6, kv_heads=3, head_dim=14),
    "full only": Tiny(layers="FFF", shared=1, sparsity=(0.95,), ffn=(170, 131, 93), window=32),
    "sliding only": Tiny(layers="ssss", shared=2, sparsity=(0.95,), window=32, laurel=7),
    "two streams": Tiny(altup=2, hidden=30, heads=3, head_dim=12),
    "five streams, the third active": Tiny(altup=5, active=2, hidden=39, heads=3, kv_heads=3),
    "active stream 1": Tiny(active=1, layers="sFsF", shared=2, sparsity=(0.8, 0.0, 0.95, 0.0)),
    "no correct scale": Tiny(correct_scale=False),
    "rope bases": Tiny(rope=321.0, local_rope=17.0, head_dim=16, window=12),
    "whole per-layer table": Tiny(vocab=295, ple_vocab=295),
    "many layers": Tiny(layers="ssFsFsssFssF", shared=8, sparsity=(0.9,) * 3 + (0.0,) * 9, hidden=28, heads=7, ple=5),
}
"""Each feature of the architecture, in models of the most different shapes."""

QUANTISABLE = Tiny(
    layers="sFssF", hidden=256, heads=4, kv_heads=2, head_dim=64, ffn=(512,), ple=256, laurel=256, window=6, vocab=300
)
"""A model whose rows are whole blocks of 256, so that every quantised type is used."""

NESTED = Tiny(
    layers="sFssFsFs",
    shared=4,
    hidden=64,
    heads=2,
    head_dim=32,
    ffn=(128, 96, 128, 128, 160, 128, 64, 128),
    sparsity=(0.95, 0.8, 0.0, 0.5, 0.0, 0.6, 0.0, 0.0),
    ple=32,
    laurel=32,
)
"""A model to cut slices from. Every width is whole blocks of 32, so that each type is what it is named after."""
NESTED_TOKENS = [2, *((31 * i + 7) % 290 for i in range(29))]

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


def tokens(tiny: Tiny, count: int, seed: int = 1) -> list[int]:
    """Random ids, some of them beyond the per-layer table."""
    random = np.random.default_rng(seed)
    ids = random.integers(0, tiny.vocab, count)
    ids[2::7] = random.integers(tiny.ple_vocab - 1, tiny.vocab, len(ids[2::7]))
    return [int(i) for i in ids]
