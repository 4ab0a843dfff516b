"""A checkpoint's configuration: the fields that every text model has, and typed reading of the JSON they come from."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeGuard

from gemlet.files import open_file
from gemlet.text import to_bytes, to_text

from .errors import ConvertError
from .reading import describe_foreign, read_json

SLIDING: Final = "sliding_attention"
FULL: Final = "full_attention"

_FOREIGN_WEIGHTS: Final = ("quantization_config", "quantization", "compression_config")
"""Keys of config.json under which quantised checkpoints (GPTQ, AWQ, bitsandbytes, FP8, MLX) describe their weights."""

_FOREIGN_FILES: Final = ("quantize_config.json", "hf_quant_config.json", "quant_config.json")
"""Files in which others do (AutoGPTQ, ModelOpt, AutoAWQ)."""

_EXPECTED: Final = "expected a checkpoint in float32, float16 or bfloat16"

#: What float32 holds, in which the model is computed.
_SMALLEST, _GREATEST = 1e-37, 3e38


@dataclass(frozen=True)
class TextConfig:
    """The fields that every architecture's text model has, in transformers' names. Tuples have one entry a layer."""

    name: str
    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    sliding_window: int
    max_position_embeddings: int
    rms_norm_eps: float
    tie_word_embeddings: bool
    intermediate_size: tuple[int, ...]
    layer_types: tuple[str, ...]
    bos_token_id: int | None
    eos_token_ids: tuple[int, ...]
    pad_token_id: int | None


@dataclass(frozen=True)
class ConfigFile:
    """config.json as it was read, and what stands beside it."""

    path: Path
    root: dict[str, Any]
    text: dict[str, Any]
    """The text model's part: the object `text_config` of a multimodal checkpoint, otherwise all of the file."""

    @classmethod
    def read(cls, directory: Path) -> ConfigFile:
        """Raises ConvertError naming the file and what is wrong with it."""
        _require_checkpoint(directory)
        path = directory / "config.json"
        root = read_json(path)
        text = root.get("text_config", root)
        if not isinstance(text, dict):
            raise ConvertError(f"{path}: text_config: expected a JSON object, found {type(text).__name__}")
        _require_plain_weights(path, root, text)
        return cls(path, root, text)

    def part(self, name: str) -> Fields:
        """The fields of another part of a multimodal checkpoint, such as `vision_config`."""
        values = self.root.get(name)
        if not isinstance(values, dict | None):
            raise ConvertError(f"{self.path}: {name}: expected a JSON object, found {type(values).__name__}")
        return Fields(values or {}, f"{name}.")

    def fields(self, **defaults: Any) -> Fields:
        """The text model's fields; `defaults` stand in for those that are missing."""
        return Fields({**defaults, "tie_word_embeddings": self.root.get("tie_word_embeddings", True), **self.text})

    def special_tokens(self) -> dict[str, Any]:
        """`bos_token_id`, `eos_token_ids` and `pad_token_id`; generation_config.json goes before config.json."""
        values = {**self.root, **self.text}
        generation = self.path.with_name("generation_config.json")
        if generation.is_file():
            values.update({key: value for key, value in read_json(generation).items() if value is not None})
        return {
            "bos_token_id": _token(values.get("bos_token_id")),
            "eos_token_ids": _tokens(values.get("eos_token_id")),
            "pad_token_id": _token(values.get("pad_token_id")),
        }

    @property
    def name(self) -> str:
        """The model's name: the last part of `_name_or_path`, or the folder's."""
        given = self.root.get("_name_or_path")
        if isinstance(given, str) and given.strip("/"):
            return given.rstrip("/").rsplit("/", 1)[-1]
        return to_text(to_bytes(self.path.parent.resolve().name))  # a folder's name need not be text


def _require_checkpoint(directory: Path) -> None:
    """Raises ConvertError saying what is there instead of a checkpoint's folder."""
    if not directory.is_dir():
        if not directory.is_file():
            raise ConvertError(f"{directory}: {'not a directory' if directory.exists() else 'no such directory'}")
        with open_file(directory) as file:
            what = describe_foreign(file.read(64))
        raise ConvertError(f"{directory}: is {what or 'a file'}, not a directory; expected the folder of a checkpoint")
    if (directory / "config.json").exists():
        return
    if (directory / "adapter_config.json").exists():
        raise ConvertError(
            f"{directory}: holds an adapter (adapter_config.json), not a model; merge it into its base model first"
        )
    models = sorted(path.name for path in directory.glob("*.gguf"))
    if models:
        raise ConvertError(f"{directory}: holds no checkpoint, but {models[0]}, which gemlet runs as it is")


def _require_plain_weights(path: Path, root: dict[str, Any], text: dict[str, Any]) -> None:
    """Raises ConvertError for a checkpoint whose weights are quantised."""
    for part in (root, text):
        for key in _FOREIGN_WEIGHTS:
            if part.get(key):
                method = part[key].get("quant_method") if isinstance(part[key], dict) else None
                by = f" by {method!s:.40}" if method else ""
                raise ConvertError(f"{path}: {key}: the weights are quantised{by}, {_EXPECTED}")
    for name in _FOREIGN_FILES:
        if path.with_name(name).exists():
            raise ConvertError(f"{path.with_name(name)}: the weights are quantised, {_EXPECTED}")


