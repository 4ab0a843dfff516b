"""Pictures and sounds for tests, from seeds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gemlet import _core
from numpy.typing import NDArray

GOLDENS = Path(__file__).resolve().parents[1] / "goldens" / "encoders.npz"
"""What timm and transformers make of some of them: scripts/goldens/encoders.py."""


def sound(samples: int, seed: int = 0) -> NDArray[np.float32]:
    """Noise whose loudness changes, and a tone that rises: mono, 16 kHz."""
    random = np.random.default_rng(seed)
    time = np.arange(samples) / 16000
    noise = random.normal(size=samples) * (0.02 + 0.1 * np.sin(2 * np.pi * time) ** 2)
    return (noise + 0.3 * np.sin(2 * np.pi * (200 + 900 * time) * time)).astype(np.float32)


def picture(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    """Waves, slopes and noise, [height][width][3]: no symmetry hides a wrong order of anything."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    planes = np.stack([128 + 100 * np.sin(x / 17 + y / 29), 255 * x / width, 255 * y / height], -1)
    return np.clip(planes + random.normal(size=planes.shape) * 20, 0, 255).astype(np.uint8)


def see(encoders: _core.Encoders, pixels: NDArray[np.uint8], size: int) -> NDArray[np.float32]:
    """The soft tokens of a picture, [256][hidden], without the mark that ends it."""
    return encoders.encode(pixels, size).finish().rows()[:256]
