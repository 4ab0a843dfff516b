"""nano's encoders as transformers has them: timm's MobileNetV5 and the USM conformer, each with its embedder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from architecture import STEM, audio_fields, blocks, vision_fields
from timm import create_model
from torch import Tensor, nn
from transformers import Gemma3nAudioConfig, Gemma3nAudioEncoder, Gemma3nTextConfig, Gemma3nVisionConfig
from transformers.models.gemma3n.modeling_gemma3n import Gemma3nMultimodalEmbedder

GAMMA = 0.3  # layer scales at the start; timm's own 1e-5 is for networks much deeper


class Vision(nn.Module):  # type: ignore[misc]  # torch is Any to mypy
    """Soft tokens of pictures. Attributes are named as in the checkpoint."""

    def __init__(self, text: Gemma3nTextConfig) -> None:
        super().__init__()
        fields = vision_fields()
        self.tower = create_model(
            "mobilenetv5_300m_enc",
            block_args=blocks(),
            stem_size=STEM,
            num_classes=0,
        )
        self.embedder = Gemma3nMultimodalEmbedder(Gemma3nVisionConfig(**fields), text)
        with torch.no_grad():
            for name, weight in self.tower.named_parameters():
                if name.endswith("layer_scale.gamma"):
                    weight.fill_(GAMMA)
        hard_tokens(self.embedder)

    def forward(self, pixels: Tensor) -> Tensor:
        """[pictures, 3, 256, 256] of 0 to 1 to [pictures, 256, width]."""
        features = self.tower.forward_features(pixels).flatten(2).transpose(1, 2)
        rows: Tensor = self.embedder(inputs_embeds=features * features.shape[-1] ** 0.5)
        return rows


class Audio(nn.Module):  # type: ignore[misc]
    """Soft tokens of sounds."""

    def __init__(self, text: Gemma3nTextConfig) -> None:
        super().__init__()
        config = Gemma3nAudioConfig(**audio_fields())
        self.tower = Gemma3nAudioEncoder(config)
        self.embedder = Gemma3nMultimodalEmbedder(config, text)
        with torch.no_grad():
            for name, weight in self.tower.named_parameters():
                if name.endswith("per_dim_scale"):
                    weight.zero_()
                elif "norm" in name:
                    weight.fill_(1)
                else:
                    weight.normal_(std=weight[0].numel() ** -0.5)
        hard_tokens(self.embedder)

    def forward(self, mel: Tensor, is_padding: Tensor) -> Tensor:
        """[sounds, frames, mel] to [sounds, tokens, width]."""
        hidden = self.tower(mel, is_padding).last_hidden_state
        rows: Tensor = self.embedder(inputs_embeds=hidden)
        return rows


def hard_tokens(embedder: Any) -> None:
    """Weights of an embedder at the start."""
    with torch.no_grad():
        embedder.embedding.weight.normal_()
        embedder.embedding_projection.weight.normal_(std=embedder.embedding_projection.weight.shape[1] ** -0.5)


def end_row(embedder: Any) -> Tensor:
    """The row of the marker behind a medium, the first of the hard tokens: [1, width]."""
    row: Tensor = embedder(input_ids=torch.tensor([embedder.vocab_offset]))
    return row.reshape(1, -1)


def sound_tokens(frames: int) -> int:
    """How many soft tokens a sound of so many mel frames has: each halved twice, then every fourth."""
    for _ in range(2):
        frames = (frames - 1) // 2 + 1
    return -(-frames // 4)


def batch_of_sounds(mels: Sequence[Tensor]) -> tuple[Tensor, Tensor, list[int]]:
    """Features and padding of a batch, and how many soft tokens of each are its own."""
    longest = max(len(mel) for mel in mels)
    out = torch.zeros(len(mels), longest, mels[0].shape[1])
    is_padding = torch.ones(len(mels), longest, dtype=torch.bool)
    for row, mel in enumerate(mels):
        out[row, : len(mel)] = mel
        is_padding[row, : len(mel)] = False
    return out, is_padding, [sound_tokens(len(mel)) for mel in mels]
