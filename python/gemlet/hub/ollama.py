"""Models in Ollama's local store, which keeps a GGUF file under the name of its SHA-256.

manifests/registry.ollama.ai/library/MODEL/TAG     JSON that lists the layers; one of them is the model
blobs/sha256-0123...                               their contents
"""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gemlet.cache import expand, home_folder
from gemlet.errors import ArgumentError, FileError, FormatError, UnsupportedError

PREFIX = "ollama:"
_HOST = "registry.ollama.ai"
_NAMESPACE = "library"
_TAG = "latest"
_SYSTEM_STORE = Path("/usr/share/ollama/.ollama/models")  # of the service that Ollama's installer sets up on Linux
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}(:\d{1,5})?")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_LAYER = "application/vnd.ollama.image."
_MAX_MANIFEST = 1 << 20


@dataclass(frozen=True)
class OllamaModel:
    """A model of the store: its name as Ollama writes it, and its file."""

    name: str
    path: Path
    bytes: int


def find_ollama(name: str) -> Path:
    """The GGUF file of a name as in MODEL:TAG, without the prefix.

    Raises:
        ArgumentError: a name of another form.
        FileError: no such model in the store, or its file is gone or cut short.
        FormatError: a damaged manifest.
        UnsupportedError: a model that is not one GGUF file alone.
    """
    relative = _manifest_path(name)
    stores = _stores()
    unreadable = ""
    for store in stores:
        manifest = store / "manifests" / relative
        try:
            if manifest.is_file():
                return _read(store, manifest, name).path
        except PermissionError:
            unreadable = f"; {store} may not be read by this user"
    places = " and ".join(map(str, stores))
    raise FileError(f"{PREFIX}{name}: no such model in {places}{unreadable}; get it with: ollama pull {name}")


def list_ollama() -> Iterator[OllamaModel]:
    """The models of the store that gemlet could open."""
    for store in _stores():
        manifests = store / "manifests"
        for parent, _, files in os.walk(manifests):
            parts = Path(parent).relative_to(manifests).parts
            for tag in sorted(files):
                if len(parts) != 3 or not all(_PART.fullmatch(part) for part in (*parts, tag)):
                    continue
                name = f"{_shortened(parts)}:{tag}"
                try:
                    yield _read(store, Path(parent, tag), name)
                except (FileError, FormatError, UnsupportedError, PermissionError):
                    continue


def _stores() -> list[Path]:
    if named := os.environ.get("OLLAMA_MODELS"):
        return [expand(named)]
    home = home_folder()
    return [*([home / ".ollama" / "models"] if home else []), _SYSTEM_STORE]


def _manifest_path(name: str) -> Path:
    """From [HOST/][NAMESPACE/]MODEL[:TAG], with Ollama's defaults for what is left out."""
    path, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:
        path, tag = name, _TAG
    parts = path.split("/")
    parts = [*[_HOST, _NAMESPACE][: max(0, 3 - len(parts))], *parts]
    if len(parts) != 3 or not all(_PART.fullmatch(part) for part in (*parts, tag)):
        raise ArgumentError(f"{PREFIX}{name}: expected a name of Ollama's, as in {PREFIX}MODEL:TAG")
    return Path(*parts, tag)


def _shortened(parts: tuple[str, ...]) -> str:
    host, namespace, model = parts
    if host != _HOST:
        return "/".join(parts)
    return model if namespace == _NAMESPACE else f"{namespace}/{model}"


def _read(store: Path, manifest: Path, name: str) -> OllamaModel:
    layers = _layers(manifest)
    models = [layer for layer in layers if layer.get("mediaType") == f"{_LAYER}model"]
    if any(layer.get("mediaType") == f"{_LAYER}adapter" for layer in layers):
        raise UnsupportedError(f"{PREFIX}{name}: has a LoRA adapter, which gemlet would have to leave out")
    if len(models) != 1:
        raise UnsupportedError(f"{PREFIX}{name}: expected one layer with a GGUF file, found {len(models)} ({manifest})")
    digest, size = models[0].get("digest"), models[0].get("size")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise FormatError(f"{manifest}: digest: expected sha256: and 64 hexadecimal digits, found {digest!r}")
    blob = store / "blobs" / digest.replace(":", "-")
    if not blob.is_file():
        raise FileError(f"{PREFIX}{name}: its file {blob} is not there; get it again with: ollama pull {name}")
    found = blob.stat().st_size
    if found != size:
        raise FormatError(f"{blob}: expected {size} bytes, found {found}; get it again with: ollama pull {name}")
    return OllamaModel(name, blob, found)


def _layers(manifest: Path) -> list[dict[str, object]]:
    try:
        with manifest.open("rb") as file:
            parsed = json.loads(file.read(_MAX_MANIFEST))
    except OSError as error:
        raise FileError(f"{manifest}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{manifest}: expected the JSON of a manifest of Ollama's: {error}") from error
    layers = parsed.get("layers") if isinstance(parsed, dict) else None
    if not isinstance(layers, list) or not all(isinstance(layer, dict) for layer in layers):
        raise FormatError(f"{manifest}: expected a list of layers, as a manifest of Ollama's has")
    return layers
