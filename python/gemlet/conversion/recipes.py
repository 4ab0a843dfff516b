"""Recipes of quantisation: which type each tensor gets.

| quant (preset)            | layer matrices | token embedding, head | per-layer table | glue |
|---------------------------|----------------|-----------------------|-----------------|------|
| f32                       | F32            | F32                   | F32             | F32  |
| bf16 (performance)        | BF16           | BF16                  | BF16            | BF16 |
| f16                       | F16            | F16                   | F16             | F16  |
| q8_0 (balanced)           | Q8_0           | Q8_0                  | Q8_0            | Q8_0 |
| q4_0 (maximum_efficiency) | Q4_0           | Q6_K                  | Q4_0            | Q8_0 |

The columns are the roles of planned.py; each architecture says which of its tensors has which. Norms and routers are
F32 in all of them. In q4_0:
- the head takes Q6_K: its rounding reaches every logit directly, which Q4_0's would be seen in, and Q8_0 would add
  130 MB to what E2B reads for each token;
- the per-layer table takes Q4_0: it stays on flash, where a token costs one row, so its size is the download's and
  not the memory's, and what is read from it meets a projection of the same size before it is used;
- glue, the few small matrices of Gemma 3n whose outputs every later layer reads, takes Q8_0: 49 M weights of E2B's
  1.9 G (24 MB more than in Q4_0). llama.cpp leaves them in 16 bits for the same reason.

Encoders of pictures and sound have recipes of their own (MEDIA_RECIPES):

| quant | linear layers, 1x1 convolutions | attention and projections | hard tokens | other convolutions |
|-------|---------------------------------|---------------------------|-------------|--------------------|
| f32   | F32                             | F32                       | F32         | F32                |
| f16   | F16                             | F16                       | F16         | F16                |
| bf16  | BF16                            | BF16                      | BF16        | F32                |
| q8_0  | Q8_0                            | Q8_0                      | F16         | F16                |
| q4_0  | Q4_0                            | Q8_0                      | F16         | F16                |

The columns are the roles LAYER, GLUE, TABLE and KERNEL. Norms, layer scales, the stem and the convolutions of the audio
encoder are F32, and so are SigLIP's patch embedding and positions; its projection, which is stored transposed, is F16
in all but f32. The other convolutions have 1.8 million of the vision encoder's 294 million weights, and llama.cpp
computes them in F16 and F32 alone. In q4_0, what GLUE holds keeps eight bits: the four matrices of attention in the
vision encoder, which have no norm behind them as its other convolutions have, and in the audio encoder the matrix of
positions and those between the encoder and its neighbours.

The default is f16: on random towers of full size its soft tokens are float32's to a cosine of 0.99999, while q8_0
leaves 0.9987 of MobileNetV5's and q4_0 0.92 (docs/results.md). A picture is a few hundred tokens that a conversation
rests on, and its encoder is read once for it, so that bytes matter less than in the text model.

Q6_K comes in blocks of 256 weights, the others in blocks of 32: where a matrix's rows are not whole blocks, Q6_K falls
back to Q8_0 and everything to F16.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import gguf

from .config import TextConfig
from .errors import ConvertError
from .planned import Role

PRESETS: Final = {"performance": "bf16", "balanced": "q8_0", "maximum_efficiency": "q4_0"}

_Q = gguf.GGMLQuantizationType


@dataclass(frozen=True)
class Recipe:
    """The types of one choice of `quant`."""

    file_type: gguf.LlamaFileType
    types: dict[Role, gguf.GGMLQuantizationType]

    def type_of(self, role: Role, cols: int) -> gguf.GGMLQuantizationType:
        chosen = self.types.get(role, _Q.F32)
        fallbacks = (chosen, _Q.Q8_0, _Q.F16) if chosen is _Q.Q6_K else (chosen, _Q.F16)
        return next(kind for kind in fallbacks if cols % gguf.GGML_QUANT_SIZES[kind][0] == 0)

    def ffn_block(self, config: TextConfig) -> int:
        """Weights in a block of the feed-forward matrices; 1 where their rows are not whole blocks."""
        block = int(gguf.GGML_QUANT_SIZES[self.types[Role.LAYER]][0])
        return block if all(width % block == 0 for width in config.intermediate_size) else 1


def _uniform(
    file_type: gguf.LlamaFileType, kind: gguf.GGMLQuantizationType, **others: gguf.GGMLQuantizationType
) -> Recipe:
    types: dict[Role, gguf.GGMLQuantizationType] = {
        role: others.get(role.name.lower(), kind) for role in Role if role is not Role.VECTOR
    }
    return Recipe(file_type, types)


RECIPES: Final = {
    "f32": _uniform(gguf.LlamaFileType.ALL_F32, _Q.F32),
    "bf16": _uniform(gguf.LlamaFileType.MOSTLY_BF16, _Q.BF16),
    "f16": _uniform(gguf.LlamaFileType.MOSTLY_F16, _Q.F16),
    "q8_0": _uniform(gguf.LlamaFileType.MOSTLY_Q8_0, _Q.Q8_0),
    "q4_0": _uniform(gguf.LlamaFileType.MOSTLY_Q4_0, _Q.Q4_0, head=_Q.Q6_K, glue=_Q.Q8_0),
}


MEDIA_RECIPES: Final = {
    "f32": RECIPES["f32"],
    "f16": RECIPES["f16"],
    "bf16": _uniform(gguf.LlamaFileType.MOSTLY_BF16, _Q.BF16, transposed=_Q.F16, kernel=_Q.F32),
    "q8_0": _uniform(gguf.LlamaFileType.MOSTLY_Q8_0, _Q.Q8_0, table=_Q.F16, transposed=_Q.F16, kernel=_Q.F16),
    "q4_0": _uniform(
        gguf.LlamaFileType.MOSTLY_Q4_0, _Q.Q4_0, glue=_Q.Q8_0, table=_Q.F16, transposed=_Q.F16, kernel=_Q.F16
    ),
}

DEFAULT_MEDIA_QUANT: Final = "f16"

HEADS: Final = {kind.name.lower(): kind for kind in (_Q.Q4_0, _Q.Q6_K, _Q.Q8_0)}


#: Models with fewer parameters keep eight bits unless told otherwise: four raise the perplexity of Gemma 3 270M by 32
#: to 88 %, eight by at most 0.4 % (docs/results.md).
SMALL_MODEL: Final = 500_000_000


def default_quant(parameters: int) -> str:
    """The quantisation for a model of so many parameters."""
    return "q8_0" if parameters < SMALL_MODEL else "q4_0"


def find_recipe(quant: str, head: str | None = None) -> Recipe:
    """Find a recipe by type or preset name, with another type for the token embedding and head if one is given. Raises
    ConvertError listing the names."""
    name = PRESETS.get(quant.lower(), quant.lower())
    if name not in RECIPES:
        raise ConvertError(f"quant is {quant!r}, expected one of {', '.join((*RECIPES, *PRESETS))}")
    if head is None:
        return RECIPES[name]
    if head.lower() not in HEADS:
        raise ConvertError(f"head is {head!r}, expected one of {', '.join(HEADS)}")
    return replace(RECIPES[name], types=RECIPES[name].types | {Role.HEAD: HEADS[head.lower()]})


def find_media_recipe(quant: str | None) -> Recipe:
    """Find a recipe of encoders by the name of its type. Raises ConvertError listing the names."""
    quant = DEFAULT_MEDIA_QUANT if quant is None else quant
    if quant.lower() not in MEDIA_RECIPES:
        raise ConvertError(f"media_quant is {quant!r}, expected one of {', '.join(MEDIA_RECIPES)}")
    return MEDIA_RECIPES[quant.lower()]
