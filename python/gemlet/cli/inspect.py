"""``gemlet inspect``: what is in a model file."""

import json
import math
from collections import defaultdict
from typing import TYPE_CHECKING, Annotated

import typer

from gemlet.cli import common

if TYPE_CHECKING:
    from gemlet.info import ModelInfo


def inspect(
    model: common.ModelArgument,
    tensors: Annotated[bool, typer.Option("--tensors", help="List every tensor.")] = False,
    slice: common.Slice = None,
    as_json: common.Json = False,
) -> None:
    """Show a model's configuration, its layers, its tensor types and sizes, and what stays on flash.

    Examples:

    `gemlet inspect nano`

    `gemlet inspect model.gguf --json | jq .kv_shared_layers`
    """
    info = common.load(model, slice=slice).info
    if as_json:
        print(json.dumps(_to_dict(info), ensure_ascii=False))
    else:
        _print(info, tensors)


def _types(info: "ModelInfo") -> dict[str, dict[str, int]]:
    """Tensors, values and bytes by type."""
    types: dict[str, dict[str, int]] = defaultdict(lambda: {"tensors": 0, "parameters": 0, "bytes": 0})
    for tensor in info.tensors:
        entry = types[tensor.type]
        entry["tensors"] += 1
        entry["parameters"] += tensor.elements
        entry["bytes"] += tensor.bytes
    return dict(sorted(types.items(), key=lambda item: -item[1]["bytes"]))


def _to_dict(info: "ModelInfo") -> dict[str, object]:
    return {
        **vars(info),
        "fingerprint": f"{info.fingerprint:016x}",
        "activation_sparsity": [_finite(value) for value in info.activation_sparsity],
        "parameters": info.parameters,
        "types": _types(info),
        "on_flash_bytes": sum(tensor.bytes for tensor in info.tensors if tensor.on_flash),
        "tensors": [vars(tensor) for tensor in info.tensors],
    }


def _finite(value: float) -> float | None:
    """Dense layers have no cutoff."""
    return value if math.isfinite(value) else None


def _print(info: "ModelInfo", list_tensors: bool) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    layers = f"{info.layers} of {info.file_layers}" if info.layers < info.file_layers else str(info.layers)
    facts = {
        "name": info.name,
        "architecture": info.architecture,
        "parameters": common.amount(info.parameters),
        "file": common.size(info.file_bytes),
        "on flash": common.size(sum(tensor.bytes for tensor in info.tensors if tensor.on_flash)),
        "layers": f"{layers}, the last {info.kv_shared_layers} share keys and values",
        "hidden size": f"{info.hidden_size}, {info.hidden_size_per_layer_input} for each layer's own input",
        "attention": f"{info.heads} heads, {info.kv_heads} for keys and values, of {info.head_dim}",
        "sliding window": str(info.sliding_window),
        "vocabulary": str(info.vocabulary),
        "context": f"{info.context} of {info.trained_context}",
        "chat template": f"{len(info.chat_template)} characters" if info.chat_template else "none: Gemma's turn format",
        "kernels": f"{info.kernels}, {info.threads} threads",
        "fingerprint": f"{info.fingerprint:016x}",
    }
    table = Table(show_header=False, box=None)
    for name, value in facts.items():
        table.add_row(name, Text(value))
    console.print(table)

    table = Table("layer", "attention", "keys, values", "feed forward", "sparse above", "bytes", title="Layers")
    own = info.layers - info.kv_shared_layers
    for i, index in enumerate(info.layer_index):
        kind = info.sliding[i]
        source = max((j for j in range(own) if info.sliding[j] == kind), default=i)
        cutoff = _finite(info.activation_sparsity[i])
        table.add_row(
            str(index),
            "sliding" if kind else "full",
            "own" if i < own else f"of layer {info.layer_index[source]}",
            str(info.intermediate_size[i]),
            "dense" if cutoff is None else f"mean + {cutoff:.3f} sd",
            common.size(sum(tensor.bytes for tensor in info.tensors if tensor.name.startswith(f"blk.{index}."))),
        )
    console.print(table)

    table = Table("type", "tensors", "values", "bytes", title="Types")
    for name, entry in _types(info).items():
        table.add_row(name, str(entry["tensors"]), common.amount(entry["parameters"]), common.size(entry["bytes"]))
    console.print(table)

    if list_tensors:
        table = Table("tensor", "type", "shape", "bytes", "", title="Tensors")
        for tensor in info.tensors:
            shape = " x ".join(map(str, tensor.shape))
            place = "on flash" if tensor.on_flash else ""
            table.add_row(Text(tensor.name), tensor.type, shape, common.size(tensor.bytes), place)
        console.print(table)
