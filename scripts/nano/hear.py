"""Train nano's audio encoder alone: the letters that are said, read from its soft tokens by a linear layer (CTC).

Each soft token stands for 160 ms and is given four places for letters.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from random import Random

import alone
import torch
import torch.nn.functional as F
from architecture import FFN, LAYERS, WIDTH, nano_config
from clips import Clips
from dialogue import Source
from sentences import any_utterance
from torch import Tensor, nn
from towers import Audio, batch_of_sounds
from voices import Manner, features, spoken

log = logging.getLogger("hear")
PLACES = 4
LETTERS = " abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;?!'-¿¡áéíóúàèìòùâêîôûãõäöüßñçÁÉÍÓÚ"


class Hearing(nn.Module):  # type: ignore[misc]  # torch is Any to mypy
    """The encoder with the linear layer that is thrown away afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.audio = Audio(nano_config(WIDTH, LAYERS, FFN))
        self.letters = nn.Linear(WIDTH, PLACES * (1 + len(LETTERS)))

    def forward(self, mels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Log-probabilities [places, sounds, 1 + letters] and the places of each sound."""
        batch, is_padding, counts = batch_of_sounds(mels)
        rows = self.audio(batch, is_padding)
        scores = self.letters(rows).view(len(mels), -1, 1 + len(LETTERS))
        return scores.log_softmax(-1).transpose(0, 1), PLACES * torch.tensor(counts)


def spelled(text: str) -> list[int]:
    return [1 + LETTERS.index(letter) for letter in text]


def ctc(hearing: Hearing, mels: Sequence[Tensor], texts: Sequence[str]) -> Tensor:
    """The loss for each letter."""
    scores, places = hearing(mels)
    targets = [spelled(text) for text in texts]
    flat = torch.tensor([letter for target in targets for letter in target])
    lengths = torch.tensor([len(target) for target in targets])
    loss: Tensor = F.ctc_loss(scores, flat, places, lengths, reduction="sum", zero_infinity=True) / lengths.sum()
    return loss


def best(scores: Tensor, places: Tensor) -> list[str]:
    """The likeliest letter of each place, without repetitions and blanks."""
    out = []
    for row, count in zip(scores.argmax(-1).T.tolist(), places.tolist(), strict=True):
        kept = [letter for letter, before in zip(row[:count], [0, *row], strict=False) if letter != before]
        out.append("".join(LETTERS[letter - 1] for letter in kept if letter))
    return out


def distance(one: str, other: str) -> int:
    """Edits from one text to the other (Levenshtein)."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        previous, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (a != b))
    return row[-1]


def held_out(count: int) -> tuple[list[Tensor], list[str]]:
    source = Source(Random("heard clips"), held_out=True)
    utterances = [any_utterance(source) for _ in range(count)]
    clips = [spoken(one, Manner.drawn(source.rng, one.language)) for one in utterances]
    return [torch.from_numpy(features(clip)) for clip in clips], [one.text for one in utterances]


def measure(hearing: Hearing, mels: Sequence[Tensor], texts: Sequence[str]) -> dict[str, float]:
    """The share of wrong letters, and of clips without one."""
    hearing.eval()
    heard: list[str] = []
    with torch.inference_mode():
        for start in range(0, len(mels), 32):
            heard += best(*hearing(mels[start : start + 32]))
    hearing.train()
    errors = sum(distance(a, b) for a, b in zip(heard, texts, strict=True))
    right = sum(a == b for a, b in zip(heard, texts, strict=True))
    return {"wrong_letters": round(errors / sum(map(len, texts)), 4), "right_clips": round(right / len(texts), 4)}


def batches(clips: Clips, rng: Random, size: int) -> list[tuple[list[Tensor], list[str]]]:
    """Clips of similar length together."""
    drawn = [clips.draw(rng) for _ in range(8 * size)]
    drawn.sort(key=lambda one: len(one[1]))
    groups = [drawn[start : start + size] for start in range(0, len(drawn), size)]
    rng.shuffle(groups)
    return [([torch.from_numpy(mel) for _, mel in group], [one.text for one, _ in group]) for group in groups]


def main() -> None:
    options = alone.parser(__doc__, minutes=120, batch=32)
    options.add_argument("--clips", type=Path, required=True, help="folder that clips.py fills")
    args = options.parse_args()
    hearing, run = alone.begin(args, Hearing)
    rng = Random(f"{args.seed} {run.step}")
    clips = Clips(args.clips)
    log.info("%.2f M weights, %d clips", sum(w.numel() for w in hearing.audio.parameters()) / 1e6, len(clips.mels))
    test = held_out(200)
    waiting: list[tuple[list[Tensor], list[str]]] = []

    def save() -> None:
        run.write({"held_out": measure(hearing, *test)})

    for _ in run.steps(save):
        if not waiting:
            clips.refresh()
            waiting = batches(clips, rng, args.batch)
        loss = ctc(hearing, *waiting.pop())
        loss.backward()
        run.count("ctc", loss.item())
    torch.save(hearing.audio.state_dict(), args.out / "audio.pt")


if __name__ == "__main__":
    main()
