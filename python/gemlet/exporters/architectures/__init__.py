"""The architectures that can be exported, one file each."""

from __future__ import annotations

from gemlet.errors import UnsupportedError
from gemlet.exporters.architecture import Architecture

from . import gemma3n

_REGISTRY: dict[str, Architecture] = {}


def register(architecture: Architecture) -> None:
    """Add an architecture, in place of an earlier one of the same name."""
    _REGISTRY[architecture.name] = architecture


for _architecture in (gemma3n.ARCHITECTURE,):
    register(_architecture)


def by_name(name: str) -> Architecture:
    """The architecture that GGUF calls by a name. Raises UnsupportedError listing the names."""
    if name not in _REGISTRY:
        raise UnsupportedError(f"models of the architecture {name!r} are not exported, only {', '.join(_REGISTRY)}")
    return _REGISTRY[name]
