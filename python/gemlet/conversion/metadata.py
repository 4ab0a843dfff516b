"""The metadata that every GGUF file of a text model has. The architecture's own keys are in architectures/."""

from __future__ import annotations

from typing import Final

import gguf

from .recipes import Recipe
from .vocabulary import Vocabulary

_ENDS: Final = "tokenizer.ggml.eos_token_ids"


def add_general(writer: gguf.GGUFWriter, name: str, recipe: Recipe) -> None:
    """Writes the model's name and the types of its weights."""
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(name)
    writer.add_file_type(recipe.file_type)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def add_vocabulary(writer: gguf.GGUFWriter, vocabulary: Vocabulary) -> None:
    """Writes the tokenizer and the chat template."""
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre("default" if vocabulary.model == "llama" else vocabulary.model)
    writer.add_token_list([piece.text for piece in vocabulary.pieces])
    writer.add_token_scores([piece.score for piece in vocabulary.pieces])
    writer.add_token_types([int(piece.kind) for piece in vocabulary.pieces])
    if vocabulary.merges:
        writer.add_token_merges(vocabulary.merges)
    for add, token in (
        (writer.add_bos_token_id, vocabulary.bos),
        (writer.add_eos_token_id, vocabulary.eos),
        (writer.add_eot_token_id, vocabulary.eot),
        (writer.add_unk_token_id, vocabulary.unk),
        (writer.add_pad_token_id, vocabulary.pad),
    ):
        if token is not None:
            add(token)
    further = [token for token in vocabulary.ends if token not in (vocabulary.eos, vocabulary.eot)]
    if further:  # llama.cpp reads one more, under this key; Ollama and gemlet read the array
        writer.add_eom_token_id(further[0])
        writer.add_array(_ENDS, vocabulary.ends)
    writer.add_add_bos_token(vocabulary.add_bos)
    writer.add_add_space_prefix(vocabulary.add_space_prefix)
    if vocabulary.chat_template is not None:
        writer.add_chat_template(vocabulary.chat_template)
