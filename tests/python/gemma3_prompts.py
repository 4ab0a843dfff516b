"""A tiny multimodal Gemma 3, and prompts with pictures for it."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from media_inputs import picture
from tiny_gemma3 import TinyGemma3
from tiny_siglip import TinySiglip

Parts = list[list[int] | NDArray[np.uint8]]
"""Text tokens and square pictures."""

VISION: Final = TinySiglip()
TEXT: Final = TinyGemma3(hidden=VISION.text_hidden)
"""With a window of 7, less than the 16 places of a picture."""

PICTURES: Final = [picture(VISION.image_size, VISION.image_size, seed) for seed in range(3)]
CASES: Final[dict[str, Parts]] = {
    "picture first": [PICTURES[0], [8, 90, 17, 297]],
    "picture last": [[2, 9, 33, 40, 51, 60, 7, 8, 9, 10], PICTURES[1]],
    "several pictures": [[2, 9, 33], PICTURES[0], [8], PICTURES[1], [90, 17, 4, 31, 12, 5], PICTURES[2], [11, 12]],
}
