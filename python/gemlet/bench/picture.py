"""Plots as files."""

from pathlib import Path
from typing import TYPE_CHECKING

from gemlet.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ENDINGS = (".png", ".svg", ".pdf")


def save(figure: "Figure", out: Path) -> None:
    """Write a figure in the format that the name's ending says; PNG without one. Raises FileError."""
    figure.tight_layout()
    with replacing(out) as file:
        figure.savefig(file, format=out.suffix[1:].lower() or "png", dpi=130)
