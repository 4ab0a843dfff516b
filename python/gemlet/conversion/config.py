"""A checkpoint's config.json: the sizes and constants of the text model, checked one by one."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any, TypeGuard

import numpy as np

from .errors import ConvertError

SLIDING = "sliding_attention"
FULL = "full_attention"
ARCHITECTURES = ("Gemma3nForConditionalGeneration", "Gemma3nForCausalLM", "Gemma3nTextModel", "Gemma3nModel")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises ConvertError naming the file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConvertError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConvertError(f"{path}: not valid JSON: {error}") from error
    except RecursionError as error:
        raise ConvertError(f"{path}: JSON nested too deeply") from error
    if not isinstance(value, dict):
        raise ConvertError(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value


@dataclass(frozen=True)
class TextConfig:
    """Gemma 3n's text model, in the names of `Gemma3nTextConfig` (transformers). Lists have one entry a layer."""

    vocab_size: int
    vocab_size_per_layer_input: int
    hidden_size: int
    hidden_size_per_layer_input: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    num_kv_shared_layers: int
    sliding_window: int
    max_position_embeddings: int
    laurel_rank: int
    altup_num_inputs: int
    altup_active_idx: int
    altup_correct_scale: bool
    tie_word_embeddings: bool
    rms_norm_eps: float
    rope_theta: float
    rope_local_base_freq: float
    final_logit_softcapping: float
    intermediate_size: tuple[int, ...]
    layer_types: tuple[str, ...]
    activation_sparsity_pattern: tuple[float, ...]
    name: str
    bos_token_id: int | None
    eos_token_ids: tuple[int, ...]
    pad_token_id: int | None

    @property
    def first_shared_layer(self) -> int:
        return self.num_hidden_layers - self.num_kv_shared_layers

    def sparsity_scales(self) -> list[float]:
        """The cutoff of each layer in standard deviations above the mean: icdf(sparsity) of the normal distribution, as
        `Gemma3nTextMLP._gaussian_topk` takes it in float32; minus infinity for a dense layer."""
        return [_icdf(sparsity) if sparsity > 0 else -math.inf for sparsity in self.activation_sparsity_pattern]


def _icdf(sparsity: float) -> float:
    """torch computes erfinv(2 p - 1) sqrt(2); the argument is rounded to float32 as there, the rest in double."""
    argument = np.float32(2) * np.float32(sparsity) - np.float32(1)
    return float(np.float32(NormalDist().inv_cdf((float(argument) + 1) / 2)))


