"""Checkpoints with encoders are as untrusted as those of text: each of many mutations is refused by the converter's own
error, or becomes a file that the core loads and hears with.

GEMLET_FUZZ_CASES and GEMLET_FUZZ_SEED ask for more mutations and for others.
"""

import dataclasses
import os
import random
import shutil
from pathlib import Path

import numpy as np
from gemlet import _core
from gemlet.conversion import ConvertError, convert_mmproj

from hostile_checkpoints import mutant
from tiny_encoders import VISION, checkpoint, encoder_weights
from tiny_siglip import TinySiglip, siglip_checkpoint

CASES = int(os.environ.get("GEMLET_FUZZ_CASES", "200"))
SEED = int(os.environ.get("GEMLET_FUZZ_SEED", "7"))


def outcome(source: Path, out: Path, quant: str) -> str | None:
    """The converter's message, or None for a file that the core loads."""
    try:
        convert_mmproj(source, out, quant, threads=1)
    except ConvertError as error:
        assert not out.exists() and list(out.parent.iterdir()) == []
        return str(error)
    encoders = _core.Encoders.load(out, 1)
    if encoders.hears:
        stream = encoders.sound()
        stream.feed(np.zeros(600, np.float32))
        stream.finish()
        assert stream.rows().shape == (1, encoders.hidden_size)
    return None


def test_every_mutation_is_refused_or_runs(tmp_path: Path) -> None:
    vision = dataclasses.replace(VISION, width=64)
    made = {
        "gemma3n": checkpoint(tmp_path / "gemma3n", encoder_weights(vision), vision=vision),
        "gemma3": siglip_checkpoint(tmp_path / "gemma3", TinySiglip()),
    }
    good = {
        name: {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith("token")}
        for name, folder in made.items()
    }
    refused = 0
    for number in range(CASES):
        rng = random.Random(SEED * 1_000_003 + number)
        case = mutant(good, rng)
        source, out = tmp_path / "checkpoint", tmp_path / "out"
        for folder in (source, out):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        case.write(source)
        try:
            refused += outcome(source, out / "mmproj.gguf", rng.choice(("f32", "f16", "q8_0", "q4_0"))) is not None
        except Exception as error:
            error.add_note(f"GEMLET_FUZZ_SEED={SEED}, case {number}: {case.changes}")
            raise
    if CASES >= 100:  # otherwise chance decides
        assert CASES / 4 < refused < CASES * 0.95
