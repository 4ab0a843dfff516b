"""The encoders of pictures and sound as exported models: written beside the text model, and checked by running them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gemlet import _core
from gemlet.conversion.mmproj import convert_mmproj
from gemlet.conversion.recipes import find_media_recipe
from gemlet.errors import UnsupportedError
from gemlet.exported.media import FRAMES_OF_A_TOKEN, SIZES, ExportedEncoders

from .encoders import audio_usm, vision_mobilenet_v5
from .encoders.source import AUDIO, VISION, EncoderSource
from .errors import ExportError
from .onnx import encoders as onnx
from .onnx.file import OnnxFile
from .progress import Progress
from .quants import Quant, positive_scales
from .requantise import matches, requantise
from .samples import picture, sound
from .tflite import encoders as tflite
from .tflite.file import TfliteFile

_SECONDS: Final = (0.04, 1.0, 7.0)
"""Lengths of the sounds of the check: of one frame, and for each TFLite signature."""
_END_MARK: Final = 0
"""Of an encoder's hard tokens; the last one is for padding."""

TOLERANCES: Final = {
    **dict.fromkeys(itertools.product(("onnx", "tflite"), ("fp32", "fp16")), 1e-4),
    # Activations are rounded by blocks as in the core, but other computations round some of them the other way: up to
    # 0.043 was seen, in a random tower of the published size.
    ("onnx", "int8"): 0.1,
    ("onnx", "int4"): 0.1,
    # LiteRT rounds a whole row of activations with one scale, and weights in int8 too: up to 0.077 was seen there.
    ("tflite", "int8"): 0.2,
    ("tflite", "int4"): 0.2,
}
"""Most that soft tokens may differ by: root mean square of the difference, beside their own spread."""


@dataclass(frozen=True)
class EncoderComparison:
    """How far an exported encoder's soft tokens are from the core's on the same weights."""

    tokens: int
    max_difference: float
    relative_difference: float
    """Root mean square, beside the standard deviation of the core's."""
    least_cosine: float
    """Of the angle between two soft tokens."""


def holds_encoders(path: Path) -> bool:
    """Whether a model's GGUF file holds encoders too that are exported."""
    return not {VISION, AUDIO}.isdisjoint(_core.read_model_file(path)["tensors"])


def prepare(
    origin: Path, quant: Quant, format: str, work: Path, steps: Progress, threads: int | None
) -> tuple[EncoderSource, EncoderSource]:
    """The encoders as they are given, and with their weights in the types of `quant`. `origin`: a GGUF file, or the
    folder of a multimodal checkpoint. Raises UnsupportedError for encoders that are not exported."""
    recipe, positive = find_media_recipe(quant.recipe_name), positive_scales(quant, format)
    if origin.is_dir():
        path = work / "encoders.gguf"
        convert_mmproj(origin, path, "bf16" if positive else quant.recipe_name, threads=threads)
        origin = path
    given = EncoderSource(origin)
    if not given.sees and not given.hears:
        raise UnsupportedError(f"{origin}: its encoders are not exported, only those of Gemma 3n")
    if matches(given, recipe) and not positive:
        return given, given
    path = work / "requantised-encoders.gguf"
    requantise(given, recipe, path, steps, positive=positive)
    return given, EncoderSource(path)


def build(source: EncoderSource, format: str) -> list[OnnxFile | TfliteFile]:
    """The files, but for the weights."""
    backend = onnx if format == "onnx" else tflite
    files: list[OnnxFile | TfliteFile] = []
    if source.sees:
        files.append(backend.build_vision(source))
    if source.hears:
        files.append(backend.build_audio(source))
    return files


def describe(source: EncoderSource) -> dict[str, Any]:
    """What the manifest says of the encoders: gemlet.exported.media.MediaInfo."""
    media: dict[str, Any] = {}
    if source.sees:
        prefix = vision_mobilenet_v5.EMBEDDER
        media["vision"] = {
            "size": source.picture_size,
            "end": source.hard_token(prefix, _END_MARK).tolist(),
        }
    if source.hears:
        prefix = audio_usm.EMBEDDER
        media["audio"] = {
            "mel_bins": source.mel_bins,
            "filled_tokens": source.filled_tokens,
            "padding": source.hard_token(prefix, source.hard_tokens(prefix) - 1).tolist(),
            "end": source.hard_token(prefix, _END_MARK).tolist(),
        }
    return media


def compare(source: EncoderSource, found: ExportedEncoders, threads: int) -> dict[str, EncoderComparison]:
    """The exported encoders beside the core's on pictures of each size and on sounds. Raises ExportError for values
    that are not finite numbers."""
    core = _core.Encoders.load(source.path, threads)
    compared = {}
    for size in SIZES if found.sees else ():
        pixels = picture(size)
        rows, expected = (encoders.encode(pixels, size).finish().rows() for encoders in (found, core))
        compared[f"picture of {size} pixels"] = _compared(rows, expected)
    for seconds in _SECONDS if found.hears else ():
        samples = sound(round(seconds * 16000))
        rows, expected = (encoders.encode_sound(samples).finish().rows() for encoders in (found, core))
        # What short sounds are filled up with counts once, and so does the mark behind it.
        heard = -(-len(_core.log_mel(samples, source.mel_bins)) // FRAMES_OF_A_TOKEN)
        compared[f"sound of {seconds:g} s"] = _compared(
            *(np.concatenate([each[: heard + 1], each[max(heard + 1, len(each) - 1) :]]) for each in (rows, expected))
        )
    return compared


def require(compared: dict[str, EncoderComparison], format: str, quant: str, name: str) -> None:
    """Raises ExportError saying what was expected and found."""
    most = TOLERANCES[format, quant]
    for medium, found in compared.items():
        if not found.relative_difference <= most:
            raise ExportError(
                f"{name}: the exported encoder does not answer as the source does: the soft tokens of a {medium} "
                f"differ by {found.relative_difference:.2g} of their spread, expected at most {most:.2g}; nothing was "
                "kept"
            )


def _compared(rows: NDArray[np.float32], expected: NDArray[np.float32]) -> EncoderComparison:
    if rows.shape != expected.shape:
        raise ExportError(
            f"the exported encoder gives {rows.shape} values, expected {expected.shape}; nothing was kept"
        )
    difference = np.abs(rows - expected)
    lengths = np.maximum(np.linalg.norm(rows, axis=1) * np.linalg.norm(expected, axis=1), np.finfo(np.float32).tiny)
    return EncoderComparison(
        tokens=len(rows),
        max_difference=float(difference.max()),
        relative_difference=float(np.sqrt(np.mean(np.square(difference))) / expected.std()),
        least_cosine=float(((rows * expected).sum(1) / lengths).min()),
    )
