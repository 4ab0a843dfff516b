"""gemlet.json: what an exported folder holds, and what runs it."""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, cast, get_args, get_type_hints

from gemlet.errors import FileError, FormatError, UnsupportedError
from gemlet.files import open_file, read_file
from gemlet.forked import importing
from gemlet.info import LayerInfo, ModelInfo, TensorInfo, without_infinities

from .media import EMBEDDERS, FILES, EncoderGraphs, ExportedEncoders, MediaInfo
from .runner import MediaRunner

if TYPE_CHECKING:
    from gemlet import _core

NAME: Final = "gemlet.json"
TOKENIZER: Final = "tokenizer.gguf"
VERSION: Final = 2

BACKENDS: Final = {"onnx": "gemlet.exported.onnx", "tflite": "gemlet.exported.tflite"}
"""The module of each format: it has `open_runner(folder, context, threads)`. Beside it lies one for the encoders, which
has `open_encoders(folder, threads)`."""

REQUIRES: Final = {"onnx": ("onnxruntime", (1, 22), (2, 0)), "tflite": ("ai-edge-litert", (2, 3), (2, 4))}
"""The package that runs each format, the oldest version that runs it, and the first that was never tried; the same as
in pyproject.toml."""

HOLDS: Final = {"onnx": ("model.onnx", "model.onnx.data"), "tflite": ("model.tflite",)}
"""The files of each format that its runtime opens. A manifest that leaves one out would let it go unchecked."""

_DIGEST_BYTES: Final = 1 << 26
_MOST_BYTES: Final = 1 << 26
"""Of a manifest. That of a model with a thousand tensors has some 200 KB."""
_INT64: Final = 1 << 63
_INT32: Final = 1 << 31
_LIMITS: Final = {"fingerprint": 1 << 64, "bytes": _INT64, "shape": _INT64}
"""What the core's integers hold, where that is more than 31 bits. None of them is negative."""

_OF_THE_RUN: Final = {"kernels", "threads", "context", "file_bytes", "encoder_bytes"}
"""Fields of ModelInfo that depend on who runs the model."""


