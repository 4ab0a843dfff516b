"""The architectures that can be converted, one file each."""

from __future__ import annotations

import json
from typing import Any

from gemlet.conversion.architecture import Architecture
from gemlet.conversion.config import ConfigFile
from gemlet.conversion.errors import ConvertError

from . import gemma3, gemma3n

_REGISTRY: dict[str, Architecture[Any]] = {}


def register(architecture: Architecture[Any]) -> None:
    """Add an architecture, in place of an earlier one of the same name."""
    _REGISTRY[architecture.name] = architecture


for _architecture in (gemma3.ARCHITECTURE, gemma3n.ARCHITECTURE):
    register(_architecture)


def find(file: ConfigFile) -> Architecture[Any]:
    """The architecture of a checkpoint, by the class or the model type that config.json names. Raises ConvertError."""
    classes = file.root.get("architectures")
    model_type = file.text.get("model_type", file.root.get("model_type"))
    titles = ", ".join(architecture.title for architecture in _REGISTRY.values())
    if classes is not None:
        named = classes if isinstance(classes, list) else []
        found = [a for a in _REGISTRY.values() if any(name in a.classes for name in named)]
        if not found:
            raise ConvertError(f"{file.path}: architectures is {json.dumps(classes)[:200]}, gemlet converts {titles}")
    else:
        found = [a for a in _REGISTRY.values() if model_type in a.model_types]
        if not found:
            raise ConvertError(f"{file.path}: model_type is {json.dumps(model_type)[:80]}, gemlet converts {titles}")
    architecture = found[0]
    if model_type not in architecture.model_types:
        raise ConvertError(
            f'{file.path}: model_type is {json.dumps(model_type)[:80]}, expected "{architecture.model_types[0]}"'
        )
    return architecture


def by_name(name: str) -> Architecture[Any]:
    """The architecture that GGUF calls by a name. Raises ConvertError listing the names."""
    if name not in _REGISTRY:
        raise ConvertError(f"architecture is {name!r}, expected one of {', '.join(_REGISTRY)}")
    return _REGISTRY[name]
