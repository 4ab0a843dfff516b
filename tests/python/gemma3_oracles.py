"""What transformers makes of pictures with the weights of tiny SigLIP towers, and of prompts with pictures in them.

Needs the [live] extra.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from reference import doubled
from tiny_gemma3 import TinyGemma3
from tiny_siglip import DEVIATION, MEAN, PROJECTOR, TOWER, TinySiglip

Doubles = NDArray[np.float64]


def _planes(pictures: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
    """Pictures as the tower takes them, [pictures][3][height][width]."""
    scaled = (np.stack(pictures) / 255 - np.array(MEAN)) / np.array(DEVIATION)
    return torch.from_numpy(scaled).permute(0, 3, 1, 2)


def siglip_rows(tiny: TinySiglip, pixels: NDArray[np.uint8]) -> Doubles:
    """The soft tokens that Gemma 3's encoder makes of a square picture, [tokens][text_hidden]."""
    from transformers import Gemma3Config, Gemma3TextConfig, SiglipVisionConfig, SiglipVisionModel
    from transformers.models.gemma3.modeling_gemma3 import Gemma3MultiModalProjector

    vision = SiglipVisionConfig(**tiny.config())
    tower = SiglipVisionModel(vision).eval().double()
    text = Gemma3TextConfig(hidden_size=tiny.text_hidden, num_attention_heads=1)
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=tiny.tokens)
    projector = Gemma3MultiModalProjector(config).eval().double()
    weights = {name: torch.from_numpy(value).double() for name, value in tiny.weights().items()}
    for module, prefix in ((tower, TOWER), (projector, PROJECTOR)):
        module.load_state_dict({n.removeprefix(prefix): v for n, v in weights.items() if n.startswith(prefix)})
    with torch.no_grad():
        rows: Doubles = projector(tower(_planes([pixels])).last_hidden_state)[0].numpy()
    return rows


def gemma3_logits(
    text: TinyGemma3, vision: TinySiglip, parts: Sequence[Sequence[int] | NDArray[np.uint8]], *, double: bool = False
) -> Doubles:
    """The logits of the whole model of Gemma 3, [places][text.vocab]. `parts` are text tokens and square pictures."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    with doubled() if double else contextlib.nullcontext():
        config = Gemma3Config(
            text_config=text.config(),
            vision_config=vision.config(),
            mm_tokens_per_image=vision.tokens,
            image_token_id=text.vocab - 1,
        )
        config._attn_implementation = "eager"
        model = Gemma3ForConditionalGeneration(config).eval()
        kind = torch.float64 if double else torch.float32
        weights = {name.replace(TOWER, "vision_tower."): value for name, value in vision.weights().items()}
        weights |= {f"language_model.{name}": value for name, value in text.weights().items()}
        state = {f"model.{name}": torch.from_numpy(np.array(value)).to(kind) for name, value in weights.items()}
        state["lm_head.weight"] = state["model.language_model.embed_tokens.weight"]
        model.load_state_dict(state)
        ids: list[int] = []
        types: list[int] = []
        for part in parts:
            is_picture = isinstance(part, np.ndarray)
            places = [config.image_token_id] * vision.tokens if is_picture else list(part)
            ids += places
            types += [int(is_picture)] * len(places)
        pixels = _planes([part for part in parts if isinstance(part, np.ndarray)]).to(kind)
        with torch.no_grad():
            logits = model(
                input_ids=torch.tensor([ids]), pixel_values=pixels, token_type_ids=torch.tensor([types])
            ).logits[0]
    assert logits.dtype == kind
    values: Doubles = logits.numpy()
    return values
