"""How weights are stored in an exported file: by what an export calls it, the recipe of gemlet.convert for it.

| quant | layer matrices, per-layer table | token embedding, head, glue |
|-------|---------------------------------|-----------------------------|
| fp32  | F32                             | F32                         |
| fp16  | F16                             | F16                         |
| int8  | Q8_0                            | Q8_0                        |
| int4  | Q4_0                            | Q8_0                        |

Matrices whose rows are not whole blocks of 32 are stored in F16 where the table has a Q.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gemlet.conversion.recipes import Recipe, find_recipe

from .errors import ExportError


@dataclass(frozen=True)
class Quant:
    """One export quantisation."""

    name: str
    recipe_name: str
    head: str | None

    @property
    def recipe(self) -> Recipe:
        return find_recipe(self.recipe_name, self.head)


QUANTS: Final = {
    quant.name: quant
    for quant in (
        Quant("int4", "q4_0", "q8_0"),
        Quant("int8", "q8_0", None),
        Quant("fp16", "f16", None),
        Quant("fp32", "f32", None),
    )
}


def find_quant(name: str) -> Quant:
    """Raises ExportError listing the names."""
    if name not in QUANTS:
        raise ExportError(f"quant is {name!r}, expected one of {', '.join(QUANTS)}")
    return QUANTS[name]


def positive_scales(quant: Quant, format: str) -> bool:
    """Whether blocks of 4-bit weights need scales above zero: LiteRT takes no others, where Q4_0's are signed."""
    return format == "tflite" and quant.name == "int4"
