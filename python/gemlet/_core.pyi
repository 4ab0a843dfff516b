"""The private C++ module; mirrors cpp/bindings/python*.cpp. Text goes in and out as UTF-8 bytes."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict, overload

import numpy as np
from numpy.typing import NDArray

class _Tensor(TypedDict):
    name: str
    type: str
    shape: tuple[int, ...]
    bytes: int
    on_flash: bool

class _LayerInfo(TypedDict):
    index: int
    kv_source: int
    kv_heads: int
    head_dim: int
    window: int
    intermediate_size: int

class _Info(TypedDict):
    architecture: str
    name: str
    chat_template: str
    vocabulary: int
    hidden_size: int
    layers: int
    file_layers: int
    trained_context: int
    layer_info: list[_LayerInfo]
    hyperparameters: dict[str, Any]
    kernels: str
    threads: int
    context: int
    file_bytes: int
    encoder_bytes: int
    fingerprint: int
    tensors: list[_Tensor]

class _Work(TypedDict):
    weight_bytes: int
    multiply_adds: int
    barriers: int

class _Stats(TypedDict):
    prompt_tokens: int
    reused_tokens: int
    generated_tokens: int
    drafted_tokens: int
    accepted_tokens: int
    prefill_seconds: float
    decode_seconds: float
    first_token_seconds: float

_SampledToken = tuple[int, float, list[tuple[int, float]]]

class _Result(TypedDict):
    text: str
    tokens: list[int]
    logprobs: list[_SampledToken]
    finish_reason: Literal["stop", "length", "context", "cancelled"]
    stats: _Stats

AROUND_MEDIA: str

class Medium:
    """A picture or a sound that has been encoded."""

    def __init__(self, begin: str, rows: NDArray[np.float32], end: str = "") -> None: ...
    @property
    def begin(self) -> str: ...
    @property
    def end(self) -> str: ...
    @property
    def count(self) -> int: ...
    @property
    def content(self) -> tuple[int, int]: ...
    def rows(self) -> NDArray[np.float32]: ...

_Turn = tuple[str, bytes | Sequence[bytes | Medium], Sequence[int]]

class Prompt:
    """Tokens, with the rows of media in the places of some of them."""

    @overload
    def __init__(self, tokens: Sequence[int]) -> None: ...
    @overload
    def __init__(self, tokens: Sequence[int], media: Sequence[tuple[int, NDArray[np.float32]]]) -> None: ...
    def __len__(self) -> int: ...
    def __add__(self, other: Prompt) -> Prompt: ...
    @property
    def tokens(self) -> list[int]: ...
    @property
    def media(self) -> list[tuple[int, int, tuple[int, int]]]:
        """Begin, count and content of each."""

class Slice:
    def __init__(
        self,
        *,
        ffn_share: float = 1.0,
        ffn_widths: Sequence[int] = (),
        dropped_layers: Sequence[int] = (),
        of_layers: int = 0,
    ) -> None: ...
    @staticmethod
    def parse(text: str) -> Slice: ...
    def apply(self, widths: Sequence[int], kv_layers: Sequence[int], block: int) -> list[tuple[int, int]]: ...

class Engine:
    @staticmethod
    def load(
        path: str | os.PathLike[str],
        *,
        threads: int = 0,
        context: int = 0,
        chunk: int = 256,
        cache: str = "f16",
        slice: Slice = ...,
        kernels: str = "",
    ) -> Engine: ...
    def info(self) -> _Info: ...
    def work(self) -> _Work: ...
    def tokenize(self, text: bytes, *, bos: bool = False, special: bool = True) -> list[int]: ...
    def detokenize(self, tokens: Sequence[int], *, special: bool = False) -> bytes: ...
    def piece(self, token: int) -> bytes: ...
    def kind(self, token: int) -> Literal["normal", "unknown", "control", "user_defined", "unused", "byte"]: ...
    def find_token(self, piece: bytes) -> int | None: ...
    def is_end(self, token: int) -> bool: ...
    def fewest_tokens(self, bytes: int) -> int:
        """A text of so many bytes has at least this many tokens."""
    def files(self) -> list[Path]: ...
    @property
    def bos(self) -> int: ...
    def special_tokens(self) -> list[int]: ...
    def guarded_tokens(self) -> list[int]:
        """Tokens that nothing which somebody types may become: control tokens, the unknown token and turn markers."""
    def prompt(
        self,
        turns: Sequence[_Turn],
        end: Literal["generation_prompt", "complete", "open_answer"] = "generation_prompt",
    ) -> Prompt:
        """A conversation in the format of the model's own turn markers; each turn is (role, text or
        parts, sampled tokens)."""
    def prompt_of_medium(self, medium: Medium) -> Prompt:
        """The medium between its marks."""
    def session(self, context: int = 0) -> Session: ...
    def restore(self, path: str | os.PathLike[str], context: int = 0) -> Session: ...
    def generate_batch(self, prompts: Sequence[Sequence[int]], options: Sequence[GenerateOptions]) -> Generation: ...
    def scheduler(
        self, *, sequences: int, prompt_rows: int, max_waiting: int, prefixes: int, prefix_bytes: int
    ) -> Scheduler: ...

class Session:
    def prefill(self, tokens: Prompt | Sequence[int], all: bool = False) -> NDArray[np.float32]: ...
    def prefill_layers(self, tokens: Prompt | Sequence[int]) -> list[NDArray[np.float32]]:
        """Append tokens; the output of each layer, shape (streams, len(tokens), hidden)."""
    def logits(self) -> NDArray[np.float32]: ...
    def rewind(self, position: int) -> None: ...
    def advance_to(self, tokens: Prompt | Sequence[int]) -> int: ...
    def fork(self) -> Session: ...
    def save(self, path: str | os.PathLike[str]) -> None: ...
    def generate(self, prompt: Prompt | Sequence[int], options: GenerateOptions) -> Generation: ...
    @staticmethod
    def step_all(sessions: Sequence[Session], tokens: Sequence[int]) -> None: ...
    @property
    def context(self) -> int: ...
    @property
    def position(self) -> int: ...
    @property
    def media(self) -> list[tuple[int, int, tuple[int, int]]]: ...
    @property
    def tokens(self) -> list[int]: ...

class Sampling:
    def __init__(self) -> None: ...
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    logit_bias: dict[int, float]
    seed: int
    top_logprobs: int

class GenerateOptions:
    def __init__(self) -> None: ...
    max_tokens: int
    stop: list[str]
    speculate: str
    draft: Slice | None
    draft_tokens: int
    @property
    def sampling(self) -> Sampling: ...

class Generation:
    def next(self) -> tuple[int, str] | None: ...
    def cancel(self) -> None: ...
    def close(self) -> None: ...
    def results(self) -> list[_Result]: ...

class Scheduler:
    def submit(
        self,
        prompt: Prompt | Sequence[int],
        options: GenerateOptions,
        on_piece: Callable[[str, list[int], list[_SampledToken]], object] | None,
        on_end: Callable[[_Result | None, BaseException | None], object],
        session: Session | None,
        prefix_scope: str,
    ) -> int: ...
    def cancel(self, id: int) -> None: ...
    def load(self) -> tuple[int, int]: ...
    def run(self) -> None: ...
    def stop(self) -> None: ...

class Tokenizer:
    """The tokenizer of a GGUF file; its weights are not read."""

    def __init__(self, path: str | os.PathLike[str]) -> None: ...
    def encode(self, text: bytes, bos: bool = False, special: bool = True) -> list[int]: ...
    def decode(self, ids: Sequence[int], special: bool = False) -> bytes: ...
    def piece(self, token: int) -> bytes: ...
    def kind(self, token: int) -> Literal["normal", "unknown", "control", "user_defined", "unused", "byte"]: ...
    def find(self, piece: bytes) -> int | None: ...
    def prompt(
        self,
        turns: Sequence[_Turn],
        end: Literal["generation_prompt", "complete", "open_answer"] = "generation_prompt",
    ) -> Prompt:
        """A conversation in the vocabulary's own turn format; each turn is (role, text or
        parts, sampled tokens)."""

    def is_end(self, token: int) -> bool: ...
    def special_tokens(self) -> list[int]: ...
    @property
    def bos(self) -> int: ...
    @property
    def vocabulary(self) -> int: ...

def quantize(rows: NDArray[Any], type: str, threads: int = 1) -> NDArray[np.uint8]: ...
def dequantize(rows: NDArray[np.uint8], type: str, cols: int) -> NDArray[np.float32]: ...

class Ceiling:
    """The machine's ceilings; every figure is a rate per second."""

    def __init__(self, kernels: str, threads: int, buffer_bytes: int) -> None: ...
    @property
    def kernels(self) -> str: ...
    @property
    def threads(self) -> int: ...
    @property
    def types(self) -> list[str]: ...
    def read_bandwidth(self) -> float: ...
    def multiply_adds_of_bytes(self) -> float: ...
    def multiply_adds_of_half_bytes(self) -> float: ...
    def multiply_adds_of_floats(self) -> float: ...
    def one_token(self, type: str) -> float: ...
    def many_tokens(self, type: str) -> float: ...

