"""Cutting a MatFormer slice out of a checkpoint: the tensors that are left, and the configuration that goes with them.

The same slice as `gemlet.load(..., slice=...)` makes of the whole file; the same bits where a layer's width and its
part of the per-layer table are whole blocks of the types that are written, as in the published models.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from gemlet import _core

from .config import TextConfig
from .mapping import PlannedTensor


def cut(
    config: TextConfig, tensors: Sequence[PlannedTensor], slice: _core.Slice, block: int
) -> tuple[TextConfig, list[PlannedTensor]]:
    """What the slice leaves of a model. Feed-forward widths have to be multiples of `block`.

    Raises gemlet.ArgumentError for a slice that the model does not have."""
    kept = slice.apply(config.intermediate_size, _kv_layers(config), block)
    layers = [layer for layer, _ in kept]
    widths = [width for _, width in kept]
    sliced = dataclasses.replace(
        config,
        num_hidden_layers=len(layers),
        num_kv_shared_layers=sum(layer >= config.first_shared_layer for layer in layers),
        intermediate_size=tuple(widths),
        layer_types=tuple(config.layer_types[layer] for layer in layers),
        activation_sparsity_pattern=tuple(config.activation_sparsity_pattern[layer] for layer in layers),
    )
    return sliced, [cut for tensor in tensors for cut in _cut_tensor(tensor, config, layers, widths)]


def _kv_layers(config: TextConfig) -> list[int]:
    """The layer whose keys and values each layer reads: its own, or the last unshared one of its kind's."""
    own = range(config.first_shared_layer)
    return [
        layer if layer in own else max(other for other in own if config.layer_types[other] == kind)
        for layer, kind in enumerate(config.layer_types)
    ]


def _cut_tensor(
    tensor: PlannedTensor, config: TextConfig, layers: list[int], widths: list[int]
) -> Iterator[PlannedTensor]:
    ple = config.hidden_size_per_layer_input
    inputs = tuple((layer * ple, (layer + 1) * ple) for layer in layers)
    if tensor.name == "per_layer_token_embd.weight":
        yield dataclasses.replace(tensor, shape=(tensor.rows, len(layers) * ple), col_parts=inputs)
    elif tensor.name == "per_layer_model_proj.weight":
        yield dataclasses.replace(tensor, shape=(len(layers) * ple, tensor.cols), row_parts=inputs)
    elif not tensor.name.startswith("blk."):
        yield tensor
    else:
        _, layer, part, _ = tensor.name.split(".")
        if int(layer) not in layers:
            return
        position = layers.index(int(layer))
        width = widths[position]
        tensor = dataclasses.replace(tensor, name=f"blk.{position}.{part}.weight")
        if part in ("ffn_gate", "ffn_up"):
            tensor = dataclasses.replace(tensor, shape=(width, tensor.cols), row_parts=((0, width),))
        elif part == "ffn_down_t":
            tensor = dataclasses.replace(tensor, shape=(width, tensor.cols))
        elif part == "ffn_down":
            tensor = dataclasses.replace(tensor, shape=(tensor.rows, width), col_parts=((0, width),))
        yield tensor
