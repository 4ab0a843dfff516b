"""Train nano's SentencePiece tokenizer and write it as a Hugging Face checkpoint has it."""

from __future__ import annotations

import argparse
import json
import re
from itertools import islice
from pathlib import Path
from random import Random

import media_tasks
import phrases
import sentencepiece
import sentences
from data import dialogue_parts, training_dialogues
from tasks import Source

VOCAB = 2048
SPECIAL = ("<start_of_turn>", "<end_of_turn>", "\n", "<start_of_image>", "<start_of_audio>")
#: Tokens behind the vocabulary, which have their embeddings in the encoders' own tables.
HARD = {"<end_of_image>": 2048, "<image_soft_token>": 2049, "<end_of_audio>": 2176, "<audio_soft_token>": 2177}
LAST_HARD = 2303
DELIMITER = "\u241f"
EXTRA = """nano is a small test and demo model of gemlet. It answers short questions on sums, facts, phrases and lists.
The quick brown fox jumps over the lazy dog while seven kind wizards box quietly; is that so? Yes, that is right!
"""

CHAT_TEMPLATE = """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set first_user_prefix = messages[0]['content'] + '\n\n' -%}
    {%- else -%}
        {%- set first_user_prefix = messages[0]['content'][0]['text'] + '\n\n' -%}
    {%- endif -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") }}
    {%- endif -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = "model" -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<start_of_turn>' + role + '\n' + (first_user_prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}
            {%- if item['type'] == 'audio' -%}
                {{ '<audio_soft_token>' }}
            {%- elif item['type'] == 'image' -%}
                {{ '<image_soft_token>' }}
            {%- elif item['type'] == 'text' -%}
                {{ item['text'] | trim }}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
    {{ '<end_of_turn>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{ '<start_of_turn>model\n' }}
{%- endif -%}
"""


def corpus_lines() -> list[str]:
    """Training dialogues, and every name and phrase once or more."""
    lines: list[str] = []
    for dialogue in islice(training_dialogues(1), 20000):
        for text, _ in dialogue_parts(dialogue):
            lines += [line for line in re.sub("<(start|end)_of_turn>", "\n", text).split("\n") if line]
    source = Source(Random(2), held_out=False)
    lines += [" ".join(source.invented() for _ in range(6)) for _ in range(1500)]
    lines += [utterance.text for utterance in (sentences.any_utterance(source) for _ in range(5000))]
    for make in (media_tasks.picture, media_tasks.comparison, media_tasks.transcription, media_tasks.translation):
        for shown in (make(source) for _ in range(1500)):
            for branch in shown.branches:
                lines += [branch.answer, *(part for part in branch.parts if isinstance(part, str))]
    lines += [text for row in phrases.PHRASES for text in row for _ in range(60)]
    # No piece joins a space and a capital, so that a name has the same pieces after a space and after a quote.
    return [re.sub(r" (?=[A-Z])", " " + DELIMITER, line) for line in lines + EXTRA.splitlines()]


def train(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus_lines()),
        model_prefix=str(out / "tokenizer"),
        vocab_size=VOCAB,
        model_type="bpe",
        byte_fallback=True,
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        pad_piece="<pad>",
        eos_piece="<eos>",
        bos_piece="<bos>",
        user_defined_symbols=list(SPECIAL),
        split_digits=True,
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        character_coverage=1.0,
        hard_vocab_limit=False,
        pretokenization_delimiter=DELIMITER,
        minloglevel=2,
        num_threads=1,
    )
    (out / "tokenizer.vocab").unlink()
    write_config(out)
    write_fast(out)


def write_config(out: Path) -> None:
    """`tokenizer_config.json` with the chat template."""
    processor = sentencepiece.SentencePieceProcessor(model_file=str(out / "tokenizer.model"))
    named = ("<pad>", "<eos>", "<bos>", "<unk>", *(piece for piece in SPECIAL if piece != "\n"))
    special = {piece: processor.piece_to_id(piece) for piece in named} | HARD
    added = {
        str(index): {
            "content": piece,
            "lstrip": False,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": True,
        }
        for piece, index in special.items()
    }
    config = {
        "add_bos_token": True,
        "add_eos_token": False,
        "added_tokens_decoder": dict(sorted(added.items())),
        "bos_token": "<bos>",
        "eos_token": "<eos>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "boi_token": "<start_of_image>",
        "eoi_token": "<end_of_image>",
        "image_token": "<image_soft_token>",
        "boa_token": "<start_of_audio>",
        "eoa_token": "<end_of_audio>",
        "audio_token": "<audio_soft_token>",
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1024,
        "spaces_between_special_tokens": False,
        "tokenizer_class": "GemmaTokenizer",
    }
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def write_fast(out: Path) -> None:
    """`tokenizer.json`: the same pieces for the tokenizers library."""
    import tokenizers
    from tokenizers import AddedToken, decoders, models, normalizers, processors

    processor = sentencepiece.SentencePieceProcessor(model_file=str(out / "tokenizer.model"))
    vocabulary = {processor.id_to_piece(index): index for index in range(processor.get_piece_size())}
    merges: list[tuple[int, str, str]] = []
    for piece, index in vocabulary.items():
        if processor.is_control(index) or processor.is_byte(index) or processor.is_unknown(index) or piece in SPECIAL:
            continue
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in vocabulary and right in vocabulary:
                merges.append((index, left, right))
    merges.sort(key=lambda merge: (merge[0], vocabulary[merge[1]], vocabulary[merge[2]]))
    fast = tokenizers.Tokenizer(
        models.BPE(
            vocab=vocabulary,
            merges=[(left, right) for _, left, right in merges],
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    fast.normalizer = normalizers.Replace(" ", "\u2581")
    fast.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    fast.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos> $B", special_tokens=[("<bos>", vocabulary["<bos>"])]
    )
    named = ("<pad>", "<eos>", "<bos>", "<unk>", *(piece for piece in SPECIAL if piece != "\n"))
    fast.add_special_tokens([AddedToken(piece, normalized=False, special=True) for piece in named])
    fast.add_tokens([AddedToken("\n", normalized=False)])
    places = {index: piece for piece, index in HARD.items()}
    hard = [places.get(index, f"<unused{index}>") for index in range(VOCAB, LAST_HARD + 1)]
    fast.add_special_tokens([AddedToken(piece, normalized=False, special=True) for piece in hard])
    fast.save(str(out / "tokenizer.json"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="checkpoint folder")
    train(parser.parse_args().out)


if __name__ == "__main__":
    main()