@dataclass(frozen=True)
class Manifest:
    """Parsed gemlet.json of an exported folder."""

    format: str
    quant: str
    context: int
    """Largest number of tokens of a sequence."""
    info: dict[str, Any]
    """Fields of ModelInfo, without those that depend on the run."""
    files: dict[str, int]
    """The other files of the folder, and their sizes in bytes."""
    digests: dict[str, str]
    """SHA-256 of the first 64 MiB of each file. The graphs lie there, and a damaged graph may crash a runtime."""
    media: dict[str, Any] = field(default_factory=dict)
    """What is known of the encoders, by "vision" and "audio"; see media.py. A text model has none."""

    @classmethod
    def of_folder(
        cls,
        folder: Path,
        format: str,
        quant: str,
        context: int,
        info: ModelInfo,
        media: dict[str, Any] | None = None,
    ) -> Manifest:
        """Describe the files that are in the folder now."""
        parts = sorted(folder.iterdir())
        measured = {part.name: _measured(part) for part in parts}
        files = {name: size for name, (size, _) in measured.items()}
        digests = {name: digest for name, (_, digest) in measured.items()}
        return cls(format, quant, context, info_of(info), files, digests, media or {})

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read and check it, and that the files are there.

        Raises:
            FileError: it cannot be read, or a file is missing, or is no regular file.
            FormatError: it is malformed, or a file has another size or another beginning, or is not listed; the message
                names the field or file.
            UnsupportedError: a version or format that this gemlet does not know.
        """
        path = folder / NAME
        found = _object(path)
        if found.get("version") != VERSION:
            raise UnsupportedError(f"{path}: version is {found.get('version')!r:.80}, this gemlet reads {VERSION}")
        types = get_type_hints(cls)
        found.setdefault("media", {})
        manifest = cls(**{entry.name: _field(path, found, entry.name, types[entry.name]) for entry in fields(cls)})
        if manifest.format not in BACKENDS:
            raise UnsupportedError(f"{path}: format is {manifest.format!r:.80}, expected one of {', '.join(BACKENDS)}")
        if manifest.context < 1:
            raise FormatError(f"{path}: context is {manifest.context}, expected 1 or more")
        manifest._require(path, *HOLDS[manifest.format], TOKENIZER)
        manifest._check_files(folder)
        manifest.model_info("", 1, 1)
        if of_encoders := manifest._encoder_files():
            manifest._require(path, *of_encoders, *EMBEDDERS[manifest.format])
        return manifest

    def write(self, folder: Path) -> None:
        """Write the file. Raises OSError."""
        contents = {"version": VERSION, **vars(self)}
        if not self.media:
            del contents["media"]
        text = json.dumps(contents, ensure_ascii=False, indent=1, allow_nan=False)
        (folder / NAME).write_text(text + "\n", encoding="utf-8")

    def model_info(self, runtime: str, threads: int, context: int) -> _core._Info:
        """The model's description in this runtime. Raises FormatError for a field that is missing or wrong."""
        values: dict[str, Any] = {
            "kernels": runtime,
            "threads": threads,
            "context": context,
            "file_bytes": sum(self.files.values()),
            "encoder_bytes": sum(self.files.get(name, 0) for name in self._encoder_files()),
        }
        types = get_type_hints(ModelInfo)
        for name in types.keys() - values.keys() - {"tensors", "layer_info"}:
            values[name] = _field(Path(NAME), self.info, name, types[name])
        values["trained_context"] = context
        values["hyperparameters"] = _with_infinities(values["hyperparameters"])
        for name, value in values["hyperparameters"].items():
            if not (_is_text(name) and _is_hyperparameter(value)):
                raise FormatError(f"{NAME}: hyperparameters: {name!r:.80} is {value!r:.80}, expected values or a list")
        values["layer_info"] = [_entry(LayerInfo, layer) for layer in _field(Path(NAME), self.info, "layer_info", list)]
        values["tensors"] = [_entry(TensorInfo, tensor) for tensor in _field(Path(NAME), self.info, "tensors", list)]
        if values["layers"] != len(values["layer_info"]):
            raise FormatError(
                f"{NAME}: layers is {values['layers']}, expected {len(values['layer_info'])} as in layer_info"
            )
        return cast("_core._Info", values)

    def open(self, folder: Path, context: int, threads: int) -> MediaRunner:
        """The model in its runtime.

        Raises:
            UnsupportedError: the runtime is not installed, or older than what was tested; says what to install.
            FormatError: the runtime does not take the file.
        """
        require_runtime(self.format)
        with importing:
            backend: ModuleType = importlib.import_module(BACKENDS[self.format])
        runner: MediaRunner = backend.open_runner(folder, context, threads)
        return runner

    def media_info(self) -> MediaInfo:
        """What is known of the encoders. Raises FormatError for a field that is missing or wrong."""
        return MediaInfo.of(self.media, _field(Path(NAME), self.info, "hidden_size", int))

    def open_encoders(self, folder: Path, threads: int) -> ExportedEncoders:
        """The encoders in their runtime. Raises what `open` does."""
        require_runtime(self.format)
        with importing:
            backend: ModuleType = importlib.import_module(f"{BACKENDS[self.format]}_encoders")
        graphs: EncoderGraphs = backend.open_encoders(folder, threads)
        return ExportedEncoders(graphs, self.media_info(), str(folder))

    def _encoder_files(self) -> list[str]:
        return [name for kind in self.media_info().kinds for name in FILES[self.format][kind]]

    def _require(self, path: Path, *names: str) -> None:
        for name in names:
            if name not in self.files:
                raise FormatError(f"{path}: files: {name} is missing, which a model in {self.format} has")

    def _check_files(self, folder: Path) -> None:
        for name, size in self.files.items():
            if not _is_listing(name, size):
                raise FormatError(f"{folder / NAME}: files: expected names and sizes, found {name!r:.80}: {size!r:.80}")
            actual, digest = _measured(folder / name)
            if actual != size:
                raise FormatError(f"{folder / name}: has {actual:,} bytes, expected {size:,}")
            if self.digests.get(name) != digest:
                raise FormatError(f"{folder / name}: is not what was exported: its first bytes have changed")


def unchanged_files(folder: Path) -> set[str]:
    """The files that an exported folder lists and that are as they were written; none for any other folder."""
    try:
        manifest = _object(folder / NAME)
        files, digests = manifest["files"], manifest["digests"]
        listed = [(name, size) for name, size in files.items() if _is_listing(name, size)]
        return {name for name, size in listed if _is_as_written(folder / name, size, digests)}
    except (FileError, FormatError, KeyError, AttributeError):
        return set()


def _is_as_written(path: Path, size: int, digests: Mapping[str, object]) -> bool:
    try:
        return _measured(path) == (size, digests.get(path.name))
    except FileError:
        return False


