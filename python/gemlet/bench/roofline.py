"""The roofline of a machine, and how near a model comes to it, as a plot.

Williams, Waterman and Patterson, "Roofline: an insightful visual performance model for multicore architectures", 2009.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gemlet.bench import picture
from gemlet.bench.ceiling import Machine


@dataclass(frozen=True)
class Point:
    """One measurement of a model whose weights are mostly of one type."""

    name: str
    type: str
    intensity: float
    """Multiply-adds for each byte of weights that is streamed from memory."""
    multiply_adds: float
    """Multiply-adds per second."""


def bound(machine: Machine, type: str, intensity: float) -> float:
    """Multiply-adds per second that memory and arithmetic allow, whichever is less."""
    return min(machine.read_bandwidth * intensity, machine.multiply_adds(type))


def plot(machine: Machine, points: Sequence[Point], out: Path) -> None:
    """Draw the roof of each type of weights and the points below it, on logarithmic axes; needs matplotlib."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5))
    axis = figure.subplots()
    low = min(0.5, *(point.intensity / 2 for point in points))
    high = max(1000.0, *(point.intensity * 2 for point in points))
    for type in dict.fromkeys(point.type for point in points):
        ridge = machine.multiply_adds(type) / machine.read_bandwidth
        roof = [(x, bound(machine, type, x) / 1e9) for x in (low, ridge, max(high, 2 * ridge))]
        axis.plot(*zip(*roof, strict=True), color="#9aa5ad", zorder=1)
        axis.annotate(
            f"{roof[1][1]:.0f} GMAC/s: {type}", roof[1], xytext=(4, 5), textcoords="offset points", fontsize=8
        )
    for point in points:
        share = point.multiply_adds / bound(machine, point.type, point.intensity)
        axis.scatter(point.intensity, point.multiply_adds / 1e9, color="#2f6f4f", zorder=2)
        axis.annotate(
            f"{point.name}: {share:.0%}",
            (point.intensity, point.multiply_adds / 1e9),
            xytext=(6, -12),
            textcoords="offset points",
            fontsize=8,
        )
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("multiply-adds for each byte of weights read")
    axis.set_ylabel("GMAC/s")
    axis.set_title(
        f"{machine.kernels}, {machine.threads} threads: {machine.read_bandwidth / 1e9:.1f} GB/s from memory",
        fontsize=10,
    )
    axis.spines[["top", "right"]].set_visible(False)
    picture.save(figure, out)
