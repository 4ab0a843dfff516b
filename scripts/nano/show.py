"""Write some of the pictures and sounds that nano is tested with: a sheet of pictures, and a WAV file for each clip."""

from __future__ import annotations

import argparse
import wave
from pathlib import Path
from random import Random

import numpy as np
from dialogue import Source
from PIL import Image
from scenes import KINDS, SIZE, draw
from sentences import any_utterance
from voices import RATE, Floats, Manner, spoken

COLUMNS, ROWS = 6, 2
SMALL = SIZE // 2


def sheet(source: Source) -> Image.Image:
    """Pictures of every kind, at half their size."""
    out = Image.new("RGB", (COLUMNS * SMALL, ROWS * SMALL))
    kinds = ("shapes", "word", "chart", "shapes", "number", "shapes") * ROWS
    for place, kind in enumerate(kinds):
        picture = Image.fromarray(draw(KINDS[kind](source)).pixels).reduce(2)
        out.paste(picture, (place % COLUMNS * SMALL, place // COLUMNS * SMALL))
    return out


def write_wave(path: Path, samples: Floats) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((samples * 32767).astype(np.int16).tobytes())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--clips", type=int, default=8)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    source = Source(Random("shown"), held_out=True)
    sheet(source).quantize(96).save(args.out / "pictures.png", optimize=True)
    for number in range(args.clips):
        said = any_utterance(source)
        manner = Manner.drawn(source.rng, said.language)
        write_wave(args.out / f"clip{number}.wav", spoken(said, manner))
        print(f"clip{number}.wav  {manner.voice}: {said.text}")


if __name__ == "__main__":
    main()