class Fields:
    """Takes typed fields out of a JSON object and collects what is wrong with them."""

    def __init__(self, values: dict[str, Any], prefix: str = "") -> None:
        self.values = values
        self.prefix = prefix
        self.problems: list[str] = []

    def complain(self, name: str, expected: str) -> None:
        """Note a field that is not as expected."""
        found = json.dumps(self.values[name])[:80] if name in self.values else "nothing"
        self.problems.append(f"{self.prefix}{name}: expected {expected}, found {found}")

    def integer(self, name: str, low: int = 1, high: int = 1 << 24, default: int | None = None) -> int:
        """A whole number in a range."""
        value = self.values.get(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            self.complain(name, f"a whole number from {low} to {high}")
            return low
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A positive number."""
        value = self.values.get(name, default)
        if not is_number(value) or not _SMALLEST < value < _GREATEST:
            self.complain(name, "a number above 0 that float32 holds")
            return 1.0
        return float(value)

    def optional_number(self, name: str) -> float | None:
        """A positive number, or None where the field is missing or null."""
        return None if self.values.get(name) is None else self.number(name)

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self.values.get(name, default)
        if not isinstance(value, bool):
            self.complain(name, "true or false")
            return default
        return value

    def fixed(self, name: str, allowed: tuple[Any, ...]) -> None:
        """A field that gemlet knows one value of. `allowed[0]` is also what absence means."""
        if self.values.get(name, allowed[0]) not in allowed:
            self.complain(name, f"{json.dumps(allowed[0])} (gemlet runs nothing else)")

    def per_layer(self, name: str, layers: int, expected: str, valid: Callable[[Any], bool]) -> list[Any]:
        """A list with one entry a layer that `valid` accepts."""
        value = self.values.get(name)
        if not isinstance(value, list) or len(value) != layers or not all(valid(entry) for entry in value):
            self.complain(name, f"a list of {layers} entries (num_hidden_layers), each {expected}")
            return []
        return value

    def layer_types(self, layers: int) -> list[str]:
        """Sliding or full attention for each layer."""
        expected = f"{SLIDING!r} or {FULL!r}"
        return self.per_layer("layer_types", layers, expected, lambda entry: entry in (SLIDING, FULL))

    def raise_problems(self, path: Path) -> None:
        """Raises one ConvertError that lists every problem, if there are any."""
        if self.problems:
            raise ConvertError.listing(
                f"{path}: {len(self.problems)} fields are wrong", list(dict.fromkeys(self.problems))
            )


@dataclass(frozen=True)
class Rope:
    """Rotary positions of one kind of layer."""

    base: float
    factor: float = 1.0
    """Positions are divided by it ("linear" scaling)."""


def read_rope(fields: Fields, kind: str, older_name: str, default: float, *, linear: bool = False) -> Rope:
    """The rotary positions of one kind of layer, from `rope_parameters` (transformers 5) or the older flat fields.

    Args:
        fields: the text model's.
        kind: SLIDING or FULL.
        older_name: the flat field with the base.
        default: the base where no field gives one.
        linear: whether this kind of layer may have its positions scaled. In the flat fields `rope_scaling` holds for
            the layers with full attention alone.
    """
    parameters = fields.values.get("rope_parameters")
    if parameters is None:
        base = fields.number(older_name, default)
        if linear:
            return Rope(base, _factor(fields, "rope_scaling", fields.values.get("rope_scaling")))
        return Rope(base)
    of_kind = parameters.get(kind) if isinstance(parameters, dict) else None
    if not isinstance(of_kind, dict) or not (linear or _rope_type(of_kind) == "default"):
        fields.complain("rope_parameters", f'{{"{kind}": {{"rope_type": "default", "rope_theta": number}}}}')
        return Rope(default)
    inner = Fields({"rope_theta": default, **of_kind})
    base = inner.number("rope_theta")
    factor = _factor(inner, "rope_type", of_kind) if linear else 1.0
    fields.problems += [f"rope_parameters.{kind}.{problem}" for problem in inner.problems]
    return Rope(base, factor)


def _rope_type(parameters: dict[str, Any]) -> object:
    """The kind of scaling under its newer name, its older one, or both; None if they disagree."""
    names = [parameters[key] for key in ("rope_type", "type") if parameters.get(key) is not None]
    if not names:
        return "default"
    return names[0] if all(name == names[0] for name in names) else None


def _factor(fields: Fields, name: str, parameters: object) -> float:
    """The divisor of positions that a rope configuration asks for."""
    if parameters is None:
        return 1.0
    kind = _rope_type(parameters) if isinstance(parameters, dict) else None
    if kind == "default":
        return 1.0
    if kind != "linear" or not isinstance(parameters, dict):
        fields.complain(name, 'null, "default" or {"rope_type": "linear", "factor": number}')
        return 1.0
    inner = Fields(parameters)
    factor = inner.number("factor")
    fields.problems += [f"{name}.{problem}" for problem in inner.problems]
    return factor


def check_heads(fields: Fields, heads: int, kv_heads: int, head_dim: int) -> None:
    """Queries are shared evenly among the heads of keys and values; rotation turns pairs."""
    if heads % kv_heads != 0:
        fields.complain("num_key_value_heads", f"a divisor of num_attention_heads ({heads})")
    if head_dim % 2 != 0:
        fields.complain("head_dim", "an even number")


def is_number(value: object) -> TypeGuard[float]:
    """Whether a JSON value is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_size(value: object) -> bool:
    """Whether a JSON value can be the width of a layer."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 1 << 20


def _token(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 31 else None


def _tokens(value: object) -> tuple[int, ...]:
    listed = value if isinstance(value, list) else [value]
    return tuple(token for token in map(_token, listed) if token is not None)
