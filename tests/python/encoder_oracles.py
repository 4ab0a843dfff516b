"""What timm and transformers make of pictures and sounds with the weights of tiny encoders, in float64.

Needs the [live] extra, and timm for pictures.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from tiny_audio import TinyAudio
from tiny_vision import TinyVision
from torchvision_operators import complete_torchvision

complete_torchvision()

Doubles = NDArray[np.float64]


def audio_rows(tiny: TinyAudio, samples: NDArray[np.float32]) -> Doubles:
    """The soft tokens of a sound, [tokens][text_hidden]."""
    from transformers import Gemma3nAudioConfig, Gemma3nAudioEncoder, Gemma3nTextConfig
    from transformers.models.gemma3n.feature_extraction_gemma3n import Gemma3nAudioFeatureExtractor
    from transformers.models.gemma3n.modeling_gemma3n import Gemma3nMultimodalEmbedder

    config = Gemma3nAudioConfig(**tiny.config())
    tower = Gemma3nAudioEncoder(config).eval()
    embedder = Gemma3nMultimodalEmbedder(config, Gemma3nTextConfig(hidden_size=tiny.text_hidden)).eval()
    weights = {name: torch.from_numpy(value) for name, value in tiny.weights().items()}
    prefix = "embed_audio."
    tower.load_state_dict({n: v for n, v in weights.items() if not n.startswith(prefix)})
    embedder.load_state_dict({n.removeprefix(prefix): v for n, v in weights.items() if n.startswith(prefix)})
    extractor = Gemma3nAudioFeatureExtractor(feature_size=tiny.mel)
    mel = torch.from_numpy(extractor([samples], return_tensors="np")["input_features"]).double()
    with torch.no_grad():
        hidden = tower.double()(mel, torch.zeros(mel.shape[:2], dtype=torch.bool)).last_hidden_state
        rows: Doubles = embedder.double()(inputs_embeds=hidden)[0].numpy()
    return rows


def vision_rows(tiny: TinyVision, pixels: NDArray[np.uint8]) -> Doubles:
    """The soft tokens of a square picture, [256][text_hidden]. The embedder is written down from transformers'
    Gemma3nMultimodalEmbedder."""
    import timm
    from timm.models._efficientnet_builder import decode_arch_def

    tower = timm.create_model(
        "mobilenetv5_300m_enc",
        block_args=decode_arch_def([list(stage) for stage in tiny.stages]),
        stem_size=tiny.stem,
        num_classes=0,
    )
    weights = tiny.weights()
    prefix = "embed_vision."
    tower.load_state_dict({n: torch.from_numpy(v) for n, v in weights.items() if not n.startswith(prefix)})
    planes = torch.from_numpy(pixels.astype(np.float64) / 255).permute(2, 0, 1)[None]
    with torch.no_grad():
        features = tower.eval().double()(planes)[0].permute(1, 2, 0).reshape(256, -1).numpy()

    def rms_norm(x: Doubles) -> Doubles:
        normed: Doubles = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)
        return normed

    normed = rms_norm(features * np.sqrt(tiny.width)) * weights[f"{prefix}soft_embedding_norm.weight"]
    return rms_norm(normed @ weights[f"{prefix}embedding_projection.weight"].T.astype(np.float64))
