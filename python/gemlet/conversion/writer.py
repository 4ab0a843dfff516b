"""Writing the GGUF file: slab by slab, under a temporary name until it is whole."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BufferedWriter
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from gemlet import _core
from gemlet.errors import ArgumentError, FormatError, UnsupportedError
from gemlet.files import check_space, check_target, place, scratch

from .checkpoint import StoredTensor
from .errors import ConvertError
from .planned import PlannedTensor

#: Weights that are converted at a time: 64 MB in float32, whatever the size of a tensor.
_SLAB_WEIGHTS = 1 << 24

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class TypedTensor:
    """A planned tensor and the type it is stored as."""

    planned: PlannedTensor
    type: gguf.GGMLQuantizationType

    @property
    def row_bytes(self) -> int:
        block, size = gguf.GGML_QUANT_SIZES[self.type]
        return int(self.planned.cols // block * size)

    @property
    def bytes(self) -> int:
        return self.planned.rows * self.row_bytes


def thread_count(threads: int | None) -> int:
    """The threads that the quantiser runs on; one for each processor where nobody asks for a number. Raises
    ArgumentError."""
    if threads is not None and not 0 <= threads <= 256:
        raise ArgumentError(f"threads is {threads}, expected 0 to 256")
    return threads or os.cpu_count() or 1


def _encode(rows: NDArray[Any], tensor: TypedTensor, threads: int, origin: str) -> NDArray[np.uint8]:
    try:
        return _core.quantize(rows, tensor.type.name.lower(), threads)
    except ValueError as error:
        raise ConvertError(f"{origin}: {error}") from error


def _parts(planned: PlannedTensor, origin: StoredTensor) -> Iterator[NDArray[Any]]:
    """What a tensor takes from one of its sources, at most a slab at a time."""
    cols = planned.source_shape[-1]
    at_once = max(1, _SLAB_WEIGHTS // cols)
    if planned.transposed:
        (matrix,) = origin.slabs(planned.source_shape[0], cols, planned.source_shape[0], 0)
        for begin in range(0, planned.rows, at_once):
            yield np.ascontiguousarray(matrix[:, begin : min(begin + at_once, planned.rows)].T)
        return
    all_rows = min(math.prod(planned.source_shape[:-1]), planned.rows)
    for begin, end in planned.row_parts or ((0, all_rows),):
        for slab in origin.slabs(end - begin, cols, at_once, begin):
            if planned.col_parts:
                yield np.concatenate([slab[:, first:last] for first, last in planned.col_parts], axis=1)
            else:
                yield slab


def _encoded_slabs(tensor: TypedTensor, stored: dict[str, StoredTensor], threads: int) -> Iterator[NDArray[np.uint8]]:
    """The bytes of a tensor, in pieces."""
    planned = tensor.planned
    at_once = max(1, _SLAB_WEIGHTS // planned.cols)
    written = 0
    padding = None
    for source in planned.sources:
        origin = stored[source]
        for slab in _parts(planned, origin):
            if planned.shift:
                slab = origin.as_float32(slab) + np.float32(planned.shift)
            encoded = _encode(slab, tensor, threads, f"{origin.path}: tensor {origin.name}")
            padding = encoded[:1].copy() if padding is None else padding
            written += len(encoded)
            yield encoded
    if padding is None:
        padding = _encode(np.full((1, planned.cols), planned.constant, np.float32), tensor, threads, planned.name)
    while written < planned.rows:
        count = min(at_once, planned.rows - written)
        written += count
        yield np.broadcast_to(padding, (count, padding.shape[1]))


def write_gguf(
    path: Path,
    architecture: str,
    add_metadata: Callable[[gguf.GGUFWriter], None],
    tensors: list[TypedTensor],
    stored: dict[str, StoredTensor],
    threads: int,
    progress: Progress | None,
    sources: Sequence[Path],
    load: Callable[[Path], object] | None,
) -> int:
    """Writes the file and returns its size in bytes. `sources` are files that it may not replace; `load` opens the
    finished file in the core, before it gets its name.

    Raises ConvertError for weights that cannot be stored and for a file that gemlet would not load, and FileError where
    the file cannot be written.
    """
    header = gguf.GGUFWriter(None, architecture)
    add_metadata(header)
    for tensor in tensors:
        header.add_tensor_info(
            tensor.planned.name,
            tensor.planned.header_shape or tensor.planned.shape,
            np.dtype(np.float32),
            tensor.bytes,
            raw_dtype=tensor.type,
        )
    total = sum(tensor.bytes for tensor in tensors)
    check_target(path, sources)
    with scratch(path) as folder:
        check_space(folder, total, path)
        new = folder / path.name
        # gguf's writer takes tensors whole, so it writes what comes before them only.
        header.write_header_to_file(new)
        header.write_kv_data_to_file()
        header.write_ti_data_to_file()
        header.close()
        done = 0
        with new.open("ab") as file:
            for tensor in tensors:
                _align(file)
                for slab in _encoded_slabs(tensor, stored, threads):
                    file.write(np.ascontiguousarray(slab).data)
                    done += slab.size
                    if progress is not None:
                        progress(done, total)
            _align(file)
            size = file.tell()
        if load is not None:
            _check_loads(load, new, path)
        place(new, path, sources)
    return size


def _check_loads(load: Callable[[Path], object], new: Path, path: Path) -> None:
    """Raises ConvertError unless the core takes the file, whatever else was checked on the way to it."""
    try:
        load(new)
    except (FormatError, UnsupportedError) as error:
        reason = str(error).removeprefix(f"{new}: ")
        raise ConvertError(f"{path}: what this checkpoint would become cannot be loaded: {reason}") from error


def _align(file: BufferedWriter) -> None:
    file.write(bytes(-file.tell() % gguf.GGUF_DEFAULT_ALIGNMENT))