class Sampler:
    """Draws tokens from logits as generation does."""

    def __init__(self, sampling: Sampling, vocabulary: int, prompt: Sequence[int] = ()) -> None: ...
    def sample(self, logits: NDArray[np.float32]) -> tuple[int, float, list[tuple[int, float]]]: ...

class _LayerShape(TypedDict):
    file_index: int
    kv_source: int
    kv_heads: int
    head_dim: int
    window: int
    rope: int
    intermediate_size: int

class _StoredTensor(TypedDict):
    type: str
    shape: tuple[int, ...]
    file: Path
    """The model file, or the part of a split one that the tensor lies in."""
    offset: int
    bytes: int

class _ModelFile(TypedDict):
    architecture: str
    hyperparameters: dict[str, Any]
    layers: list[_LayerShape]
    alignment: int
    """Alignment of the tensors, in bytes."""
    tensors: dict[str, _StoredTensor]

class _EncodersFile(TypedDict):
    mel_bins: int
    """Of the spectrogram that the audio encoder hears; 0 if there is none."""
    filled_tokens: int
    """Soft tokens that a short sound is filled up to."""
    picture_size: int
    """Of the square that pictures are resized to unless told otherwise; 0 if there is no encoder of them."""
    alignment: int
    tensors: dict[str, _StoredTensor]
    """All of the file, those of a text model beside them too."""

