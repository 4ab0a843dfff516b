"""LiteRT, which runs TFLite files."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import math
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gemlet.errors import FormatError

from .weight_cache import weight_cache

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .runner import Want

MODEL: Final = "model.tflite"

_CACHE: Final = "kv_cache_"
_PREFILL: Final = "prefill_"


class TfliteCache:
    """Keys and values, each float32 [1, kv_heads, context, head_dim], by their names in the signatures."""

    def __init__(self, model: Any, shapes: Mapping[str, Sequence[int]]) -> None:
        """Make an empty cache. Its memory is zero, since what is masked is still multiplied."""
        self._model = model
        self._shapes = shapes
        self.buffers = {name: model.create_input_buffer_by_name("decode", name) for name in shapes}
        for name, shape in shapes.items():
            self.buffers[name].write(np.zeros(shape, np.float32))
        self._length = 0

    @property
    def length(self) -> int:
        """Number of positions held."""
        return self._length

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return 4 * sum(math.prod(shape) for shape in self._shapes.values())

    def truncate(self, length: int) -> None:
        """Forget all but the first `length` positions: later ones are masked until they are written again."""
        self._length = min(length, self._length)

    def extend(self, count: int) -> None:
        """Hold `count` more positions, which were written."""
        self._length += count

    def copy(self) -> TfliteCache:
        """A copy of the memory."""
        other = TfliteCache(self._model, self._shapes)
        for name, shape in self._shapes.items():
            other.buffers[name].write(self.buffers[name].read(math.prod(shape), np.float32).reshape(shape))
        other._length = self._length
        return other


class _Signature:
    """One graph of the file with its own small inputs and outputs."""

    def __init__(self, model: Any, name: str) -> None:
        self._model = model
        self._name = name
        inputs = model.get_input_tensor_details(name)
        self.length: int = inputs["tokens"]["shape"][1]
        self.caches = {key: tuple(value["shape"]) for key, value in inputs.items() if key.startswith(_CACHE)}
        self._tokens = model.create_input_buffer_by_name(name, "tokens")
        self._positions = model.create_input_buffer_by_name(name, "input_pos")
        logits = model.get_output_tensor_details(name).get("logits")
        self.vocabulary: int = 0 if logits is None else logits["shape"][2]
        self._logits = None if logits is None else model.create_output_buffer_by_name(name, "logits")

    def run(self, cache: TfliteCache, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Write the tokens' keys and values behind what the cache holds, in place; the logits after the last one, (1,
        vocabulary), or (0, 0) from a prompt signature. Tokens that are missing count as 0, and what is written for them
        lies behind the end."""
        padded = np.zeros((1, self.length), np.int32)
        padded[0, : len(tokens)] = tokens
        self._tokens.write(padded)
        self._positions.write(np.arange(cache.length, cache.length + self.length, dtype=np.int32))
        outputs = dict(cache.buffers)
        if self._logits is not None:
            outputs["logits"] = self._logits
        inputs = {"tokens": self._tokens, "input_pos": self._positions, **cache.buffers}
        self._model.run_by_name(self._name, inputs, outputs)
        cache.extend(len(tokens))
        if self._logits is None:
            return np.zeros((0, 0), np.float32)
        logits: NDArray[np.float32] = self._logits.read(self.vocabulary, np.float32).reshape(1, -1)
        return logits


class TfliteRunner:
    """A file that gemlet.export wrote, in LiteRT on the CPU. Used by any number of threads, which take turns."""

    def __init__(self, model: Path, context: int, threads: int) -> None:
        """Raises FormatError for a file that LiteRT does not take, or another graph than an exported one."""
        import ai_edge_litert
        from ai_edge_litert.compiled_model import CompiledModel
        from ai_edge_litert.hardware_accelerator import HardwareAccelerator
        from ai_edge_litert.options import CpuOptions, Options

        self.runtime = f"ai-edge-litert {ai_edge_litert.__version__}"
        try:
            with _quiet(), weight_cache(model, self.runtime) as packed:
                cpu = CpuOptions(num_threads=threads, xnnpack_weight_cache_path=packed)
                options = Options(hardware_accelerators=HardwareAccelerator.CPU, cpu_options=cpu)
                self._model = CompiledModel.from_file(str(model), environment=_environment(), options=options)
                names = list(self._model.get_signature_list())
                prompts = [_Signature(self._model, name) for name in names if name.startswith(_PREFILL)]
                self._decode = _Signature(self._model, "decode")
                self.empty()  # the first write to a buffer makes LiteRT look for accelerators again
        except Exception as error:  # LiteRT has no types of its own
            raise FormatError(f"{model}: LiteRT does not load it: {error}") from error
        self._prompts = sorted(prompts, key=lambda signature: -signature.length)
        self._most = next(iter(self._decode.caches.values()))[2]
        self._turn = threading.Lock()  # the signatures' inputs and outputs are the runner's
        self.context = context
        self.threads = threads

    def empty(self) -> TfliteCache:
        """An empty cache, with memory for the whole context."""
        return TfliteCache(self._model, self._decode.caches)

    def run(self, cache: TfliteCache, tokens: Sequence[int], want: Want) -> NDArray[np.float32]:
        """Append tokens; the logits of all of them, which takes a step for each, of the last, or of none."""
        prompt = {"all": tokens[:0], "last": tokens[:-1], "none": tokens}[want]
        with self._turn:
            begin = self._prefill(cache, prompt)
            found = [self._decode.run(cache, [token]) for token in tokens[begin:]]
        if want != "all":
            found = found[-1:]
        return np.concatenate(found) if found else np.zeros((0, self._decode.vocabulary), np.float32)

    def _prefill(self, cache: TfliteCache, tokens: Sequence[int]) -> int:
        """Append as many as prompt signatures are worth running for; how many that were."""
        done = 0
        while done < len(tokens):
            left = len(tokens) - done
            room = self._most - cache.length
            fitting = [signature for signature in self._prompts if signature.length <= room]
            # A signature that is filled by half is still quicker than single steps.
            worth = [signature for signature in fitting if 2 * left >= signature.length]
            if not worth:
                break
            count = min(left, worth[0].length)
            worth[0].run(cache, tokens[done : done + count])
            done += count
        return done


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """LiteRT tells the error stream what accelerators it looks for and does not find, and has no setting for that.

    What else the process writes there meanwhile is lost too.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@functools.cache
def _environment() -> Any:
    """One for the process, never taken down: LiteRT would tell the error stream of every accelerator that goes."""
    from ai_edge_litert.environment import Environment

    environment = Environment.create()
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(environment))
    atexit.register(_end_quietly)
    return environment


def _end_quietly() -> None:
    """LiteRT takes another environment, of its own, down after Python has ended."""
    sys.stderr.flush()
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)


def open_runner(folder: Path, context: int, threads: int) -> TfliteRunner:
    """The model in an exported folder, whose sequences hold at most `context` tokens."""
    return TfliteRunner(folder / MODEL, context, threads)
