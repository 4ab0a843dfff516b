#!/usr/bin/env python3
"""Writes tests/goldens/encoders.npz: what timm and transformers make of pictures and a sound with the weights of tiny
encoders, for tests without them.

    python scripts/goldens/encoders.py        # needs the [live] extra, and timm and torchvision beside it
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "python"))

from encoder_oracles import audio_rows, multimodal_logits, vision_rows  # noqa: E402
from gemma3_oracles import gemma3_logits, siglip_rows  # noqa: E402
from gemma3_prompts import CASES, TEXT, VISION  # noqa: E402
from media_inputs import GOLDENS, picture, sound  # noqa: E402
from tiny_audio import TinyAudio  # noqa: E402
from tiny_encoders import CASES as MERGED  # noqa: E402
from tiny_encoders import IMAGE, SOUND  # noqa: E402
from tiny_siglip import TinySiglip  # noqa: E402
from tiny_vision import TinyVision  # noqa: E402

rows = {f"vision-{size}": vision_rows(TinyVision(), picture(size, size))[::5] for size in (256, 512)}
rows["siglip"] = siglip_rows(TinySiglip(), picture(60, 60))
rows["gemma3"] = gemma3_logits(TEXT, VISION, CASES["several pictures"], double=True)[::5]
rows["merge"] = multimodal_logits(MERGED["both"], IMAGE, SOUND)[::5]
rows["audio"] = audio_rows(TinyAudio(), sound(48000))
np.savez_compressed(GOLDENS, **{name: value.astype(np.float32) for name, value in rows.items()})
