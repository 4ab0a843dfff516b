"""What timm and transformers make of pictures and sounds with the weights of tiny encoders, in float64.

Needs the [live] extra, and timm for pictures.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from tiny_audio import TinyAudio
from tiny_encoders import AUDIO, TEXT, VISION, Parts, encoder_weights
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


def multimodal_logits(parts: Parts, pixels: NDArray[np.uint8], samples: NDArray[np.float32]) -> Doubles:
    """The logits of the whole model of tiny_encoders, [places][TEXT.vocab].

    A mark stands behind the picture and behind the sound.
    """
    from timm.models._efficientnet_builder import decode_arch_def
    from transformers import Gemma3nConfig, Gemma3nForConditionalGeneration
    from transformers.models.gemma3n.feature_extraction_gemma3n import Gemma3nAudioFeatureExtractor

    hard = 128  # tokens of each embedder, behind the text's
    vision = VISION.config() | {"vocab_offset": TEXT.vocab}
    vision["model_args"] = vision["model_args"] | {"block_args": decode_arch_def([list(s) for s in VISION.stages])}
    config = Gemma3nConfig(
        text_config=TEXT.config() | {"vocab_size": TEXT.vocab + 2 * hard},
        vision_config=vision,
        audio_config=AUDIO.config() | {"vocab_offset": TEXT.vocab + hard},
        image_token_id=TEXT.vocab + 1,
        audio_token_id=TEXT.vocab + hard + 1,
    )
    config._attn_implementation = "eager"
    model = Gemma3nForConditionalGeneration(config).eval()
    state = {f"model.{name}": torch.from_numpy(value) for name, value in encoder_weights().items()}
    for name, value in TEXT.weights().items():
        state[f"model.language_model.{name}"] = torch.from_numpy(np.array(value))
    table = state["model.language_model.embed_tokens.weight"]
    state["model.language_model.embed_tokens.weight"] = torch.cat([table, torch.full((2 * hard, TEXT.hidden), 9.0)])
    state["lm_head.weight"] = state["model.language_model.embed_tokens.weight"]
    model.load_state_dict(state)

    extractor = Gemma3nAudioFeatureExtractor(feature_size=AUDIO.mel)
    mel = extractor([samples], return_tensors="pt")
    places = {
        "image": [config.image_token_id] * 256 + [TEXT.vocab],
        "audio": [config.audio_token_id] * 188 + [TEXT.vocab + hard],
    }
    ids = [token for part in parts for token in (places[part] if isinstance(part, str) else part)]
    given = {}
    if "image" in parts:
        given["pixel_values"] = torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1)[None]
    if "audio" in parts:
        given |= {"input_features": mel["input_features"], "input_features_mask": mel["input_features_mask"]}
    with torch.no_grad():
        logits: Doubles = model(input_ids=torch.tensor([ids]), **given).logits[0, :, : TEXT.vocab].numpy()
    return logits
