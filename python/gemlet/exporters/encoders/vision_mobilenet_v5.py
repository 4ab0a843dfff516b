"""Gemma 3n's vision encoder as a graph, after cpp/encoders/vision_mobilenet_v5.cpp and timm's mobilenetv5, whose names
it keeps. A map is [height, width, channels]; a 1x1 convolution is a product of its pixels, [height * width, channels].
"""

from __future__ import annotations

import math
from typing import Final

from gemlet.exporters.graph import Builder, Value, known, same

from .soft_tokens import soft_tokens
from .source import EPSILON, EncoderSource

SIZES: Final = (256, 512, 768)
"""Pixels of a picture, each way."""
TOKENS: Final = 256
EMBEDDER: Final = "mm."

_MAP: Final = 16
"""Soft tokens of a row, and rows."""


class VisionMobileNetV5:
    """The forward pass, written in a builder's operations."""

    def __init__(self, b: Builder, source: EncoderSource) -> None:
        self.b = b
        self.source = source

    def __call__(self, picture: Value) -> Value:
        """[size, size, 3] in [0, 1] to soft tokens, [256, hidden]."""
        return self.soft_tokens(self.features(picture))

    def soft_tokens(self, features: Value) -> Value:
        """From what the tower gives, [256, width]."""
        return soft_tokens(self.b, self.source, features, EMBEDDER)

    def features(self, picture: Value) -> Value:
        """What the tower gives, [256, width]."""
        b = self.b
        stem = self._convolution("v.conv_stem.conv.weight", picture, 2)
        if "v.conv_stem.conv.bias" in self.source.tensors:
            stem = b.add(stem, self._channels("v.conv_stem.conv.bias"))
        x = b.gelu(self._norm(stem, "v.conv_stem.bn.weight"))
        maps: list[Value] = []
        while self._kind(len(maps), 0) is not None:
            x = self._stage(len(maps), x)
            maps.append(x)
        fused = self._fuse(*maps[-2:])
        return b.scale(fused, math.sqrt(known(fused.shape[-1])))

    def _stage(self, stage: int, x: Value) -> Value:
        index = 0
        while (kind := self._kind(stage, index)) is not None:
            prefix = f"v.blk.{stage}.{index}."
            if kind == "er":
                x = self._edge_residual(prefix, x, 2 if index == 0 else 1)
            else:
                x = self._inverted_residual(prefix, x) if kind == "uir" else self._attention(prefix, x)
            index += 1
        return x

    def _kind(self, stage: int, index: int) -> str | None:
        """Which block it is; None if there is none."""
        marks = {"er": "conv_exp.weight", "uir": "pw_exp.conv.weight", "mqa": "attn.query.proj.weight"}
        found = (kind for kind, part in marks.items() if f"v.blk.{stage}.{index}.{part}" in self.source.tensors)
        return next(found, None)

    def _edge_residual(self, prefix: str, x: Value, stride: int) -> Value:
        wide = self._convolution(f"{prefix}conv_exp.weight", x, stride)
        wide = self.b.gelu(self._norm(wide, f"{prefix}bn1.weight"))
        out = self._norm(self._pointwise(wide, f"{prefix}conv_pwl.weight"), f"{prefix}bn2.weight")
        return self._skip(x, out)

    def _inverted_residual(self, prefix: str, x: Value) -> Value:
        b, y = self.b, x
        if self._has(f"{prefix}dw_start.conv.weight"):
            y = self._depthwise(f"{prefix}dw_start.conv.weight", f"{prefix}dw_start.bn.weight", y, 1)
        y = self._pointwise(y, f"{prefix}pw_exp.conv.weight")
        y = b.gelu(self._norm(y, f"{prefix}pw_exp.bn.weight"))
        if self._has(f"{prefix}dw_mid.conv.weight"):
            y = b.gelu(self._depthwise(f"{prefix}dw_mid.conv.weight", f"{prefix}dw_mid.bn.weight", y, 2))
        y = self._norm(self._pointwise(y, f"{prefix}pw_proj.conv.weight"), f"{prefix}pw_proj.bn.weight")
        return self._skip(x, b.mul(y, self._channels(f"{prefix}layer_scale.gamma")))

    def _attention(self, prefix: str, x: Value) -> Value:
        """Each pixel attends to all, or to a quarter of them; the heads share keys and values."""
        b = self.b
        normed = self._norm(x, f"{prefix}norm.weight")
        keys, values = (self._shared_head(f"{prefix}attn.{part}.", normed) for part in ("key", "value"))
        queries = _pixels(b, self._pointwise(normed, f"{prefix}attn.query.proj.weight"))
        dim = known(keys.shape[-1])
        scores = b.matmul(b.scale(b.reshape(queries, (-1, dim)), dim**-0.5), keys, transpose_b=True)
        attended = b.reshape(b.matmul(b.softmax(scores), values), tuple(map(known, queries.shape)))
        out = b.linear(attended, self.source.matrix(f"{prefix}attn.output.proj.weight"))
        out = b.reshape(out, tuple(map(known, x.shape)))
        return b.add(x, b.mul(out, self._channels(f"{prefix}layer_scale.gamma")))

    def _shared_head(self, prefix: str, normed: Value) -> Value:
        """Keys or values, [pixels, head_dim]."""
        if self._has(f"{prefix}down_conv.weight"):
            normed = self._depthwise(f"{prefix}down_conv.weight", f"{prefix}norm.weight", normed, 2)
        return _pixels(self.b, self._pointwise(normed, f"{prefix}proj.weight"))

    def _fuse(self, fine: Value, coarse: Value) -> Value:
        """timm's multi-scale fusion adapter: [256, width]."""
        b = self.b
        height, width = known(fine.shape[0]), known(fine.shape[1])
        x = b.concat([_pixels(b, fine), _pixels(b, _doubled(b, coarse))], 1)
        x = b.linear(x, self.source.matrix("v.msfa.ffn.pw_exp.conv.weight"))
        x = b.gelu(self._norm(x, "v.msfa.ffn.pw_exp.bn.weight"))
        x = b.linear(x, self.source.matrix("v.msfa.ffn.pw_proj.conv.weight"))
        x = self._norm(x, "v.msfa.ffn.pw_proj.bn.weight")
        channels, pool = known(x.shape[-1]), height // _MAP
        if pool > 1:
            rows = b.mean(b.reshape(x, (_MAP, pool, width * channels)), 1)
            x = b.mean(b.reshape(rows, (TOKENS, pool, channels)), 1)
        return self._norm(b.reshape(x, (TOKENS, channels)), "v.msfa.norm.weight")

    # Parts of the blocks.

    def _has(self, name: str) -> bool:
        return name in self.source.tensors

    def _skip(self, x: Value, out: Value) -> Value:
        return self.b.add(x, out) if x.shape == out.shape else out

    def _channels(self, name: str) -> Value:
        """A value for each channel, which files store in one dimension or in four."""
        return self.b.constant(name, self.source.vector(name).reshape(-1))

    def _norm(self, x: Value, name: str) -> Value:
        return self.b.rms_norm(x, self._channels(name), EPSILON)

    def _pointwise(self, x: Value, name: str) -> Value:
        height, width = known(x.shape[0]), known(x.shape[1])
        return self.b.reshape(self.b.linear(_pixels(self.b, x), self.source.matrix(name)), (height, width, -1))

    def _convolution(self, name: str, x: Value, stride: int) -> Value:
        weights = self.source.vector(name).reshape(-1, known(x.shape[2]), 3, 3)
        height, width = known(x.shape[0]), known(x.shape[1])
        return self.b.convolve(x, name, weights, stride, (same(height, 3, stride), same(width, 3, stride)))

    def _depthwise(self, name: str, norm: str, x: Value, stride: int) -> Value:
        weights = self.source.vector(name)[:, 0]
        height, width, size = known(x.shape[0]), known(x.shape[1]), weights.shape[-1]
        pads = (same(height, size, stride), same(width, size, stride))
        return self._norm(self.b.convolve_depthwise(x, name, weights, stride, pads), norm)


def _pixels(b: Builder, x: Value) -> Value:
    return b.reshape(x, (-1, known(x.shape[2])))


def _doubled(b: Builder, x: Value) -> Value:
    """A map twice as high and wide, each pixel four times."""
    height, width, channels = map(known, x.shape)
    pixels = b.reshape(x, (height * width, 1, channels))
    rows = b.reshape(b.concat([pixels, pixels], 1), (height, 1, 2 * width * channels))
    return b.reshape(b.concat([rows, rows], 1), (2 * height, 2 * width, channels))
