"""What other programs look for beside a model: its tokenizer, configuration and generation settings, in the files of
Hugging Face's ecosystem. A checkpoint's own files are kept; the others are made from the model file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from gemlet.conversion.reading import MOST_BYTES
from gemlet.exported.manifest import TOKENIZER
from gemlet.files import read_file
from gemlet.info import ModelInfo

from .architecture import Architecture
from .source import Source
from .tokenizer_json import VocabularyFile, tokenizer_json, write_json

_COPIED: Final = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
)
_GENERIC_TOKENIZER: Final = "PreTrainedTokenizerFast"
"""The class of transformers that takes tokenizer.json as it is."""


def add_companions(folder: Path, origin: Path, weights: Source, architecture: Architecture, info: ModelInfo) -> None:
    """Writes the files into a folder that holds an exported model.

    Args:
        folder: the exported folder.
        origin: what is exported: a GGUF file, or the folder of a checkpoint.
        weights: the model file, whose vocabulary is the exported model's.
        architecture: gives config.json and the recommended sampling.
        info: the model's description.
    """
    header = weights.header(0)
    (folder / TOKENIZER).write_bytes(header + bytes(-len(header) % weights.alignment))
    for name in _COPIED if origin.is_dir() else ():
        if (origin / name).is_file():
            (folder / name).write_bytes(read_file(origin / name, MOST_BYTES))
    vocabulary = VocabularyFile.read(folder / TOKENIZER, weights.config.vocab_size)
    has_template = any((folder / name).exists() for name in ("chat_template.jinja", "chat_template.json"))
    template = "" if has_template else info.chat_template
    makers: dict[str, Callable[[], dict[str, Any] | None]] = {
        "tokenizer.json": lambda: tokenizer_json(vocabulary),
        "tokenizer_config.json": lambda: _tokenizer_config(vocabulary, weights, template),
        "special_tokens_map.json": lambda: _special_tokens(vocabulary),
        "generation_config.json": lambda: _generation_config(vocabulary, architecture),
        "config.json": lambda: _config(vocabulary, weights, architecture),
    }
    for name, make in makers.items():
        if not (folder / name).exists() and (contents := make()) is not None:
            write_json(folder / name, contents)


def _special_tokens(vocabulary: VocabularyFile) -> dict[str, Any]:
    """The pieces of the tokens that have a role. An unknown token that a text cannot become is left out, since readers
    would find it in texts."""
    roles = {"bos": vocabulary.bos, "eos": vocabulary.eos, "pad": vocabulary.pad, "unk": vocabulary.unknown}
    return {
        f"{role}_token": vocabulary.pieces[token]
        for role, token in roles.items()
        if token is not None and vocabulary.kinds[token] == "control"
    }


def _tokenizer_config(vocabulary: VocabularyFile, weights: Source, template: str) -> dict[str, Any]:
    config = {
        "tokenizer_class": _GENERIC_TOKENIZER,
        "add_bos_token": vocabulary.add_bos,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": weights.config.max_position_embeddings,
        "padding_side": "left",
        **_special_tokens(vocabulary),
    }
    return config | ({"chat_template": template} if template else {})


def _token_ids(vocabulary: VocabularyFile) -> dict[str, Any]:
    ends: Any = list(vocabulary.ends)
    ids = {
        "bos_token_id": vocabulary.bos,
        "eos_token_id": ends[0] if len(ends) == 1 else ends,
        "pad_token_id": vocabulary.pad,
    }
    return {name: token for name, token in ids.items() if token is not None}


def _generation_config(vocabulary: VocabularyFile, architecture: Architecture) -> dict[str, Any]:
    sampling = architecture.sampling
    return {
        **_token_ids(vocabulary),
        "do_sample": True,
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
    }


def _config(vocabulary: VocabularyFile, weights: Source, architecture: Architecture) -> dict[str, Any] | None:
    """The configuration of transformers, without the keys of the run; None for an architecture that it has not."""
    if architecture.transformers_config is None:
        return None
    own = architecture.transformers_config(weights.config)
    return {**own, **_token_ids(vocabulary), "tie_word_embeddings": weights.tied}
