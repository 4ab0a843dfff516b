"""The metadata of the GGUF file: the keys that llama.cpp's converter writes (conversion/gemma.py, Gemma3NModel)."""

from __future__ import annotations

import gguf

from .config import SLIDING, TextConfig
from .recipes import Recipe
from .vocabulary import Vocabulary

ARCHITECTURE = gguf.MODEL_ARCH_NAMES[gguf.MODEL_ARCH.GEMMA3N]


def add_metadata(writer: gguf.GGUFWriter, config: TextConfig, vocabulary: Vocabulary, recipe: Recipe) -> None:
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(config.name)
    writer.add_file_type(recipe.file_type)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    _add_model(writer, config)
    _add_vocabulary(writer, vocabulary)


def _add_model(writer: gguf.GGUFWriter, config: TextConfig) -> None:
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_embedding_length_per_layer_input(config.hidden_size_per_layer_input)
    widths = set(config.intermediate_size)
    writer.add_feed_forward_length(widths.pop() if len(widths) == 1 else list(config.intermediate_size))
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_rope_freq_base_swa(config.rope_local_base_freq)
    writer.add_sliding_window(config.sliding_window)
    writer.add_sliding_window_pattern([kind == SLIDING for kind in config.layer_types])
    writer.add_shared_kv_layers(config.num_kv_shared_layers)
    writer.add_final_logit_softcapping(config.final_logit_softcapping)
    writer.add_altup_active_idx(config.altup_active_idx)
    writer.add_altup_num_inputs(config.altup_num_inputs)
    writer.add_activation_sparsity_scale(config.sparsity_scales())


def _add_vocabulary(writer: gguf.GGUFWriter, vocabulary: Vocabulary) -> None:
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
    writer.add_add_bos_token(vocabulary.add_bos)
    writer.add_add_space_prefix(vocabulary.add_space_prefix)
    if vocabulary.chat_template is not None:
        writer.add_chat_template(vocabulary.chat_template)
