"""Matching a checkpoint's tensors against what its configuration asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from .architecture import Architecture
from .checkpoint import StoredTensor
from .config import TextConfig
from .errors import ConvertError
from .planned import PlannedTensor, one

#: Where published checkpoints and `save_pretrained` put the text model; the longest that fits is taken off.
_TEXT_PREFIXES: Final = ("model.language_model.", "language_model.model.", "language_model.", "model.")
_EMBEDDING: Final = "embed_tokens.weight"
_HEAD: Final = "lm_head.weight"


@dataclass(frozen=True)
class Plan:
    """The tensors to write, the checkpoint's tensors by the names that `sources` use, and what was left out."""

    tensors: list[PlannedTensor]
    stored: dict[str, StoredTensor]
    left_out: list[str]


def _text_name(name: str, outside: tuple[str, ...]) -> str | None:
    """The name inside the text model; None for a tensor of another part."""
    if name.removeprefix("model.").startswith(outside):
        return None
    if name.endswith(_HEAD):
        return _HEAD
    for prefix in _TEXT_PREFIXES:
        if name.startswith(prefix):
            return name[len(prefix) :]
    return name


def plan(architecture: Architecture[Any], config: TextConfig, tensors: dict[str, StoredTensor]) -> Plan:
    """Decides what the file holds. Raises one ConvertError that lists every tensor of the checkpoint that is missing,
    unknown, misshapen or of a type that cannot be read."""
    stored: dict[str, StoredTensor] = {}
    left_out: list[str] = []
    problems: list[str] = []
    for name, tensor in tensors.items():
        inner = _text_name(name, architecture.outside)
        if inner is None:
            left_out.append(name)
        elif inner in stored:
            problems.append(f"extra: {name} stands for the same tensor as {stored[inner].name}")
        else:
            stored[inner] = tensor

    planned: list[PlannedTensor] = []
    expected: dict[str, tuple[int, ...]] = {}
    for wanted in architecture.tensors(config):
        if wanted.absent != "refused" and not any(source in stored for source in wanted.sources):
            if wanted.absent == "zeros":
                planned.append(PlannedTensor(wanted.name, wanted.shape, (), ()))
            continue
        planned.append(wanted)
        expected.update(dict.fromkeys(wanted.sources, wanted.source_shape))
    head = stored.get(_HEAD)
    if head is not None or not config.tie_word_embeddings:
        expected[_HEAD] = (config.vocab_size, config.hidden_size)

    for name, shape in expected.items():
        found = stored.get(name)
        if found is None:
            problems.append(f"missing: {name} {list(shape)}")
        elif (problem := found.misfit(shape)) is not None:
            problems.append(problem)
    problems += [
        f"extra: {tensor.name} {list(tensor.shape)}"
        for name, tensor in stored.items()
        if name not in expected and not architecture.unused(config, name)
    ]
    if problems:
        raise ConvertError.listing(f"{len(problems)} tensors do not fit the configuration", sorted(problems))

    if head is not None and not head.equals(stored[_EMBEDDING]):
        planned.insert(1, one("output", _HEAD, config.vocab_size, config.hidden_size))
    return Plan(planned, stored, left_out)
