"""ONNX Runtime."""

from __future__ import annotations

import ctypes
import functools
import math
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gemlet.errors import FormatError
from gemlet.forked import abandon, importing, renew_in_children

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .runner import Media, Want

MODEL: Final = "model.onnx"
EMBEDDER: Final = "embedder.onnx"

_PAST: Final = "past_key_values."
_EMBEDDED: Final = ("inputs_embeds", "per_layer_inputs")
_ERRORS_ONLY: Final = 3  # log level


@functools.cache
def _onnxruntime() -> Any:
    with importing:
        import onnxruntime

    return onnxruntime


class OnnxCache:
    """Keys and values, each float32 [1, kv_heads, length, head_dim], by the names of the graph's inputs."""

    def __init__(self, values: Mapping[str, Any], length: int) -> None:
        """`values` are OrtValues, which are never written to."""
        self.values = values
        self._length = length

    @property
    def length(self) -> int:
        """Number of positions held."""
        return self._length

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return 4 * sum(int(math.prod(value.shape())) for value in self.values.values())

    def truncate(self, length: int) -> None:
        """Forget all but the first `length` positions."""
        if length < self._length:
            self.values = {
                name: _onnxruntime().OrtValue.ortvalue_from_numpy(np.ascontiguousarray(value.numpy()[:, :, :length]))
                for name, value in self.values.items()
            }
            self._length = length

    def extend(self, values: Mapping[str, Any], count: int) -> None:
        """Take the keys and values that the graph returned after `count` more tokens."""
        self.values = values
        self._length += count

    def copy(self) -> OnnxCache:
        """A copy that shares the values: the graph makes new ones at every step."""
        return OnnxCache(self.values, self._length)


class OnnxGraph:
    """A graph in ONNX Runtime on the CPU, which is loaded when it is first run. Used by any number of threads.

    A forked child loads it again, since it has none of the runtime's threads.
    """

    def __init__(self, model: Path, threads: int) -> None:
        self.model = model
        self.threads = threads
        self._loading = threading.Lock()
        self._session: Any = None
        renew_in_children(self)

    def renew_after_fork(self) -> None:
        """In a forked child: leave the runtime's threads to the parent, and load the graph again when it is needed."""
        self._loading = threading.Lock()
        if self._session is not None:
            abandon(self._session)
            self._session = None
            _end_without_the_runtime()

    @property
    def session(self) -> Any:
        """Raises FormatError for a file that ONNX Runtime does not take."""
        with self._loading:
            if self._session is None:
                options = _onnxruntime().SessionOptions()
                options.intra_op_num_threads = self.threads
                options.log_severity_level = _ERRORS_ONLY
                try:
                    self._session = _onnxruntime().InferenceSession(
                        str(self.model), options, providers=["CPUExecutionProvider"]
                    )
                except Exception as error:  # onnxruntime's own types differ from version to version
                    raise FormatError(f"{self.model}: ONNX Runtime does not load it: {error}") from error
            return self._session


class OnnxRunner:
    """A text model that gemlet.export wrote, in ONNX Runtime. Used by any number of threads. The caches that a forked
    child inherits stay valid."""

    def __init__(self, model: Path, context: int, threads: int) -> None:
        """Raises FormatError for a file that ONNX Runtime does not take, or another graph than an exported one."""
        self.threads = threads
        self.context = context
        self._graph = OnnxGraph(model, threads)
        session = self._graph.session
        inputs = {value.name: value for value in session.get_inputs()}
        self.takes_media = _EMBEDDED[0] in inputs
        self._embedder = OnnxGraph(model.with_name(EMBEDDER), threads) if self.takes_media else None
        self._embedded = [name for name in _EMBEDDED if name in inputs]
        expected = {"position_ids", "num_logits_to_keep", *(self._embedded or ["input_ids"])}
        if not expected <= inputs.keys():
            raise FormatError(f"{model}: inputs are {sorted(inputs)}, expected {sorted(expected)} among them")
        self._past = {name: value.shape for name, value in inputs.items() if name.startswith(_PAST)}
        self._outputs = [value.name for value in session.get_outputs()]
        self.runtime = f"onnxruntime {_onnxruntime().__version__}"

    def empty(self) -> OnnxCache:
        """An empty cache."""
        shapes = {name: (1, shape[1], 0, shape[3]) for name, shape in self._past.items()}
        return OnnxCache(
            {
                name: _onnxruntime().OrtValue.ortvalue_from_numpy(np.zeros(shape, np.float32))
                for name, shape in shapes.items()
            },
            0,
        )

    def run(self, cache: OnnxCache, tokens: Sequence[int], want: Want, media: Media = ()) -> NDArray[np.float32]:
        """Append tokens; the logits of all of them, or of the last, which the graph always computes."""
        positions = np.arange(cache.length, cache.length + len(tokens), dtype=np.int64)[None]
        wanted = np.array(0 if want == "all" else 1, np.int64)
        feed = dict(cache.values)
        given = {**self._entered(tokens, media), "position_ids": positions, "num_logits_to_keep": wanted}
        for name, values in given.items():
            feed[name] = _onnxruntime().OrtValue.ortvalue_from_numpy(values)
        found = dict(zip(self._outputs, self._graph.session.run_with_ort_values(self._outputs, feed), strict=True))
        logits: NDArray[np.float32] = found["logits"].numpy()[0]
        cache.extend({name: found[name.replace(_PAST, "present.")] for name in self._past}, len(tokens))
        return logits

    def _entered(self, tokens: Sequence[int], media: Media) -> dict[str, NDArray[Any]]:
        """The graph's inputs of its tokens, by name."""
        ids = np.array([tokens], np.int64)
        if self._embedder is None:
            return {"input_ids": ids}
        found = self._embedder.session.run(self._embedded, {"input_ids": ids})
        for begin, rows in media:
            found[0][0, begin : begin + len(rows)] = rows
        return dict(zip(self._embedded, found, strict=True))


def _end_without_the_runtime() -> None:
    """When it is taken down, ONNX Runtime waits for a thread that a forked child does not have. So the child, where it
    is glibc's, ends when Python has ended, with the exit status that it has."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "on_exit"):
        libc.on_exit(libc._exit, None)


def open_runner(folder: Path, context: int, threads: int) -> OnnxRunner:
    """The model in an exported folder, whose sequences hold at most `context` tokens."""
    return OnnxRunner(folder / MODEL, context, threads)