class _Vocabulary(TypedDict):
    pieces: list[bytes]
    kinds: list[Literal["normal", "unknown", "control", "user_defined", "unused", "byte"]]
    scores: list[float] | None
    """None if pairs merge by `merges`, each two pieces with a space between them."""
    merges: list[bytes]
    space_prefix: bool
    add_bos: bool
    bos: int
    eos: int | None
    pad: int | None
    unknown: int | None
    ends: list[int]
    """The end tokens: end of sequence, end of turn."""

def usable_cores() -> int:
    """Number of processor cores that this process can use."""

def engine_of_runner(
    tokenizer: str | os.PathLike[str], runner: object, info: _Info, *, context: int, chunk: int
) -> Engine:
    """An engine whose logits `runner` computes; see gemlet.exported.runner.Runner."""

def register_architecture(name: str, factory: Callable[[Path, int], tuple[object, dict[str, Any]]]) -> None:
    """GGUF files of this architecture are computed by what `factory(path, tokens)` returns: a runner, and a dict with
    vocabulary, hidden_size, layers, trained_context and hyperparameters. A model that is to be exported has layer_info
    too, an entry a layer as in _LayerInfo, and the hyperparameters that gemlet.exporters.source.Config reads."""

def check_target(target: str | os.PathLike[str], sources: Sequence[str | os.PathLike[str]]) -> None: ...
def place_file(
    file: str | os.PathLike[str], target: str | os.PathLike[str], sources: Sequence[str | os.PathLike[str]]
) -> None: ...
def file_checksum(path: str | os.PathLike[str]) -> int: ...
def architectures() -> list[str]: ...
def gguf_header(path: str | os.PathLike[str], tensor_count: int) -> bytes: ...
def read_model_file(path: str | os.PathLike[str]) -> _ModelFile: ...
def read_encoders_file(path: str | os.PathLike[str]) -> _EncodersFile: ...
def read_vocabulary(path: str | os.PathLike[str]) -> _Vocabulary: ...
def resize(pixels: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]: ...
def log_mel(samples: NDArray[np.float32], bins: int) -> NDArray[np.float32]:
    """The spectrogram of a whole sound as the core's audio encoder computes it, [frames][bins]."""

class Encoders:
    @staticmethod
    def load(path: str | Path, threads: int = 0, kernels: str = "") -> Encoders: ...
    @property
    def sees(self) -> bool: ...
    @property
    def hears(self) -> bool: ...
    @property
    def hidden_size(self) -> int: ...
    @property
    def picture_size(self) -> int: ...
    @property
    def picture_tokens(self) -> int: ...
    def encode(self, pixels: NDArray[np.uint8], size: int = 0) -> Encoding: ...
    def encode_sound(self, samples: NDArray[np.float32]) -> Encoding: ...
    def sound(self) -> SoundStream: ...

class Encoding:
    """A picture or a sound that is being encoded, while somebody waits for it."""

    def next(self) -> float | None:
        """The share that is done, or None at the end."""
    def cancel(self) -> None: ...
    def finish(self) -> Medium: ...

class SoundStream:
    def feed(self, samples: NDArray[np.float32]) -> None: ...
    def finish(self) -> None: ...
    def medium(self) -> Medium: ...
    def rows(self) -> NDArray[np.float32]: ...
