"""Google's Gemma models on small machines: load a GGUF file, ask, and read the answer as it comes.

>>> import gemlet
>>> model = gemlet.load("nano")
>>> answer = model.chat().send("What is the capital of France?").text
"""

import os
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from gemlet.errors import (
    ArgumentError,
    CancelledError,
    ContextError,
    FileError,
    FormatError,
    GemletError,
    OutOfMemoryError,
    TemplateError,
    UnsupportedError,
)
from gemlet.info import ModelInfo, TensorInfo
from gemlet.model import Model, load
from gemlet.options import GenerateOptions
from gemlet.result import FinishReason, GenerateResult, Stats, TokenLogProb
from gemlet.scoring import perplexity
from gemlet.session import Session, step_batch
from gemlet.slicing import Slice, SliceLike
from gemlet.stream import Stream

if TYPE_CHECKING:
    from gemlet.chat import Chat
    from gemlet.convert import Conversion
    from gemlet.export import Export
    from gemlet.templates import Message

__version__ = "0.1.0"

__all__ = [
    "ArgumentError",
    "CancelledError",
    "Chat",
    "ContextError",
    "FileError",
    "FinishReason",
    "FormatError",
    "GemletError",
    "GenerateOptions",
    "GenerateResult",
    "Message",
    "Model",
    "ModelInfo",
    "OutOfMemoryError",
    "Session",
    "Slice",
    "Stats",
    "Stream",
    "TemplateError",
    "TensorInfo",
    "TokenLogProb",
    "UnsupportedError",
    "convert",
    "demo",
    "export",
    "load",
    "perplexity",
    "step_batch",
]


def demo() -> Model:
    """Load the sample model that comes with gemlet: small enough to test with, too small to know much."""
    return load("nano")


def _convert(
    checkpoint: str | os.PathLike[str],
    out: str | os.PathLike[str],
    quant: str = "q4_0",
    progress: Callable[[int, int], None] | None = None,
    *,
    threads: int | None = None,
    slice: SliceLike | None = None,
    transpose_down: bool = False,
) -> "Conversion":
    """Convert a Hugging Face checkpoint; see gemlet.convert.convert. Needs ``pip install 'gemlet[convert]'``."""
    from gemlet.convert import convert

    return convert(checkpoint, out, quant, progress, threads=threads, slice=slice, transpose_down=transpose_down)


def _export(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    format: str,
    quant: str = "int4",
    progress: Callable[[int, int], None] | None = None,
    *,
    context: int | None = None,
    prefill: Sequence[int] = (32, 256),
    threads: int | None = None,
    runtime: str = "litert",
) -> "Export":
    """Export to ONNX, TFLite or LiteRT-LM; see gemlet.export.export. Needs ``pip install 'gemlet[export]'``."""
    from gemlet.export import export

    return export(
        source, out, format, quant, progress, context=context, prefill=prefill, threads=threads, runtime=runtime
    )


class _Package(ModuleType):
    """`gemlet.convert` and `gemlet.export` are functions, although importing a folder of that name sets it to the
    module, and the folders cannot be imported up front: their requirements are optional."""

    @property
    def convert(self) -> Callable[..., "Conversion"]:
        return _convert

    @convert.setter
    def convert(self, _: ModuleType) -> None:
        pass

    @property
    def export(self) -> Callable[..., "Export"]:
        return _export

    @export.setter
    def export(self, _: ModuleType) -> None:
        pass


def __getattr__(name: str) -> Any:
    """Chat and its message bring in asyncio and Jinja, which nobody needs who does not chat."""
    if name == "Chat":
        from gemlet.chat import Chat

        return Chat
    if name == "Message":
        from gemlet.templates import Message

        return Message
    raise AttributeError(f"module 'gemlet' has no attribute {name!r}")


sys.modules[__name__].__class__ = _Package
