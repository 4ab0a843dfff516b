"""Draw the losses of a training run."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib.pyplot as plt

NOT_LOSSES = ("step", "minutes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("log", type=Path, help="log.jsonl of the run")
    parser.add_argument("--out", type=Path, default=Path("training.png"))
    args = parser.parse_args()
    losses: dict[str, dict[int, tuple[float, float]]] = {}  # by step: a resumed run writes some again
    for line in args.log.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        for name, value in record.items():
            if isinstance(value, float) and name not in NOT_LOSSES:
                losses.setdefault(name, {})[record["step"]] = (record["minutes"], value)
    figure, axes = plt.subplots(figsize=(6, 3.2), dpi=90)
    for name, points in losses.items():
        minutes, values = zip(*(points[step] for step in sorted(points)), strict=True)
        axes.plot(minutes, values, linewidth=1.2, label=name)
    axes.set(xlabel="minutes of processor time", ylabel="training loss", yscale="log", title=args.log.parent.name)
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3, which="both")
    figure.tight_layout()
    figure.savefig(args.out)


if __name__ == "__main__":
    main()
