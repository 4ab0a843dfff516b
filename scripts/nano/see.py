"""Train nano's vision encoder alone: what each cell shows, read from its soft token by linear layers."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from random import Random

import alone
import numpy as np
import torch
import torch.nn.functional as F
from architecture import FFN, LAYERS, WIDTH, nano_config
from dialogue import Source
from scenes import CELLS, CLASSES, COLOURS, MIDDLES, Drawn, any_scene, draw
from torch import Tensor, nn
from towers import Vision

log = logging.getLogger("see")
AT_ONCE = 8  # pictures whose activations fit into the processor's cache better than those of a whole batch


class Seeing(nn.Module):  # type: ignore[misc]  # torch is Any to mypy
    """The encoder with the linear layers that are thrown away afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.vision = Vision(nano_config(WIDTH, LAYERS, FFN))
        self.sizes = {
            "class": len(CLASSES),
            "colour": 1 + len(COLOURS),
            "middle": MIDDLES,
            "row": CELLS,
            "column": CELLS,
        }
        self.read = nn.Linear(WIDTH, sum(self.sizes.values()))

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Scores of every kind of label [pictures * 256, labels]."""
        scores = self.read(self.vision(pixels)).flatten(0, 1)
        return dict(zip(self.sizes, scores.split(list(self.sizes.values()), dim=-1), strict=True))


def tensors(drawn: Sequence[Drawn]) -> tuple[Tensor, dict[str, Tensor]]:
    """Pixels and the labels of each cell."""
    pixels = torch.from_numpy(np.stack([one.pixels for one in drawn])).permute(0, 3, 1, 2).float() / 255
    grid = np.indices((CELLS, CELLS))
    kinds = {
        "class": [one.classes for one in drawn],
        "colour": [one.colours for one in drawn],
        "middle": [one.middles for one in drawn],
        "row": [grid[0]] * len(drawn),
        "column": [grid[1]] * len(drawn),
    }
    return pixels, {name: torch.from_numpy(np.stack(values)).flatten() for name, values in kinds.items()}


def losses(scores: dict[str, Tensor], labels: dict[str, Tensor]) -> dict[str, Tensor]:
    """Cells that show nothing count for as much as all others together."""
    shows = labels["class"] > 0
    out = {}
    for name, score in scores.items():
        each = F.cross_entropy(score, labels[name], reduction="none")
        if name in ("row", "column"):
            out[name] = 0.2 * each.mean()
        else:
            given = labels["middle"] > 0 if name == "middle" else shows
            out[name] = 0.5 * (each[given].mean() + each[~given].mean())
    return out


def measure(seeing: Seeing, drawn: Sequence[Drawn]) -> dict[str, float]:
    """The share of right labels among cells that show something."""
    seeing.eval()
    right: dict[str, int] = {}
    given: dict[str, int] = {}
    with torch.inference_mode():
        for start in range(0, len(drawn), 16):
            pixels, labels = tensors(drawn[start : start + 16])
            for name, score in seeing(pixels).items():
                counts = labels["middle" if name == "middle" else "class"] > 0
                right[name] = right.get(name, 0) + int((score.argmax(-1) == labels[name])[counts].sum())
                given[name] = given.get(name, 0) + int(counts.sum())
    seeing.train()
    return {name: round(right[name] / given[name], 4) for name in right}


def pictures(seed: str, held_out: bool) -> Iterator[Drawn]:
    source = Source(Random(seed), held_out)
    while True:
        yield draw(any_scene(source))


def main() -> None:
    args = alone.parser(__doc__, minutes=60, batch=16).parse_args()
    seeing, run = alone.begin(args, Seeing)
    log.info("%.2f M weights", sum(w.numel() for w in seeing.vision.parameters()) / 1e6)
    stream = pictures(f"{args.seed} {run.step}", held_out=False)
    unseen = pictures("seen pictures", held_out=True)
    test = [next(unseen) for _ in range(160)]

    def save() -> None:
        run.write({"held_out": measure(seeing, test)})

    for _ in run.steps(save):
        for _ in range(args.batch // AT_ONCE):
            pixels, labels = tensors([next(stream) for _ in range(AT_ONCE)])
            parts = losses(seeing(pixels), labels)
            (sum(parts.values()) * AT_ONCE / args.batch).backward()
            for name, loss in parts.items():
                run.count(name, loss.item())
    torch.save(seeing.vision.state_dict(), args.out / "vision.pt")


if __name__ == "__main__":
    main()