def _is_listing(name: str, size: object) -> bool:
    """Whether a name stays in its folder, and the size is one."""
    is_name = Path(name).name == name and name not in ("", "..") and "\0" not in name
    return is_name and type(size) is int and 0 <= size < _INT64


def _measured(path: Path) -> tuple[int, str]:
    """The size of a file, and the SHA-256 of its beginning."""
    try:
        with open_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            return size, hashlib.sha256(file.read(min(size, _DIGEST_BYTES))).hexdigest()
    except (OSError, ValueError) as error:
        raise error if isinstance(error, FileError) else FileError(f"{path}: cannot be read: {error}") from error


def _object(path: Path) -> dict[str, Any]:
    """The JSON object in a file."""
    try:
        found = json.loads(read_file(path, _MOST_BYTES))
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: not JSON: {error}") from error
    if not isinstance(found, dict):
        raise FormatError(f"{path}: expected an object, found {type(found).__name__}")
    return found


def info_of(info: ModelInfo) -> dict[str, Any]:
    """The fields of a model's description that a manifest keeps."""
    kept = {name: value for name, value in vars(info).items() if name not in _OF_THE_RUN}
    kept["hyperparameters"] = without_infinities(info.hyperparameters)
    kept["layer_info"] = [vars(layer) for layer in info.layer_info]
    kept["tensors"] = [vars(tensor) for tensor in info.tensors]
    return kept


def _with_infinities(hyperparameters: dict[str, Any]) -> dict[str, Any]:
    """Read back what `without_infinities` wrote."""
    return {
        name: [-math.inf if entry is None else entry for entry in value] if isinstance(value, list) else value
        for name, value in hyperparameters.items()
    }


def require_runtime(format: str) -> None:
    """Raises UnsupportedError, with what to install, unless the package that runs a format is there in such a
    version."""
    package, oldest, beyond = REQUIRES[format]
    wanted = f"{package} from {'.'.join(map(str, oldest))} to below {'.'.join(map(str, beyond))}"
    install = f"pip install 'gemlet[{format}]'"
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        raise UnsupportedError(f"running a model in {format} needs {wanted}: {install}") from None
    if not oldest <= tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < beyond:
        raise UnsupportedError(f"running a model in {format} needs {wanted}, found {version}: {install}")


def _field(path: Path, found: dict[str, Any], name: str, type: Any) -> Any:
    if name not in found:
        raise FormatError(f"{path}: {name} is missing")
    value = found[name]
    origin = getattr(type, "__origin__", type)
    if origin is tuple:
        kind = get_args(type)[0]
        if not isinstance(value, (list, tuple)) or not all(_is(entry, kind, name) for entry in value):
            raise FormatError(f"{path}: {name} is {value!r:.80}, expected a list of {kind.__name__}")
        return tuple(value)
    if not _is(value, origin, name):
        raise FormatError(f"{path}: {name} is {value!r:.80}, expected {origin.__name__}")
    return value


def _is(value: object, kind: type, name: str) -> bool:
    """Whether a value is of a type, and the core can hold it."""
    if isinstance(value, bool) or not isinstance(value, kind):
        return kind is bool and isinstance(value, bool)
    if isinstance(value, int):
        return 0 <= value < _LIMITS.get(name, _INT32)
    return not isinstance(value, str) or _is_text(value)


def _is_text(value: str) -> bool:
    """Whether it has no half characters, which JSON can write."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_hyperparameter(value: object) -> bool:
    """Whether it is of a kind that the core keeps: a value, or values of one kind."""
    if not isinstance(value, list):
        return _is_scalar(value)
    kinds = {float if type(entry) is int else type(entry) for entry in value}
    return len(kinds) <= 1 and all(map(_is_scalar, value))


def _is_scalar(value: object) -> bool:
    if isinstance(value, int):
        return -_INT64 <= value < _INT64
    return isinstance(value, float) or (isinstance(value, str) and _is_text(value))


def _entry(kind: type[LayerInfo] | type[TensorInfo], found: Any) -> dict[str, Any]:
    """The fields of a layer or tensor, checked."""
    try:
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in found.items()}
        made = kind(**values)
    except (AttributeError, TypeError) as error:
        raise FormatError(f"{NAME}: {found!r:.80} is not a {kind.__name__}") from error
    fields_of = vars(made)
    for name, annotation in get_type_hints(kind).items():
        _field(Path(NAME), fields_of, name, annotation)
    return fields_of
