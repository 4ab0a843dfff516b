"""Soft tokens of a micro-batch: its pictures and sounds through the encoders, at their places."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from packing import Medium, Packed
from scenes import Scene, draw
from torch import Tensor, nn
from towers import batch_of_sounds, end_row


class Soft:
    """Calls the encoders of a model's modules, where it has them."""

    def __init__(self, modules: nn.ModuleDict) -> None:
        self.modules = modules

    def __call__(self, packed: Packed) -> tuple[Tensor, Tensor] | None:
        """Embeddings [positions, width] and where they stand [positions, 1]; None for text alone."""
        if not packed.media:
            return None
        places: list[Tensor] = []
        rows: list[Tensor] = []
        pictures = [medium for medium in packed.media if medium.kind == "picture"]
        sounds = [medium for medium in packed.media if medium.kind == "sound"]
        if pictures:
            self._add(places, rows, pictures, self._pictures(pictures), self.modules["vision"])
        if sounds:
            self._add(places, rows, sounds, self._sounds(sounds), self.modules["audio"])
        at, values = torch.cat(places), torch.cat(rows)
        positions = packed.ids.numel()
        soft = torch.zeros(positions, values.shape[1]).index_copy(0, at, values)
        is_soft = torch.zeros(positions, 1, dtype=torch.bool)
        is_soft[at] = True
        return soft, is_soft

    def _add(
        self, places: list[Tensor], rows: list[Tensor], media: list[Medium], encoded: list[Tensor], encoder: Any
    ) -> None:
        end = end_row(encoder.embedder)
        for medium, own in zip(media, encoded, strict=True):
            rows += [own, end]
            places.append(torch.arange(medium.at, medium.at + len(own) + 1))

    def _pictures(self, media: list[Medium]) -> list[Tensor]:
        pixels = np.stack([draw(medium.content).pixels for medium in media if isinstance(medium.content, Scene)])
        planes = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
        return list(self.modules["vision"](planes))

    def _sounds(self, media: list[Medium]) -> list[Tensor]:
        mels = [torch.from_numpy(m.content) for m in media if not isinstance(m.content, Scene)]
        batch, is_padding, counts = batch_of_sounds(mels)
        rows = self.modules["audio"](batch, is_padding)
        return [row[:count] for row, count in zip(rows, counts, strict=True)]
