"""Exported encoders in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .media import SIZES
from .onnx import OnnxGraph

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class OnnxEncoders:
    """Graphs that gemlet.export wrote. Used by any number of threads."""

    def __init__(self, folder: Path, threads: int) -> None:
        self._vision = {size: OnnxGraph(folder / f"vision-{size}.onnx", threads) for size in SIZES}
        self._audio = OnnxGraph(folder / "audio.onnx", threads)

    def see(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """The soft tokens of a picture, [256][hidden]."""
        found = self._vision[len(pixels)].session.run(["soft_tokens"], {"pixels": pixels[None]})
        rows: NDArray[np.float32] = found[0][0]
        return rows

    def hear(self, mel: NDArray[np.float32]) -> NDArray[np.float32]:
        """The soft tokens of a sound, [tokens][hidden]."""
        rows: NDArray[np.float32] = self._audio.session.run(["soft_tokens"], {"mel": mel[None]})[0][0]
        return rows


def open_encoders(folder: Path, threads: int) -> OnnxEncoders:
    """The encoders in an exported folder. Each is loaded when it is first used."""
    return OnnxEncoders(folder, threads)
