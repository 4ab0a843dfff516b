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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gemlet.errors import FormatError
from gemlet.forked import abandon, importing, renew_in_children

from .weight_cache import weight_cache

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .runner import Media, Want

MODEL: Final = "model.tflite"

_CACHE: Final = "kv_cache_"
_PREFILL: Final = "prefill_"
_EMBED: Final = "embed_"
_TOKENS: Final = ("tokens",)
_EMBEDDED: Final = ("embeddings", "per_layer_embeddings")


class TfliteCache:
    """Keys and values, each float32 [1, kv_heads, context, head_dim], by their names in the signatures."""

    def __init__(self, model: Any, shapes: Mapping[str, Sequence[int]]) -> None:
        """Make an empty cache. Its memory is zero, since what is masked is still multiplied."""
        self._model = model
        self._shapes = shapes
        self.buffers = _buffers(model, {name: np.zeros(shape, np.float32) for name, shape in shapes.items()})
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
        for name, values in self._values().items():
            other.buffers[name].write(values)
        other._length = self._length
        return other

    def move_to(self, model: Any) -> None:
        """Use the memory of a model that a forked child has loaded, instead of what it has inherited."""
        if model is not self._model:
            abandon(self.buffers)
            self.buffers = _buffers(model, self._values())
            self._model = model

    def _values(self) -> dict[str, NDArray[np.float32]]:
        return {
            name: self.buffers[name].read(math.prod(shape), np.float32).reshape(shape)
            for name, shape in self._shapes.items()
        }


def _buffers(model: Any, values: Mapping[str, NDArray[np.float32]]) -> dict[str, Any]:
    buffers = {name: model.create_input_buffer_by_name("decode", name) for name in values}
    for name, value in values.items():
        buffers[name].write(value)
    return buffers


