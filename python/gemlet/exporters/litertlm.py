"""Bundles for LiteRT-LM: a TFLite file, its tokenizer and what a chat needs to know, in one file.

The container is written by LiteRT-LM's own builder, litert-lm-builder.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import gguf
from litert_lm_builder import litertlm_builder
from litert_lm_builder.runtime.proto import llm_metadata_pb2, sampler_params_pb2

from gemlet.chat.sandbox import Renderer
from gemlet.conversion.sentencepiece import ModelKind, Piece, PieceKind, SentencePieceModel
from gemlet.errors import TemplateError
from gemlet.exported.manifest import TOKENIZER
from gemlet.model import Model, load
from gemlet.version import __version__

from . import architectures
from .errors import ExportError
from .tflite.file import MODEL

SENTENCEPIECE: Final = "tokenizer.model"

_QUESTIONS: Final = ("What is the capital of Portugal?", "How do you say good night in French?")
_ANSWER_TOKENS: Final = 16
_MOST_SECONDS: Final = 900
_RUN: Final = """
import sys, litert_lm
path, most, context, threads, *questions = sys.argv[1:]
litert_lm.set_min_log_severity(litert_lm.LogSeverity.ERROR)
backend = litert_lm.Backend.CPU(thread_count=int(threads))
greedy = litert_lm.SamplerConfig(top_k=1, temperature=0.0)
with litert_lm.Engine(path, backend, max_num_tokens=int(context), cache_dir=":nocache") as engine:
    for question in questions:
        with engine.create_conversation(sampler_config=greedy, max_output_tokens=int(most)) as conversation:
            message = conversation.send_message(question)
            text = "".join(part.get("text", "") for part in message["content"])
            sys.stdout.buffer.write(text.encode() + b"\\0")
"""


def write(folder: Path, path: Path, target: Path) -> None:
    """Bundles an exported TFLite folder as `path`, which will be `target`.

    Raises ExportError for a tokenizer that is not SentencePiece's, or a chat template that LiteRT-LM cannot use; or
    OSError.
    """
    model = load(folder)
    _require_parts(model.info.chat_template, target)
    tokenizer = folder / SENTENCEPIECE
    if not tokenizer.exists():
        tokenizer.write_bytes(_sentencepiece(folder / TOKENIZER).serialize())
    metadata = folder / "llm_metadata.pb"
    metadata.write_bytes(_metadata(model).SerializeToString())
    builder = litertlm_builder.LitertLmFileBuilder()
    builder.add_system_metadata(
        litertlm_builder.Metadata("Authors", f"gemlet {__version__}", litertlm_builder.DType.STRING)
    )
    builder.add_llm_metadata(str(metadata))
    builder.add_sentencepiece_tokenizer(str(tokenizer))
    builder.add_tflite_model(str(folder / MODEL), litertlm_builder.TfLiteModelType.PREFILL_DECODE)
    with path.open("wb") as file:
        builder.build(file)


def answers_in_litert_lm(path: Path, context: int, threads: int, target: Path) -> list[str] | None:
    """What LiteRT-LM answers on the CPU to the questions of the check; None if it is not installed. Raises ExportError
    naming `target` if it fails."""
    if importlib.util.find_spec("litert_lm") is None:
        return None
    numbers = map(str, (_ANSWER_TOKENS, context, threads))
    command = [sys.executable, "-c", _RUN, str(path), *numbers, *_QUESTIONS]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_MOST_SECONDS)
    except subprocess.TimeoutExpired:
        raise ExportError(f"{target}: LiteRT-LM has not answered after {_MOST_SECONDS} s; nothing was kept") from None
    if done.returncode != 0:
        raise ExportError(f"{target}: LiteRT-LM does not run it: {done.stderr.decode(errors='replace')[-2000:]}")
    return done.stdout.decode(errors="replace").split("\0")[:-1]


def answers_in_litert(folder: Path, threads: int) -> list[str]:
    """What the same model answers in LiteRT, with gemlet's own template, tokenizer and sampler."""
    model = load(folder, threads=threads)
    return [model.chat(temperature=0.0, max_tokens=_ANSWER_TOKENS).send(question).text for question in _QUESTIONS]


