"""A picture and a sound, the same every time, by which exported encoders are checked."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def picture(size: int) -> NDArray[np.uint8]:
    """Waves, slopes and noise, without any symmetry."""
    y, x = np.mgrid[0:size, 0:size] / size
    planes = np.stack([0.5 + 0.4 * np.sin(40 * x + 23 * y), x, y * y], -1)
    noise = np.random.default_rng(size).normal(0, 0.08, planes.shape)
    return np.round(255 * np.clip(planes + noise, 0, 1)).astype(np.uint8)


def sound(samples: int) -> NDArray[np.float32]:
    """A tone that rises, in noise; 16 kHz."""
    time = np.arange(samples) / 16000
    noise = np.random.default_rng(samples).normal(0, 0.05, samples)
    return (0.3 * np.sin(2 * np.pi * (200 + 900 * time) * time) + noise).astype(np.float32)