@dataclass(frozen=True)
class _Tokens:
    """Some of a prompt, as the signatures take it: by the names of their inputs, values of each token."""

    values: Mapping[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(next(iter(self.values.values())))

    def __getitem__(self, part: slice) -> _Tokens:
        return _Tokens({name: values[part] for name, values in self.values.items()})


def _padded(values: NDArray[Any], length: int) -> NDArray[Any]:
    """[1, length, ...], zeros behind the values."""
    padded = np.zeros((1, length, *values.shape[1:]), values.dtype)
    padded[0, : len(values)] = values
    return padded


class _Embedder:
    """The graph that embeds so many tokens."""

    def __init__(self, model: Any, name: str) -> None:
        self._model = model
        self._name = name
        self.length: int = model.get_input_tensor_details(name)["tokens"]["shape"][1]
        self._tokens = model.create_input_buffer_by_name(name, "tokens")
        details = model.get_output_tensor_details(name)
        self._shapes = {key: tuple(value["shape"]) for key, value in details.items()}
        self._outputs = {key: model.create_output_buffer_by_name(name, key) for key in details}

    def run(self, tokens: NDArray[np.int32]) -> _Tokens:
        """Of at most as many tokens as the graph takes."""
        self._tokens.write(_padded(tokens, self.length))
        self._model.run_by_name(self._name, {"tokens": self._tokens}, self._outputs)
        found = {
            name: self._outputs[name].read(math.prod(shape), np.float32).reshape(shape)[0, : len(tokens)]
            for name, shape in self._shapes.items()
        }
        return _Tokens(found)


class _Signature:
    """One graph of the file with its own small inputs and outputs."""

    def __init__(self, model: Any, name: str) -> None:
        self._model = model
        self._name = name
        inputs = model.get_input_tensor_details(name)
        shapes = {key: value["shape"] for key, value in inputs.items() if key in (*_TOKENS, *_EMBEDDED)}
        self.length: int = next(iter(shapes.values()))[1]
        self.caches = {key: tuple(value["shape"]) for key, value in inputs.items() if key.startswith(_CACHE)}
        self._given = {key: model.create_input_buffer_by_name(name, key) for key in shapes}
        self._positions = model.create_input_buffer_by_name(name, "input_pos")
        logits = model.get_output_tensor_details(name).get("logits")
        self.vocabulary: int = 0 if logits is None else logits["shape"][2]
        self._logits = None if logits is None else model.create_output_buffer_by_name(name, "logits")

    def run(self, cache: TfliteCache, tokens: _Tokens) -> NDArray[np.float32]:
        """Write the tokens' keys and values behind what the cache holds, in place; the logits after the last one, (1,
        vocabulary), or (0, 0) from a prompt signature. Tokens that are missing count as 0, and what is written for them
        lies behind the end."""
        for name, values in tokens.values.items():
            self._given[name].write(_padded(values, self.length))
        self._positions.write(np.arange(cache.length, cache.length + self.length, dtype=np.int32))
        outputs = dict(cache.buffers)
        if self._logits is not None:
            outputs["logits"] = self._logits
        inputs = {**self._given, "input_pos": self._positions, **cache.buffers}
        self._model.run_by_name(self._name, inputs, outputs)
        cache.extend(len(tokens))
        if self._logits is None:
            return np.zeros((0, 0), np.float32)
        logits: NDArray[np.float32] = self._logits.read(self.vocabulary, np.float32).reshape(1, -1)
        return logits


@contextlib.contextmanager
def compiled(model: Path, threads: int) -> Iterator[Any]:
    """Load a file in LiteRT. Its packed weights are kept when what is done with it has ended."""
    with importing:
        from ai_edge_litert.compiled_model import CompiledModel
        from ai_edge_litert.hardware_accelerator import HardwareAccelerator
        from ai_edge_litert.options import CpuOptions, Options

    with _silence, weight_cache(model, runtime_name()) as packed:
        cpu = CpuOptions(num_threads=threads, xnnpack_weight_cache_path=packed)
        options = Options(hardware_accelerators=HardwareAccelerator.CPU, cpu_options=cpu)
        yield CompiledModel.from_file(str(model), environment=_environment(), options=options)


def runtime_name() -> str:
    """Name and version of the runtime."""
    with importing:
        import ai_edge_litert

    return f"ai-edge-litert {ai_edge_litert.__version__}"


class _Loaded:
    """The file in LiteRT."""

    def __init__(self, model: Path, threads: int) -> None:
        with compiled(model, threads) as self.model:
            names = list(self.model.get_signature_list())
            prompts = [_Signature(self.model, name) for name in names if name.startswith(_PREFILL)]
            self.decode = _Signature(self.model, "decode")
            embedders = [_Embedder(self.model, name) for name in names if name.startswith(_EMBED)]
            self.empty()  # the first write to a buffer makes LiteRT look for accelerators again
        self.prompts = sorted(prompts, key=lambda signature: -signature.length)
        self.embedders = sorted(embedders, key=lambda embedder: embedder.length)
        self.most = next(iter(self.decode.caches.values()))[2]

    def empty(self) -> TfliteCache:
        """An empty cache, with memory for the whole context."""
        return TfliteCache(self.model, self.decode.caches)

    def entered(self, tokens: Sequence[int], media: Media) -> _Tokens:
        """Tokens as the signatures take them."""
        ids = np.array(tokens, np.int32)
        if not self.embedders:
            return _Tokens({_TOKENS[0]: ids})
        parts: list[_Tokens] = []
        done = 0
        while done < len(ids):
            left = len(ids) - done
            fitting = (embedder for embedder in self.embedders if embedder.length >= left)
            parts.append(next(fitting, self.embedders[-1]).run(ids[done : done + self.embedders[-1].length]))
            done += len(parts[-1])
        values = {name: np.concatenate([part.values[name] for part in parts]) for name in parts[0].values}
        for begin, rows in media:
            values[_EMBEDDED[0]][begin : begin + len(rows)] = rows
        return _Tokens(values)


class TfliteRunner:
    """A file that gemlet.export wrote, in LiteRT on the CPU. Used by any number of threads, which take turns.

    A forked child loads it again, since it has none of the runtime's threads; the caches that it inherits stay valid.
    """

    def __init__(self, model: Path, context: int, threads: int) -> None:
        """Raises FormatError for a file that LiteRT does not take, or another graph than an exported one."""
        self.runtime = runtime_name()
        self.context = context
        self.threads = threads
        self._file = model
        self._turn = threading.RLock()  # the signatures' inputs and outputs are the runner's
        self._is_inherited = False
        self._loaded = self._load()
        renew_in_children(self)

    def renew_after_fork(self) -> None:
        """In a forked child: leave the runtime's threads to the parent, and load the model again when it is needed."""
        self._turn = threading.RLock()
        abandon(self._loaded)
        self._is_inherited = True

    def empty(self) -> TfliteCache:
        """An empty cache, with memory for the whole context."""
        with self._turn:
            return self._ready().empty()

    @property
    def takes_media(self) -> bool:
        """Whether the file embeds tokens by itself."""
        return bool(self._loaded.embedders)

    def run(self, cache: TfliteCache, tokens: Sequence[int], want: Want, media: Media = ()) -> NDArray[np.float32]:
        """Append tokens; the logits of all of them, which takes a step for each, of the last, or of none."""
        count = len(tokens)
        in_prompt = {"all": 0, "last": count - 1, "none": count}[want]
        with self._turn:
            loaded = self._ready()
            cache.move_to(loaded.model)
            entered = loaded.entered(tokens, media)
            begin = self._prefill(loaded, cache, entered[:in_prompt])
            found = [loaded.decode.run(cache, entered[i : i + 1]) for i in range(begin, count)]
        if want != "all":
            found = found[-1:]
        return np.concatenate(found) if found else np.zeros((0, loaded.decode.vocabulary), np.float32)

    def _ready(self) -> _Loaded:
        if self._is_inherited:
            self._loaded = self._load()
            self._is_inherited = False
        return self._loaded

    def _load(self) -> _Loaded:
        try:
            return _Loaded(self._file, self.threads)
        except Exception as error:  # LiteRT has no types of its own
            raise FormatError(f"{self._file}: LiteRT does not load it: {error}") from error

    def _prefill(self, loaded: _Loaded, cache: TfliteCache, tokens: _Tokens) -> int:
        """Append as many as prompt signatures are worth running for; how many that were."""
        done = 0
        while done < len(tokens):
            left = len(tokens) - done
            room = loaded.most - cache.length
            fitting = [signature for signature in loaded.prompts if signature.length <= room]
            # A signature that is filled by half is still quicker than single steps.
            worth = [signature for signature in fitting if 2 * left >= signature.length]
            if not worth:
                break
            count = min(left, worth[0].length)
            worth[0].run(cache, tokens[done : done + count])
            done += count
        return done


class _Silence:
    """Sends the error stream of the process nowhere while LiteRT loads: LiteRT tells it what accelerators it looks for
    and does not find, and has no setting for that.

    Used by any number of threads: the first one to load redirects the stream, and the last one brings it back. What
    else the process writes there meanwhile is lost too.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._users = 0
        self._kept = -1
        renew_in_children(self)

    def __enter__(self) -> None:
        with self._lock:
            if self._users == 0:
                self._redirect()
            self._users += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._bring_back()

    def renew_after_fork(self) -> None:
        """In a forked child, where none of the threads goes on that were loading."""
        self._lock = threading.RLock()
        self._users = 0
        self._bring_back()

    def _redirect(self) -> None:
        if sys.stderr is not None:
            sys.stderr.flush()
        try:
            self._kept = os.dup(2)
        except OSError:  # it is closed: nothing is to be kept from it
            return
        _discard_errors()

    def _bring_back(self) -> None:
        kept, self._kept = self._kept, -1
        if kept >= 0:
            os.dup2(kept, 2)
            os.close(kept)


_silence = _Silence()


def _discard_errors() -> None:
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)


@functools.cache
def _environment() -> Any:
    """One for the process, never taken down: LiteRT would tell the error stream of every accelerator that goes."""
    with importing:
        from ai_edge_litert.environment import Environment

    environment = Environment.create()
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(environment))
    atexit.register(_end_quietly)
    return environment


def _end_quietly() -> None:
    """LiteRT takes another environment, of its own, down after Python has ended."""
    if sys.stderr is not None:
        sys.stderr.flush()
    _discard_errors()


def open_runner(folder: Path, context: int, threads: int) -> TfliteRunner:
    """The model in an exported folder, whose sequences hold at most `context` tokens."""
    return TfliteRunner(folder / MODEL, context, threads)
