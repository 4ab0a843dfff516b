"""``gemlet inspect``: configuration, layers and tensors of a model."""

from collections import Counter, defaultdict
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

    `gemlet inspect model.gguf --json | jq .hyperparameters`
    """
    info = common.load(model, slice=slice).info
    if as_json:
        common.show_json(_to_dict(info))
    else:
        with common.output():
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
    from gemlet.info import without_infinities

    return {
        **vars(info),
        "fingerprint": f"{info.fingerprint:016x}",
        "layer_info": [vars(layer) for layer in info.layer_info],
        "hyperparameters": without_infinities(info.hyperparameters),
        "parameters": info.parameters,
        "types": _types(info),
        "on_flash_bytes": sum(tensor.bytes for tensor in info.tensors if tensor.on_flash),
        "tensors": [vars(tensor) for tensor in info.tensors],
    }


def _print(info: "ModelInfo", list_tensors: bool) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    def cell(text: str) -> Text:
        return Text(common.plain(text))

    console = Console()
    layers = f"{info.layers} of {info.file_layers}" if info.layers < info.file_layers else str(info.layers)
    shared = sum(not layer.owns_kv for layer in info.layer_info)
    facts = {
        "name": info.name,
        "architecture": info.architecture,
        "parameters": common.amount(info.parameters),
        "file": common.size(info.file_bytes),
        "on flash": common.size(sum(tensor.bytes for tensor in info.tensors if tensor.on_flash)),
        "layers": layers + (f", the last {shared} share keys and values" if shared else ""),
        "hidden size": str(info.hidden_size),
        "vocabulary": str(info.vocabulary),
        "context": f"{info.context} of {info.trained_context}",
        "chat template": f"{len(info.chat_template)} characters" if info.chat_template else "none: Gemma's turn format",
        "kernels": f"{info.kernels}, {info.threads} threads",
        "fingerprint": f"{info.fingerprint:016x}",
    }
    table = Table(show_header=False, box=None)
    for name, value in facts.items():
        table.add_row(name, cell(value))
    console.print(table)

    table = Table(show_header=False, box=None, title="Hyperparameters")
    for name, entry in info.hyperparameters.items():
        table.add_row(cell(name), cell(_short(entry)))
    console.print(table)

    table = Table("layer", "attention", "keys, values", "feed forward", "bytes", title="Layers")
    for layer in info.layer_info:
        heads = f"{layer.kv_heads} x {layer.head_dim}" if layer.owns_kv else f"those of layer {layer.kv_source}"
        table.add_row(
            str(layer.index),
            f"sliding, {layer.window}" if layer.window else "full",
            heads,
            str(layer.intermediate_size),
            common.size(sum(tensor.bytes for tensor in info.tensors if tensor.name.startswith(f"blk.{layer.index}."))),
        )
    console.print(table)

    table = Table("type", "tensors", "values", "bytes", title="Types")
    for name, entry in _types(info).items():
        table.add_row(
            cell(name),
            str(entry["tensors"]),
            common.amount(entry["parameters"]),
            common.size(entry["bytes"]),
        )
    console.print(table)

    if list_tensors:
        table = Table("tensor", "type", "shape", "bytes", "", title="Tensors")
        for tensor in info.tensors:
            shape = " x ".join(map(str, tensor.shape))
            place = "on flash" if tensor.on_flash else ""
            table.add_row(
                cell(tensor.name),
                cell(tensor.type),
                shape,
                common.size(tensor.bytes),
                place,
            )
        console.print(table)


def _short(value: object) -> str:
    """A hyperparameter in a line: of a list the values that occur, and how often."""
    if isinstance(value, float):
        return f"{value:g}"
    if not isinstance(value, list):
        return str(value)
    counts = Counter(f"{entry:g}" if isinstance(entry, float) else str(entry) for entry in value)
    return ", ".join(f"{count} x {entry}" for entry, count in counts.items())
