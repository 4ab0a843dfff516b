"""Google's Gemma models on small machines: load a GGUF file, generate, and stream the completion.

>>> import gemlet
>>> model = gemlet.load("nano")
>>> answer = model.chat().send("What is the capital of France?").text
"""

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from gemlet.arguments import checked
from gemlet.errors import (
    ArgumentError,
    ArgumentTypeError,
    CancelledError,
    ContextError,
    FileError,
    FormatError,
    GemletError,
    OutOfMemoryError,
    OverloadError,
    TemplateError,
    UnsupportedError,
)
from gemlet.forked import importing
from gemlet.info import ModelInfo, TensorInfo
from gemlet.media import Audio, Image
from gemlet.model import Model, load
from gemlet.options import GenerateOptions
from gemlet.result import FinishReason, GenerateResult, Piece, Stats, TokenLogProb
from gemlet.scoring import perplexity
from gemlet.session import Session, step_batch
from gemlet.slicing import Slice, SliceLike
from gemlet.stream import Stream
from gemlet.version import __version__

if TYPE_CHECKING:
    from gemlet.chat.conversation import Chat
    from gemlet.chat.messages import Message
    from gemlet.conversion import Conversion
    from gemlet.exporters import Export

__all__ = [
    "ArgumentError",
    "ArgumentTypeError",
    "Audio",
    "CancelledError",
    "Chat",
    "ContextError",
    "FileError",
    "FinishReason",
    "FormatError",
    "GemletError",
    "GenerateOptions",
    "GenerateResult",
    "Image",
    "Message",
    "Model",
    "ModelInfo",
    "OutOfMemoryError",
    "OverloadError",
    "Piece",
    "Session",
    "Slice",
    "Stats",
    "Stream",
    "TemplateError",
    "TensorInfo",
    "TokenLogProb",
    "UnsupportedError",
    "__version__",
    "convert",
    "convert_mmproj",
    "demo",
    "export",
    "load",
    "perplexity",
    "step_batch",
]


def demo() -> Model:
    """Load the sample model that comes with gemlet: small enough to test with, too small to know much."""
    return load("nano")


@checked
def convert(
    checkpoint: str | os.PathLike[str],
    out: str | os.PathLike[str],
    quant: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    *,
    head: str | None = None,
    threads: int | None = None,
    slice: SliceLike | None = None,
    transpose_down: bool = False,
    media: bool = False,
    media_quant: str | None = None,
) -> "Conversion":
    """Convert a Hugging Face checkpoint; see gemlet.conversion.convert. Needs ``pip install 'gemlet[convert]'``."""
    with importing:
        from gemlet import conversion

    return conversion.convert(
        checkpoint,
        out,
        quant,
        progress,
        head=head,
        threads=threads,
        slice=slice,
        transpose_down=transpose_down,
        media=media,
        media_quant=media_quant,
    )


@checked
def convert_mmproj(
    checkpoint: str | os.PathLike[str],
    out: str | os.PathLike[str],
    media_quant: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    *,
    threads: int | None = None,
) -> "Conversion":
    """Convert a checkpoint's encoders of pictures and sound; see gemlet.conversion.convert_mmproj. Needs
    ``pip install 'gemlet[convert]'``."""
    with importing:
        from gemlet import conversion

    return conversion.convert_mmproj(checkpoint, out, media_quant, progress, threads=threads)


@checked
def export(
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
    media: str | os.PathLike[str] | None = None,
) -> "Export":
    """Export to ONNX, TFLite or LiteRT-LM; see gemlet.exporters.export. Needs ``pip install 'gemlet[export]'``."""
    with importing:
        from gemlet import exporters

    return exporters.export(
        source,
        out,
        format,
        quant,
        progress,
        context=context,
        prefill=prefill,
        threads=threads,
        runtime=runtime,
        media=media,
    )


def __getattr__(name: str) -> Any:
    """Import on first use what needs libraries that other programs can spare: asyncio and Jinja to chat."""
    if name == "Chat":
        with importing:
            from gemlet.chat.conversation import Chat

        return Chat
    if name == "Message":
        with importing:
            from gemlet.chat.messages import Message

        return Message
    raise AttributeError(f"module 'gemlet' has no attribute {name!r}")
