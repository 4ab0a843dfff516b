"""Reading a checkpoint's tensors where they lie: safetensors headers, and rows by plain reads.

The files are read with `readinto`, not mapped: what a conversion keeps resident is then its own buffers, whatever the
system does with its page cache, and a file that shrinks meanwhile is an error and not a signal.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gemlet.errors import FileError
from gemlet.files import open_file

from .errors import ConvertError
from .reading import describe_foreign, read_json

_log = logging.getLogger(__name__)

#: safetensors' own limit on a header (safetensors/src/tensor.rs, MAX_HEADER_SIZE).
_MAX_HEADER_BYTES = 100_000_000
_MAX_RANK = 8

_PICKLED = "weights that PyTorch has pickled; save them as safetensors first"

#: bfloat16 has no numpy type: its bits travel as uint16.
_DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}


def describe_shape(shape: Sequence[int | None]) -> str:
    """A shape as messages give it, with n for a length that is not known."""
    return f"[{', '.join('n' if length is None else str(length) for length in shape)}]"


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies. `shape` is outermost first."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    path: Path
    offset: int

    @property
    def readable(self) -> bool:
        return self.dtype in _DTYPES

    def misfit(self, shape: Sequence[int | None]) -> str | None:
        """What is wrong with a tensor that should have this shape, or None. An axis of None has any length but 0."""
        fits = len(shape) == len(self.shape) and all(
            length > 0 if wanted is None else length == wanted for length, wanted in zip(self.shape, shape, strict=True)
        )
        if not fits:
            return f"misshapen: {self.name} is {list(self.shape)}, expected {describe_shape(shape)}"
        if not self.readable:
            return f"unreadable: {self.name} has type {self.dtype}, expected F32, F16 or BF16"
        return None

    def slabs(self, rows: int, cols: int, at_once: int, first_row: int = 0) -> Iterator[NDArray[Any]]:
        """`rows` rows of `cols` values from `first_row` on, at most `at_once` at a time: float32, float16, or uint16
        for bfloat16. A slab is valid until the next one is asked for. Raises ConvertError naming the file."""
        dtype = _DTYPES[self.dtype]
        buffer = np.empty((min(rows, at_once), cols), dtype)
        try:
            with open_file(self.path) as file:
                file.seek(self.offset + first_row * cols * dtype.itemsize)
                for first in range(0, rows, at_once):
                    slab = buffer[: min(at_once, rows - first)]
                    _read_fully(file, slab.data.cast("B"), self)
                    yield slab
        except FileError as error:
            raise ConvertError(str(error)) from error
        except OSError as error:
            raise ConvertError(f"{self.path}: cannot be read: {error.strerror}") from error

    def as_float32(self, slab: NDArray[Any]) -> NDArray[np.float32]:
        """The values of a slab."""
        if self.dtype == "BF16":
            return (slab.astype(np.uint32) << np.uint32(16)).view(np.float32)
        return slab.astype(np.float32)

    def equals(self, other: StoredTensor) -> bool:
        """Whether both hold the same bytes, read in step."""
        if (self.dtype, self.shape) != (other.dtype, other.shape):
            return False
        rows, cols = math.prod(self.shape[:-1]), self.shape[-1]
        at_once = max(1, (1 << 22) // max(1, cols))
        return all(
            np.array_equal(a.view(np.uint8), b.view(np.uint8))
            for a, b in zip(self.slabs(rows, cols, at_once), other.slabs(rows, cols, at_once), strict=True)
        )


def _read_fully(file: Any, view: memoryview, tensor: StoredTensor) -> None:
    """One read returns at most 2 GiB on Linux, and less at the end of the file."""
    while view:
        count = file.readinto(view)
        if not count:
            raise ConvertError(f"{tensor.path}: ends inside tensor {tensor.name}")
        view = view[count:]


def _read_header(path: Path) -> Iterator[StoredTensor]:
    """The tensors of one safetensors file, every one checked to lie inside it."""
    try:
        with open_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            start = file.read(64)
            length = int.from_bytes(start[:8], "little")
            if what := describe_foreign(start):
                raise ConvertError(f"{path}: is {what}")
            if size < 8 or length > min(size - 8, _MAX_HEADER_BYTES):
                raise ConvertError(f"{path}: truncated or not safetensors: a header of {length} bytes in {size}")
            file.seek(8)
            header = json.loads(file.read(length).decode("utf-8"))
    except FileError as error:
        raise ConvertError(str(error)) from error
    except OSError as error:
        raise ConvertError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, ConvertError):
            raise
        raise ConvertError(f"{path}: the safetensors header is not valid JSON: {error}") from error
    if not isinstance(header, dict):
        raise ConvertError(f"{path}: the safetensors header is not a JSON object")
    for name, entry in header.items():
        if name != "__metadata__":
            yield _tensor(path, name, entry, 8 + length, size)


def _tensor(path: Path, name: str, entry: Any, data: int, size: int) -> StoredTensor:
    try:
        dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        sane = isinstance(dtype, str) and len(shape) <= _MAX_RANK
        sane = sane and all(type(n) is int and 0 <= n < 1 << 63 for n in (*shape, begin, end))
    except (TypeError, KeyError, ValueError):
        sane = False
    if not sane:
        raise ConvertError(f"{path}: tensor {name}: malformed entry {json.dumps(entry)[:120]}")
    if not begin <= end <= size - data:
        raise ConvertError(f"{path}: truncated: tensor {name} ends at byte {data + end}, the file has {size} bytes")
    if dtype in _DTYPES and end - begin != math.prod(shape) * _DTYPES[dtype].itemsize:
        raise ConvertError(f"{path}: tensor {name}: {end - begin} bytes cannot hold {dtype} of shape {list(shape)}")
    return StoredTensor(name, dtype, shape, path, data + begin)


def read_tensors(directory: Path) -> dict[str, StoredTensor]:
    """All tensors of a checkpoint by the names they carry there: model.safetensors.index.json and its shards, or a
    single model.safetensors. Raises ConvertError, also for a folder that holds both sets of weights whole; of a broken
    and a whole set, the whole one is taken."""
    index, single = directory / "model.safetensors.index.json", directory / "model.safetensors"
    if not index.is_file():
        if not single.is_file():
            raise ConvertError(f"{directory}: neither {single.name} nor {index.name} is there{_instead(directory)}")
        return {tensor.name: tensor for tensor in _read_header(single)}
    weight_map = _weight_map(index)
    shards = sorted(set(weight_map.values()))
    present = {path.name for path in directory.iterdir() if path.is_file()}
    absent = [shard for shard in shards if shard not in present]
    if single.is_file() and single.name not in shards:
        if not absent:
            raise ConvertError(
                f"{directory}: holds two sets of weights, {single.name} and the {len(shards)} files of {index.name}; "
                "remove one of them"
            )
        _log.warning("%s: %d of its %d files are missing; %s is read", index, len(absent), len(shards), single.name)
        return {tensor.name: tensor for tensor in _read_header(single)}
    if absent:
        raise ConvertError.listing(f"{index}: {len(absent)} of {len(shards)} files are missing", absent)
    tensors: dict[str, StoredTensor] = {}
    for shard in shards:
        for tensor in _read_header(directory / shard):
            if tensor.name in tensors:
                raise ConvertError(f"{directory / shard}: tensor {tensor.name} is also in {tensors[tensor.name].path}")
            tensors[tensor.name] = tensor
    lost = [f"{name}: said to be in {shard}" for name, shard in weight_map.items() if name not in tensors]
    if lost:
        raise ConvertError.listing(f"{index}: {len(lost)} tensors are in no file", lost)
    return tensors


def _instead(directory: Path) -> str:
    """What stands in a folder in place of the weights."""
    kinds = {
        "adapter*.safetensors": "an adapter, which has to be merged into its base model first",
        "*.safetensors": "of a checkpoint in several files, whose index is missing",
        "*.gguf": "a GGUF file, which gemlet runs as it is",
        **dict.fromkeys(("pytorch_model*.bin", "*.pth", "*.pt", "*.bin"), _PICKLED),
    }
    for pattern, what in kinds.items():
        if found := sorted(path.name for path in directory.glob(pattern)):
            return f", but {found[0]}: {what}"
    return ""


def _weight_map(index: Path) -> dict[str, str]:
    """The file of each tensor, from the index of a checkpoint in several files."""
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(
        isinstance(file, str) and file == Path(file).name for file in weight_map.values()
    ):
        raise ConvertError(f"{index}: weight_map: expected an object of tensor names and file names")
    return weight_map
