"""Bundles for LiteRT-LM: a TFLite file, its tokenizer and what a chat needs to know, in one file.

The container is written by LiteRT-LM's own builder, litert-lm-builder.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import gguf
from litert_lm_builder import litertlm_builder
from litert_lm_builder.runtime.proto import llm_metadata_pb2, sampler_params_pb2

from gemlet.chat.sandbox import Renderer
from gemlet.conversion.sentencepiece import ModelKind, Piece, PieceKind, SentencePieceModel
from gemlet.errors import TemplateError
from gemlet.exported.manifest import TOKENIZER, Manifest
from gemlet.model import Model, load
from gemlet.version import __version__

from . import architectures
from .errors import ExportError
from .tflite.bundle import PICTURE_SIZE
from .tflite.file import MODEL

SENTENCEPIECE: Final = "tokenizer.model"


def write(folder: Path, path: Path, target: Path, sections: Mapping[str, Path] | None = None) -> None:
    """Bundles an exported TFLite folder as `path`, which will be `target`.

    sections: the models, by what LiteRT-LM calls them, where there is more than the folder's.

    Raises ExportError for a tokenizer that is not SentencePiece's, or a chat template that LiteRT-LM cannot use; or
    OSError.
    """
    model = load(folder)
    _require_parts(model.info.chat_template, target)
    tokenizer = folder / SENTENCEPIECE
    if not tokenizer.exists():
        tokenizer.write_bytes(_sentencepiece(folder / TOKENIZER).serialize())
    metadata = folder / "llm_metadata.pb"
    described = _metadata(model)
    if sections is not None:
        _add_media(described, model, Manifest.read(folder), target)
    metadata.write_bytes(described.SerializeToString())
    builder = litertlm_builder.LitertLmFileBuilder()
    builder.add_system_metadata(
        litertlm_builder.Metadata("Authors", f"gemlet {__version__}", litertlm_builder.DType.STRING)
    )
    builder.add_llm_metadata(str(metadata))
    builder.add_sentencepiece_tokenizer(str(tokenizer))
    for section, model_file in (sections or {"prefill_decode": folder / MODEL}).items():
        kind = litertlm_builder.TfLiteModelType.get_enum_from_tf_free_value(section)
        builder.add_tflite_model(str(model_file), kind)
    with path.open("wb") as file:
        builder.build(file)


def _rendered(renderer: Renderer, content: object) -> str:
    """A prompt with what a user says."""
    messages = [{"role": "user", "content": content}]
    return renderer.render({"messages": messages, "add_generation_prompt": True, "bos_token": "", "eos_token": ""})


def _require_parts(template: str, target: Path) -> None:
    """Raises ExportError for a template that writes other prompts where contents come as LiteRT-LM gives them: as a
    list of parts, which Gemma's own takes like a text."""
    if not template:
        return
    renderer = Renderer(template)
    expected = _rendered(renderer, "Hello")
    try:
        found = _rendered(renderer, [{"type": "text", "text": "Hello"}])
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


def _add_media(metadata: llm_metadata_pb2.LlmMetadata, model: Model, manifest: Manifest, target: Path) -> None:
    """What LiteRT-LM has to know of pictures and sounds. Its generic model type lets the features of sounds be the
    model's; that of the architecture has others."""
    media = manifest.media_info()
    kinds = {"image": media.vision is not None, "audio": media.audio is not None}
    template = model.info.chat_template
    marks = {kind: _placeholder(template, kind, target) for kind, is_there in kinds.items() if is_there}
    generic = metadata.llm_model_type.generic_model
    generic.delimiter_regex = "(" + "|".join(re.escape(mark) for mark in marks.values()) + ")"
    for kind, mark in marks.items():
        start = f"<start_of_{kind}>"
        if len(model.tokenize(start)) != 1:
            raise ExportError(f"{target}: the vocabulary lacks {start!r}, which stands in front of a medium in prompts")
        setattr(generic, f"{kind}_enabled", True)
        setattr(generic, f"{kind}_token_regex", re.escape(mark))
        getattr(generic, f"start_of_{kind}_token").token_str = start
        setattr(generic, f"{kind}_prefix", "\n\n")
        setattr(generic, f"{kind}_suffix", "\n\n")
        setattr(generic, f"add_{kind}_end", True)
    if media.vision is not None:
        generic.image_tensor_height = generic.image_tensor_width = PICTURE_SIZE
    if media.audio is not None:
        generic.audio_num_mel_bins = media.audio.mel_bins
        generic.audio_input_scale = 1.0
        generic.audio_mel_low_hz, generic.audio_mel_high_hz = 125.0, 7600.0
        generic.audio_mel_floor = math.log(1e-5)
        generic.audio_normalize_mel = generic.audio_add_floor_to_mel_before_log = False
        generic.audio_semicausal_padding = generic.audio_non_zero_hanning = False
        generic.audio_periodic_hanning = True


def _placeholder(template: str, kind: str, target: Path) -> str:
    """What the chat template writes where a picture or a sound stands, which LiteRT-LM looks for."""
    if template:
        parts = [{"type": "text", "text": "before"}, {"type": kind}, {"type": "text", "text": "behind"}]
        with contextlib.suppress(TemplateError):
            found = re.search("before(.+)behind", _rendered(Renderer(template), parts))
            if found is not None and found[1].strip():
                return found[1].strip()
    raise ExportError(
        f"{target}: LiteRT-LM finds the place of {'a picture' if kind == 'image' else 'a sound'} by what the chat "
        f"template writes there, and this one writes nothing"
    )


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
