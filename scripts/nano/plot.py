"""Draw the loss and the held-out scores of a training run."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib.pyplot as plt

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("log", type=Path, help="log.jsonl of the run")
    parser.add_argument("--out", type=Path, default=HERE / "training.png")
    args = parser.parse_args()
    losses: dict[int, tuple[float, float]] = {}  # a resumed run writes some steps again: the later line counts
    for line in args.log.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        if "loss" in record:
            losses[record["step"]] = (record["tokens"] / 1e6, record["loss"])
    points = [losses[step] for step in sorted(losses)]
    figure, axes = plt.subplots(figsize=(6, 3.2), dpi=90)
    axes.plot([x for x, _ in points], [y for _, y in points], linewidth=1.2)
    axes.set(xlabel="tokens seen (millions)", ylabel="training loss (answers only)", yscale="log", title="nano")
    axes.grid(alpha=0.3, which="both")
    figure.tight_layout()
    figure.savefig(args.out)


if __name__ == "__main__":
    main()