class _Fields:
    """Takes typed fields out of a JSON object and collects what is wrong with them."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values
        self.problems: list[str] = []

    def complain(self, name: str, expected: str) -> None:
        found = json.dumps(self.values[name])[:80] if name in self.values else "nothing"
        self.problems.append(f"{name}: expected {expected}, found {found}")

    def integer(self, name: str, low: int = 1, high: int = 1 << 24, default: int | None = None) -> int:
        value = self.values.get(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            self.complain(name, f"a whole number from {low} to {high}")
            return low
        return value

    def number(self, name: str, default: float | None = None) -> float:
        value = self.values.get(name, default)
        if not _is_number(value) or not 0 < value < math.inf:
            self.complain(name, "a number above 0")
            return 1.0
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        value = self.values.get(name, default)
        if not isinstance(value, bool):
            self.complain(name, "true or false")
            return default
        return value

    def fixed(self, name: str, allowed: tuple[Any, ...]) -> None:
        """A field that gemlet knows one value of. `allowed[0]` is also what absence means."""
        if self.values.get(name, allowed[0]) not in allowed:
            self.complain(name, f"{json.dumps(allowed[0])} (gemlet runs nothing else)")

    def per_layer(self, name: str, layers: int, expected: str, valid: Any) -> list[Any]:
        """A list with one entry a layer that `valid` accepts."""
        value = self.values.get(name)
        if not isinstance(value, list) or len(value) != layers or not all(valid(entry) for entry in value):
            self.complain(name, f"a list of {layers} entries (num_hidden_layers), each {expected}")
            return []
        return value


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 1 << 20


def _rope(fields: _Fields, kind: str, older_name: str, default: float) -> float:
    """The base of one kind of layer: `rope_parameters` (transformers 5) or the older flat fields."""
    fields.fixed("rope_scaling", (None,))
    parameters = fields.values.get("rope_parameters")
    if parameters is None:
        return fields.number(older_name, default)
    of_kind = parameters.get(kind) if isinstance(parameters, dict) else None
    if not isinstance(of_kind, dict) or of_kind.get("rope_type", "default") != "default":
        fields.complain("rope_parameters", f'{{"{kind}": {{"rope_type": "default", "rope_theta": number}}}}')
        return default
    inner = _Fields({"rope_theta": default, **of_kind})
    base = inner.number("rope_theta")
    fields.problems += [f"rope_parameters.{kind}.{problem}" for problem in inner.problems]
    return base


def _sharing(fields: _Fields, layers: int, shared: int, types: list[str]) -> None:
    """A shared layer reads the last unshared layer of its own kind: there must be one."""
    if not shared or not types:
        return
    lacking = sorted(set(types[layers - shared :]) - set(types[: layers - shared]))
    if lacking:
        fields.problems.append(
            f"num_kv_shared_layers: the last {shared} of {layers} layers share keys and values, but no earlier "
            f"layer is of the kind {', '.join(lacking)}"
        )


def read_config(directory: Path) -> TextConfig:
    """Reads DIR/config.json (and generation_config.json for the end tokens). Raises one ConvertError that lists every
    missing or odd field. Fields that all Gemma 3n models share default to transformers' values; sizes never do."""
    path = directory / "config.json"
    root = read_json(path)
    architectures = root.get("architectures")
    if architectures is not None and not (
        isinstance(architectures, list) and any(name in ARCHITECTURES for name in architectures)
    ):
        raise ConvertError(f"{path}: architectures is {json.dumps(architectures)[:200]}, gemlet converts Gemma 3n only")
    text = root.get("text_config", root)
    if not isinstance(text, dict):
        raise ConvertError(f"{path}: text_config: expected a JSON object, found {type(text).__name__}")
    if text.get("model_type") not in ("gemma3n_text", "gemma3n"):
        raise ConvertError(f'{path}: model_type is {json.dumps(text.get("model_type"))}, expected "gemma3n_text"')

    fields = _Fields({"tie_word_embeddings": root.get("tie_word_embeddings", True), **text})
    layers = fields.integer("num_hidden_layers", high=1024)
    heads = fields.integer("num_attention_heads", high=1 << 16)
    kv_heads = fields.integer("num_key_value_heads", high=1 << 16)
    if heads % kv_heads != 0:
        fields.complain("num_key_value_heads", f"a divisor of num_attention_heads ({heads})")
    head_dim = fields.integer("head_dim", low=2, high=1 << 16)
    if head_dim % 2 != 0:
        fields.complain("head_dim", "an even number")
    shared = fields.integer("num_kv_shared_layers", low=0, high=layers - 1)
    if isinstance(text.get("intermediate_size"), int):
        widths = [fields.integer("intermediate_size", high=1 << 20)] * layers
    else:
        widths = fields.per_layer("intermediate_size", layers, "a whole number above 0", _is_size)
    types = fields.per_layer("layer_types", layers, f"{SLIDING!r} or {FULL!r}", lambda entry: entry in (SLIDING, FULL))
    sparsity = fields.per_layer(
        "activation_sparsity_pattern",
        layers,
        "a number from 0 to below 1",
        lambda entry: _is_number(entry) and 0 <= entry < 1,
    )
    altup = fields.integer("altup_num_inputs", low=2, high=16)
    _sharing(fields, layers, shared, types)
    fields.fixed("attention_bias", (False,))
    fields.fixed("hidden_activation", ("gelu_pytorch_tanh",))

    tokens = {**root, **text}
    generation = directory / "generation_config.json"
    if generation.is_file():
        tokens.update({key: value for key, value in read_json(generation).items() if value is not None})
    config = TextConfig(
        vocab_size=fields.integer("vocab_size"),
        vocab_size_per_layer_input=fields.integer("vocab_size_per_layer_input"),
        hidden_size=fields.integer("hidden_size", high=1 << 20),
        hidden_size_per_layer_input=fields.integer("hidden_size_per_layer_input", high=1 << 20),
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        num_kv_shared_layers=shared,
        sliding_window=fields.integer("sliding_window", high=1 << 20),
        max_position_embeddings=fields.integer("max_position_embeddings", default=32768),
        laurel_rank=fields.integer("laurel_rank", high=1 << 20),
        altup_num_inputs=altup,
        altup_active_idx=fields.integer("altup_active_idx", low=0, high=altup - 1, default=0),
        altup_correct_scale=fields.flag("altup_correct_scale", True),
        tie_word_embeddings=fields.flag("tie_word_embeddings", True),
        rms_norm_eps=fields.number("rms_norm_eps", 1e-6),
        rope_theta=_rope(fields, FULL, "rope_theta", 1e6),
        rope_local_base_freq=_rope(fields, SLIDING, "rope_local_base_freq", 1e4),
        final_logit_softcapping=fields.number("final_logit_softcapping", 30.0),
        intermediate_size=tuple(widths),
        layer_types=tuple(types),
        activation_sparsity_pattern=tuple(float(value) for value in sparsity),
        name=_name(root, directory),
        bos_token_id=_token(tokens.get("bos_token_id")),
        eos_token_ids=_tokens(tokens.get("eos_token_id")),
        pad_token_id=_token(tokens.get("pad_token_id")),
    )
    if fields.problems:
        raise ConvertError.listing(
            f"{path}: {len(fields.problems)} fields are wrong", list(dict.fromkeys(fields.problems))
        )
    return config


def _name(root: dict[str, Any], directory: Path) -> str:
    given = root.get("_name_or_path")
    return (
        given.rstrip("/").rsplit("/", 1)[-1]
        if isinstance(given, str) and given.strip("/")
        else directory.resolve().name
    )


def _token(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _tokens(value: object) -> tuple[int, ...]:
    listed = value if isinstance(value, list) else [value]
    return tuple(token for token in map(_token, listed) if token is not None)
