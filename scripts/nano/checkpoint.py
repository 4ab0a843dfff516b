"""nano as a Hugging Face checkpoint folder, in the layout of published Gemma 3n checkpoints."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from architecture import FFN, HARD_TOKENS, LAYERS, PIECES, WIDTH, audio_fields, nano_config, vision_fields
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from towers import Audio, Vision
from transformers import Gemma3nForCausalLM, GenerationConfig

PICTURE_SIZE = 256
PREFIXES = {"vision": ("vision_tower.timm_model.", "embed_vision."), "audio": ("audio_tower.", "embed_audio.")}


def save(modules: nn.ModuleDict, folder: Path, tokenizer: Path) -> None:
    """Write the folder, or replace it file by file. Without encoders it is a `Gemma3nForCausalLM`."""
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder.with_name(folder.name + ".new")
    fresh.mkdir(exist_ok=True)
    text: Any = modules["text"]
    GenerationConfig(eos_token_id=[1, 5], bos_token_id=2, pad_token_id=0, do_sample=False).save_pretrained(fresh)
    if "vision" in modules:
        save_file(multimodal_state(modules), fresh / "model.safetensors", {"format": "pt"})
        write_json(fresh / "config.json", multimodal_config(text.config.to_dict()))
        write_json(fresh / "preprocessor_config.json", preprocessor())
    else:
        text.save_pretrained(fresh)
    for path in tokenizer.iterdir():
        if path.is_file():
            shutil.copy(path, fresh / path.name)
    for path in fresh.iterdir():
        path.replace(folder / path.name)
    fresh.rmdir()


def load(folder: Path) -> nn.ModuleDict:
    """The modules of a checkpoint that `save` wrote."""
    state = load_file(folder / "model.safetensors")
    text: Any = Gemma3nForCausalLM(nano_config(WIDTH, LAYERS, FFN))
    modules = nn.ModuleDict({"text": text})
    language = ("model.language_model.", "model.")[all("language_model." not in name for name in state)]
    text.model.load_state_dict(part(state, language))
    if language == "model.":
        return modules
    for kind, make in (("vision", Vision), ("audio", Audio)):
        encoder: Any = make(text.config)
        tower, embedder = PREFIXES[kind]
        encoder.tower.load_state_dict(part(state, f"model.{tower}"))
        encoder.embedder.load_state_dict(part(state, f"model.{embedder}"))
        modules[kind] = encoder
    return modules


def part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): weight for name, weight in state.items() if name.startswith(prefix)}


def write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def multimodal_state(modules: nn.ModuleDict) -> dict[str, Tensor]:
    """All weights by their published names. The head is the embedding table."""
    text: Any = modules["text"]
    state = {f"model.language_model.{name}": weight for name, weight in text.model.state_dict().items()}
    for kind, (tower, embedder) in PREFIXES.items():
        encoder: Any = modules[kind]
        state |= {f"model.{tower}{name}": weight for name, weight in encoder.tower.state_dict().items()}
        state |= {f"model.{embedder}{name}": weight for name, weight in encoder.embedder.state_dict().items()}
    return {name: weight.detach().contiguous() for name, weight in state.items()}


def multimodal_config(text: dict[str, Any]) -> dict[str, Any]:
    audio_offset = PIECES + HARD_TOKENS
    return {
        "architectures": ["Gemma3nForConditionalGeneration"],
        "model_type": "gemma3n",
        "text_config": text | {"model_type": "gemma3n_text"},
        "vision_config": vision_fields() | {"model_type": "gemma3n_vision"},
        "audio_config": audio_fields() | {"model_type": "gemma3n_audio"},
        "vision_soft_tokens_per_image": 256,
        "audio_soft_tokens_per_image": 0,  # sounds are not filled up
        "boi_token_id": 7,
        "eoi_token_id": PIECES,
        "image_token_id": PIECES + 1,
        "boa_token_id": 8,
        "eoa_token_id": audio_offset,
        "audio_token_id": audio_offset + 1,
        "eos_token_id": [1, 5],
        "tie_word_embeddings": True,
        "initializer_range": 0.02,
    }


def preprocessor() -> dict[str, Any]:
    """`preprocessor_config.json`: how transformers prepares pictures and sounds."""
    return {
        "image_processor_type": "SiglipImageProcessorFast",
        "processor_class": "Gemma3nProcessor",
        "do_convert_rgb": True,
        "do_normalize": False,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_resize": True,
        "resample": 2,
        "size": {"height": PICTURE_SIZE, "width": PICTURE_SIZE},
        "image_seq_length": 256,
        "feature_extractor_type": "Gemma3nAudioFeatureExtractor",
        "feature_size": audio_fields()["input_feat_size"],
        "sampling_rate": 16000,
    }
