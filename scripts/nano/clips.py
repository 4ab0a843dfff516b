"""A store of spoken clips: log-mel features in files, made ahead of training.

`python scripts/nano/clips.py FOLDER --files 20` adds files until there are 20.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from random import Random

import numpy as np
from dialogue import Source
from media_tasks import Said, say
from picture_tasks import questions
from scenes import any_scene
from sentences import Utterance, any_utterance
from tqdm import tqdm  # type: ignore[import-untyped]
from voices import Floats, features, spoken

PER_FILE = 2000
ABOUT_PICTURES = 0.15


def write(folder: Path, number: int, count: int = PER_FILE) -> None:
    """One file of clips on the training side of the split, with what they say beside it."""
    source = Source(Random(f"clips {number}"), held_out=False)
    said = [drawn(source) for _ in range(count)]
    mels = [features(spoken(one.utterance, one.manner)).astype(np.float16) for one in tqdm(said, mininterval=20)]
    stem = folder / f"{number:04d}"
    np.save(stem.with_suffix(".new.npy"), np.concatenate(mels))
    notes = [{**asdict(one.utterance), "frames": len(mel)} for one, mel in zip(said, mels, strict=True)]
    stem.with_suffix(".npy.new").write_text("\n".join(json.dumps(note, ensure_ascii=False) for note in notes))
    stem.with_suffix(".new.npy").replace(stem.with_suffix(".npy"))
    stem.with_suffix(".npy.new").replace(stem.with_suffix(".jsonl"))


def drawn(source: Source) -> Said:
    if source.rng.random() < ABOUT_PICTURES:
        return say(source.rng, Utterance(source.rng.choice(questions(any_scene(source), source.rng)).user))
    return say(source.rng, any_utterance(source))


class Clips:
    """The clips of all files that are complete. `refresh` takes in new ones."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.utterances: list[Utterance] = []
        self.mels: list[Floats] = []
        self.saying: dict[tuple[str, str], list[int]] = {}
        self._files: set[Path] = set()
        self.refresh()

    def refresh(self) -> None:
        for path in sorted(self.folder.glob("*.jsonl")):
            if path in self._files:
                continue
            self._files.add(path)
            values, start = np.load(path.with_suffix(".npy"), mmap_mode="r"), 0
            for line in path.read_text(encoding="utf-8").split("\n"):
                note = json.loads(line)
                frames = note.pop("frames")
                utterance = Utterance(**note)
                self.saying.setdefault((utterance.language, utterance.text), []).append(len(self.mels))
                self.utterances.append(utterance)
                self.mels.append(values[start : start + frames])
                start += frames

    def draw(self, rng: Random) -> tuple[Utterance, Floats]:
        index = rng.randrange(len(self.mels))
        return self.utterances[index], self.augmented(index, rng)

    def of(self, utterance: Utterance, rng: Random) -> Floats | None:
        """Features of a clip that says this, where there is one."""
        found = self.saying.get((utterance.language, utterance.text))
        return self.augmented(rng.choice(found), rng) if found else None

    def augmented(self, index: int, rng: Random) -> Floats:
        """Louder or softer, at times with a stretch of time or of frequencies left out."""
        mel: Floats = self.mels[index].astype(np.float32)
        mel = np.maximum(mel + rng.uniform(-1.5, 1.0), FLOOR)
        for axis, most in ((0, 12), (1, 8)):
            if rng.random() < 0.3:
                width = rng.randint(1, most)
                start = rng.randrange(max(1, mel.shape[axis] - width))
                place: list[slice] = [slice(None), slice(None)]
                place[axis] = slice(start, start + width)
                mel[tuple(place)] = mel.mean()
        return mel


FLOOR = float(np.log(np.float32(1e-5)))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--files", type=int, default=20, help=f"of {PER_FILE} clips each, about 50 MB")
    args = parser.parse_args(arguments)
    args.folder.mkdir(parents=True, exist_ok=True)
    for number in range(args.files):
        if not (args.folder / f"{number:04d}.jsonl").exists():
            write(args.folder, number)


if __name__ == "__main__":
    main()
