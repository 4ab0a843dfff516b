"""``gemlet inspect``: configuration, layers and tensors of a model, and what its encoders see and hear."""

from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gemlet.cli import common
from gemlet.errors import FormatError, UnsupportedError

if TYPE_CHECKING:
    from gemlet.info import ModelInfo


def inspect(
    model: common.ModelArgument,
    tensors: Annotated[bool, typer.Option("--tensors", help="List every tensor.")] = False,
    slice: common.Slice = None,
    as_json: common.Json = False,
) -> None:
    """Show a model's configuration, its layers, its tensor types and sizes, what stays on flash, and whether the file
    holds encoders of pictures and sound. Of an mmproj file, which holds nothing else, these are shown.

    Examples:

    `gemlet inspect nano`

    `gemlet inspect model.gguf --json | jq .hyperparameters`
    """
    path = common.find_model(model)
    try:
        loaded = common.load(str(path), slice=slice)
    except UnsupportedError:
        if path.is_dir() or (encoders := _encoders(path)) is None:
            raise
        _show_encoders(path, encoders, as_json)
        return
    info = loaded.info
    found = _encoders(path) if info.encoder_bytes else None
    if as_json:
        common.show_json({**_to_dict(info), "encoders": found})
    else:
        with common.output():
            _print(info, found, tensors)


def _encoders(path: Path) -> dict[str, Any] | None:
    """What the encoders in a file or an exported folder take; None if there are none that gemlet runs."""
    from gemlet import _core

    if path.is_dir():
        from gemlet.exported.manifest import Manifest

        manifest = Manifest.read(path)
        media = manifest.media_info()
        hidden_size = manifest.info["hidden_size"]
        return {"sees": media.vision is not None, "hears": media.audio is not None, "hidden_size": hidden_size}
    try:
        encoders = _core.Encoders.load(path, 1)
    except (FormatError, UnsupportedError):
        return None
    return {"sees": encoders.sees, "hears": encoders.hears, "hidden_size": encoders.hidden_size}


def _media(encoders: dict[str, Any] | None) -> str:
    """What encoders take, in words."""
    media = {"sees": "pictures", "hears": "sound"}
    return " and ".join(word for name, word in media.items() if encoders is not None and encoders[name])


def _show_encoders(path: Path, encoders: dict[str, Any], as_json: bool) -> None:
    """Show a file of encoders alone."""
    size = path.stat().st_size
    if as_json:
        common.show_json({"architecture": "clip", "encoders": encoders, "file_bytes": size})
        return
    common.show(
        f"{path}: encoders of {_media(encoders)} for models with a hidden size of {encoders['hidden_size']}, "
        f"{common.size(size)}"
    )


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


def _print(info: "ModelInfo", encoders: dict[str, Any] | None, list_tensors: bool) -> None:
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
        "encoders": f"{_media(encoders) or 'of an unknown kind'}, {common.size(info.encoder_bytes)}"
        if info.encoder_bytes
        else "none in this file: text only",
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