def compare(path: Path, found: Sequence[str], expected: Sequence[str]) -> None:
    """Raises ExportError for different answers."""
    for question, ours, theirs in zip(_QUESTIONS, expected, found, strict=True):
        if ours.strip() != theirs.strip():
            raise ExportError(
                f"{path}: LiteRT-LM answers {theirs!r} to {question!r}, expected {ours!r}; nothing was kept"
            )


def _require_parts(template: str, target: Path) -> None:
    """Raises ExportError for a template that writes other prompts where contents come as LiteRT-LM gives them: as a
    list of parts, which Gemma's own takes like a text."""
    if not template:
        return
    renderer = Renderer(template)

    def rendered(content: object) -> str:
        messages = [{"role": "user", "content": content}]
        return renderer.render({"messages": messages, "add_generation_prompt": True, "bos_token": "", "eos_token": ""})

    expected = rendered("Hello")
    try:
        found = rendered([{"type": "text", "text": "Hello"}])
    except TemplateError as error:
        found = str(error)
    if found != expected:
        raise ExportError(
            f"{target}: LiteRT-LM gives contents to the chat template as a list of parts, which this one does not "
            f"take: expected {expected!r}, found {found!r}"
        )


def _metadata(model: Model) -> llm_metadata_pb2.LlmMetadata:
    metadata = llm_metadata_pb2.LlmMetadata()
    metadata.start_token.token_ids.ids.append(model.bos)
    for token in range(model.info.vocabulary):
        if model.is_end(token):
            metadata.stop_tokens.add().token_ids.ids.append(token)
    metadata.max_num_tokens = model.context
    architecture = architectures.by_name(model.info.architecture)
    for role, (prefix, suffix) in (("user", architecture.turns.user), ("model", architecture.turns.model)):
        affixes = getattr(metadata.prompt_templates, role)
        affixes.prefix, affixes.suffix = prefix, suffix
    if model.info.chat_template:
        metadata.jinja_prompt_template = model.info.chat_template
    getattr(metadata.llm_model_type, architecture.litert_lm_type).SetInParent()
    sampling, sampler = architecture.sampling, metadata.sampler_params
    sampler.type = sampler_params_pb2.SamplerParameters.TOP_P
    sampler.k, sampler.p, sampler.temperature = sampling.top_k, sampling.top_p, sampling.temperature
    return metadata


def _sentencepiece(path: Path) -> SentencePieceModel:
    """The vocabulary of a GGUF file as SentencePiece has it, where control tokens in a text are user-defined pieces."""
    fields = gguf.GGUFReader(path).fields
    kind = fields["tokenizer.ggml.model"].contents()
    if kind != "llama":
        raise ExportError(
            f"the tokenizer is of the kind {kind!r}, which LiteRT-LM does not read; export from a checkpoint folder "
            f"with a {SENTENCEPIECE}"
        )
    texts, scores, kinds = (fields[f"tokenizer.ggml.{name}"].contents() for name in ("tokens", "scores", "token_type"))
    named = {name: fields.get(f"tokenizer.ggml.{name}_token_id") for name in ("bos", "eos", "padding", "unknown")}
    special = {name: int(field.contents()) for name, field in named.items() if field is not None}

    def piece(token: int, text: str, score: float, kind: int) -> Piece:
        control = kind == PieceKind.CONTROL and token not in special.values()
        return Piece(text, score, PieceKind.USER_DEFINED if control else PieceKind(kind))

    prefix = fields.get("tokenizer.ggml.add_space_prefix")
    return SentencePieceModel(
        pieces=[piece(i, *entry) for i, entry in enumerate(zip(texts, scores, kinds, strict=True))],
        kind=ModelKind.BPE,
        byte_fallback=PieceKind.BYTE in kinds,
        bos_piece=texts[special.get("bos", 0)],
        eos_piece=texts[special.get("eos", 0)],
        pad_piece=texts[special.get("padding", 0)],
        unk_piece=texts[special.get("unknown", 0)],
        normalizer="identity",
        add_dummy_prefix=prefix is not None and bool(prefix.contents()),
        remove_extra_whitespaces=False,
    )
