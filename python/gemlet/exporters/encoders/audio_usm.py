"""Gemma 3n's audio encoder as a graph, after cpp/encoders/audio_usm.cpp and its transformers namesake: from the
spectrogram of a whole sound to soft tokens. It looks back only, but for the six frames that the two convolutions in
front see ahead, so that what stands behind a sound changes nothing once those frames are zeros.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gemlet.exporters.graph import Builder, Value, known

from .soft_tokens import soft_tokens
from .source import EPSILON, EncoderSource

FRAMES_OF_A_TOKEN: Final = 16
EMBEDDER: Final = "mm.a."

_PAST: Final = 12
"""Frames that attention looks back: what a block of so many queries sees lies in it and in the block before."""
_SEEN: Final = _PAST + 1
_CAP: Final = 50.0
_LONGEST_TIMESCALE: Final = 1e4
_FEED_FORWARD_WEIGHT: Final = 0.5
_GROUP_NORM_EPSILON: Final = 1e-3
_REDUCTION: Final = 4
_UNSEEN: Final = -1e9


class AudioUsm:
    """The forward pass, written in a builder's operations."""

    def __init__(self, b: Builder, source: EncoderSource) -> None:
        self.b = b
        self.source = source
        self.width = source.matrix("a.pre_encode.out.weight").rows
        self.dim = int(source.tensors["a.blk.0.per_dim_scale.weight"]["shape"][0])
        self.heads = self.width // self.dim

    def __call__(self, mel: Value, mask: Value | None = None) -> Value:
        """[T, mel bins] to soft tokens, [ceil(T / 16), hidden]. `mask`: [T, 1], ones and then zeros, where the sound is
        shorter than T; T is a multiple of 16 then, and the tokens behind ceil(sum / 16) stand for nothing."""
        b = self.b
        frames = self._subsample(mel, mask)
        x = b.pad_to_multiple(frames, _PAST)
        hidden = self._hidden(x)
        blocks = 0
        while f"a.blk.{blocks + 1}.ffn_norm.weight" in self.source.tensors:
            x = self._block_end(blocks, self._block_begin(blocks, x, hidden))
            blocks += 1
        x = self._block_begin(blocks, x, hidden)
        # Of four frames one becomes a token: the others have no use for the end of the last block.
        kept = b.reshape(b.slice(b.reshape(x, (-1, _REDUCTION * self.width)), 1, 0, self.width), (-1, self.width))
        tokens = b.first(self._block_end(blocks, kept), frames, _REDUCTION)
        return soft_tokens(b, self.source, tokens, EMBEDDER)

    # In front of the blocks.

    def _subsample(self, mel: Value, mask: Value | None) -> Value:
        """[T, mel bins] to [T / 4, width]."""
        b = self.b
        x = mel if mask is None else b.mul(mel, mask)
        x = b.reshape(x, (-1, known(mel.shape[1]), 1))
        for i in range(2):
            name = f"a.conv1d.{i}.weight"
            x = b.convolve(x, name, self.source.vector(name), 2, ((0, 2), (1, 1)))
            x = self._cumulative_norm(x, b.vector(f"a.conv1d.{i}.norm.weight"))
            if mask is not None and i == 0:
                halved = b.slice(b.reshape(mask, (-1, 2)), 1, 0, 1)  # a frame for which its first one of two is there
                x = b.mul(x, b.reshape(halved, (-1, 1, 1)))
        flat = b.reshape(x, (-1, known(x.shape[1]) * known(x.shape[2])))
        return b.linear(flat, self.source.matrix("a.pre_encode.out.weight"))

    def _cumulative_norm(self, x: Value, weight: Value) -> Value:
        """By the mean of all frames so far, and the mean square of each frame's distance from its own mean of then."""
        b = self.b
        flat = b.reshape(x, (-1, known(x.shape[1]) * known(x.shape[2])))
        count = b.cumulative_sum(b.ones(flat))
        # Frames are averaged before they are added up: float32 has room for the sums of thousands of them.
        centred = b.sub(flat, b.div(b.cumulative_sum(b.mean(flat)), count))
        squares = b.div(b.cumulative_sum(b.mean(b.square(centred))), count)
        normed = b.div(centred, b.sqrt(b.add(squares, b.scalar(_GROUP_NORM_EPSILON))))
        shaped = b.reshape(normed, (-1, known(x.shape[1]), known(x.shape[2])))
        return b.relu(b.mul(shaped, weight))

    # The conformer's blocks: frames to frames, [T, width].

    def _block_begin(self, index: int, x: Value, hidden: Value) -> Value:
        x = self._feed_forward(index, x, "")
        x = self.b.add(x, self._norm(index, self._attend(index, x, hidden), "ln2"))
        return self.b.add(x, self._light_convolution(index, x))

    def _block_end(self, index: int, x: Value) -> Value:
        return self._norm(index, self._feed_forward(index, x, "_1"), "layer_pre_norm")

    def _feed_forward(self, index: int, x: Value, suffix: str) -> Value:
        b = self.b
        wide = b.silu(self._linear(index, self._norm(index, x, f"ffn_norm{suffix}"), f"ffn_up{suffix}"))
        out = self._norm(index, self._linear(index, wide, f"ffn_down{suffix}"), f"ffn_post_norm{suffix}")
        return b.add(x, b.scale(out, _FEED_FORWARD_WEIGHT))

    def _attend(self, index: int, x: Value, hidden: Value) -> Value:
        """Each frame attends to itself and the twelve before it, in blocks of twelve queries and 24 keys."""
        b, heads, dim = self.b, self.heads, self.dim
        normed = self._norm(index, x, "ln1")
        queries = b.reshape(self._linear(index, normed, "attn_q"), (-1, heads, dim))
        queries = b.mul(queries, b.constant(f"a.blk.{index}.query_scale", self._query_scale(index)))
        queries = b.transpose(queries, (1, 0, 2))  # [heads, T, dim]
        keys, values = (self._blocks(self._linear(index, normed, f"attn_{part}")) for part in "kv")

        by_content = b.matmul(b.reshape(queries, (-1, _PAST, dim)), keys, transpose_b=True)
        positions = b.constant(f"a.blk.{index}.positions", self._positions(index))
        by_position = b.reshape(b.matmul(queries, positions, transpose_b=True), (-1, _PAST, _SEEN))
        scores = b.soft_cap(b.add(by_content, self._skewed(by_position)), _CAP)
        scores = b.add(b.reshape(scores, (heads, -1, _PAST, 2 * _PAST)), hidden)
        attended = b.matmul(b.reshape(b.softmax(scores), (-1, _PAST, 2 * _PAST)), values)
        attended = b.transpose(b.reshape(attended, (heads, -1, dim)), (1, 0, 2))
        return self._linear(index, b.reshape(attended, (-1, self.width)), "attn_out")

    def _blocks(self, x: Value) -> Value:
        """Keys or values, [T, width], to those that each block of queries sees, [heads * blocks, 24, dim]."""
        b = self.b
        both = [b.reshape(part, (-1, _PAST, self.heads, self.dim)) for part in (b.delayed(x, _PAST), x)]
        joined = b.concat([b.transpose(part, (2, 0, 1, 3)) for part in both], 2)
        return b.reshape(joined, (-1, 2 * _PAST, self.dim))

    def _skewed(self, x: Value) -> Value:
        """[N, 12, 13], scores by distance (12 first), to [N, 12, 24], by key: row i moves on by i places."""
        b = self.b
        rows = b.pad(x, 2, 0, 2 * _PAST + 1 - _SEEN)
        flat = b.slice(b.reshape(rows, (-1, _PAST * (2 * _PAST + 1))), 1, 0, _PAST * 2 * _PAST)
        return b.reshape(flat, (-1, _PAST, 2 * _PAST))

    def _hidden(self, x: Value) -> Value:
        """What is added to scores, [blocks, 12, 24]: nearly minus infinity where a key is not among the thirteen, or
        stands before the sound."""
        b = self.b
        key, query = np.arange(2 * _PAST)[None], np.arange(_PAST)[:, None]
        band = np.where((key >= query) & (key <= query + _PAST), 0, _UNSEEN).astype(np.float32)
        there = b.delayed(b.ones(x), _PAST)  # zeros for the block before the first
        before = b.scale(b.sub(there, b.scalar(1.0)), -_UNSEEN)
        before = b.pad(b.reshape(before, (-1, 1, _PAST)), 2, 0, _PAST)
        return b.add(before, b.constant("seen", band))

    def _light_convolution(self, index: int, x: Value) -> Value:
        b, width = self.b, self.width
        both = self._linear(index, self._norm(index, x, "conv_norm"), "conv_pw1")
        gated = b.mul(b.slice(both, 1, 0, width), b.sigmoid(b.slice(both, 1, width, 2 * width)))
        name = f"a.blk.{index}.conv_dw.weight"
        weights = self.source.vector(name).reshape(width, -1, 1)
        pads = ((weights.shape[1] - 1, 0), (0, 0))
        out = b.convolve_depthwise(b.reshape(gated, (-1, 1, width)), name, weights, 1, pads)
        out = b.silu(self._norm(index, b.reshape(out, (-1, width)), "norm_conv"))
        return self._linear(index, out, "conv_pw2")

    def _linear(self, index: int, x: Value, name: str) -> Value:
        return self.b.linear(x, self.source.matrix(f"a.blk.{index}.{name}.weight"))

    def _norm(self, index: int, x: Value, name: str) -> Value:
        return self.b.rms_norm(x, self.b.vector(f"a.blk.{index}.{name}.weight"), EPSILON)

    # What is the same for every sound.

    def _query_scale(self, index: int) -> NDArray[np.float32]:
        """softplus(scale) / (sqrt(dim) ln 2), [dim]."""
        scale = self.source.vector(f"a.blk.{index}.per_dim_scale.weight").astype(np.float64)
        return (np.logaddexp(0, scale) / (math.sqrt(self.dim) * math.log(2))).astype(np.float32)

    def _positions(self, index: int) -> NDArray[np.float32]:
        """The embeddings of the distances 12 to 0, [heads, 13, dim]: sines, then cosines, projected."""
        timescales = self.width // 2
        increment = math.log(_LONGEST_TIMESCALE) / max(timescales - 1, 1)
        angles = np.arange(_PAST, -1, -1)[:, None] * np.exp(-increment * np.arange(timescales))
        signal = np.zeros((_SEEN, self.width))
        signal[:, : 2 * timescales] = np.concatenate([np.sin(angles), np.cos(angles)], 1)
        projection = self.source.matrix(f"a.blk.{index}.linear_pos.weight")
        weights = np.concatenate(list(self.source.floats(projection))).astype(np.float64)
        projected = (signal @ weights.T).reshape(_SEEN, self.heads, self.dim)
        return np.ascontiguousarray(projected.transpose(1, 0, 2), np.float32)
