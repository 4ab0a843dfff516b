"""A lean training forward over a `Gemma3nForCausalLM`'s own weights. A test holds it equal to transformers' forward."""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import Gemma3nForCausalLM


def rms(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    normed = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)
    return normed if weight is None else normed * weight


def size(x: Tensor, least: float = 0.0) -> Tensor:
    """Root mean square of each row, from a mean square of at least `least`."""
    return x.pow(2).mean(-1, keepdim=True).clamp(min=least).sqrt()


def gelu(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), dim=-1) * sin


class Fast(nn.Module):  # type: ignore[misc]  # torch is Any to mypy
    """Logits at chosen positions of packed rows."""

    def __init__(self, model: Gemma3nForCausalLM) -> None:
        super().__init__()
        self.model = model
        config: Any = model.config
        self.eps: float = config.rms_norm_eps
        self.width: int = config.hidden_size
        self.streams: int = config.altup_num_inputs
        self.cutoffs = [
            NormalDist().inv_cdf(share) if share > 0 else None for share in config.activation_sparsity_pattern
        ]
        self.thetas = {kind: float(config.rope_parameters[kind]["rope_theta"]) for kind in set(config.layer_types)}

    def forward(
        self,
        ids: Tensor,
        positions: Tensor,
        full: Tensor,
        sliding: Tensor,
        chosen: Tensor,
        half: bool,
        soft: Tensor | None = None,
        is_soft: Tensor | None = None,
    ) -> Tensor:
        """Logits [B*A, vocabulary]. `full` and `sliding` are boolean masks [B, 1, T, T]; `chosen` [B, A] are the wanted
        positions of each row. Where `is_soft` [B*T, 1] says so, the embedding is that of `soft` [B*T, width] and the
        token must be 0. Layers that read another's keys and values run at the wanted positions alone.
        """
        config: Any = self.model.config
        body = self.model.model
        batch, length = ids.shape
        eps, width = self.eps, self.width
        flat = ids.reshape(-1)
        embedded = F.embedding(flat, body.embed_tokens.weight) * width**0.5
        if soft is not None:
            embedded = torch.where(is_soft, soft, embedded)
        ple_width = config.hidden_size_per_layer_input
        ple = F.embedding(flat, body.embed_tokens_per_layer.weight) * ple_width**0.5
        shape = (flat.shape[0], config.num_hidden_layers, ple_width)
        projected = body.per_layer_model_projection(embedded) * width**-0.5
        projected = rms(projected.view(shape), body.per_layer_projection_norm.weight, eps)
        per_layer = list(((projected + ple.view(shape)) * 2.0**-0.5).unbind(1))

        rope: dict[str, tuple[Tensor, Tensor]] = {}
        for kind, theta in self.thetas.items():
            frequencies = theta ** (-torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim)
            angles = positions[:, :, None].float() * frequencies
            angles = torch.cat((angles, angles), dim=-1)[:, :, None, :]
            rope[kind] = (angles.cos(), angles.sin())

        magnitude = size(embedded)
        raw = [projection(embedded) for projection in body.altup_projections]
        streams = torch.stack([embedded, *(stream * (magnitude / size(stream, 1e-5)) for stream in raw)], dim=1)
        count = self.streams
        identity = torch.eye(count)
        others = torch.ones(flat.shape[0], count, 1)
        others[:, 0] = 0  # per-layer inputs go to every stream but the active one
        first = embedded
        shared: dict[str, tuple[Tensor, Tensor]] = {}
        rows = torch.arange(batch)[:, None]
        wanted = (chosen + rows * length).reshape(-1)
        masks = {"full_attention": full, "sliding_attention": sliding}
        for index, layer in enumerate(body.layers):
            if index == config.num_hidden_layers - config.num_kv_shared_layers:
                streams, first, others = streams[wanted], first[wanted], others[wanted]
                per_layer[index:] = [extra[wanted] for extra in per_layer[index:]]
                rope = {kind: (cos[rows, chosen], sin[rows, chosen]) for kind, (cos, sin) in rope.items()}
                masks = {kind: mask[rows, 0, chosen][:, None] for kind, mask in masks.items()}
            altup = layer.altup
            coefficients = altup.prediction_coefs(self.route(altup, first)).view(-1, count, count) + identity
            predicted = torch.bmm(coefficients, streams)
            before = predicted[:, 0]
            normed = rms(before, layer.input_layernorm.weight, eps)
            laurel = layer.laurel.linear_right(layer.laurel.linear_left(normed))
            laurel = normed + rms(laurel, layer.laurel.post_laurel_norm.weight, eps)
            kind = config.layer_types[index]
            attention = self.attend(layer.self_attn, normed, rope[kind], masks[kind], shared, kind, batch)
            attention = rms(attention, layer.post_attention_layernorm.weight, eps)
            middle = (before + attention + laurel) * 2.0**-0.5
            normed = rms(middle, layer.pre_feedforward_layernorm.weight, eps)
            fed = self.feed(layer.mlp, normed, self.cutoffs[index], half)
            active = middle + rms(fed, layer.post_feedforward_layernorm.weight, eps)
            gains = altup.correction_coefs(self.route(altup, active)) + 1.0
            innovation = active - before
            first = before + innovation * gains[:, :1]
            extra = gelu(layer.per_layer_input_gate(first * altup.correct_output_scale)) * per_layer[index]
            extra = rms(layer.per_layer_projection(extra), layer.post_per_layer_input_norm.weight, eps)
            streams = torch.baddbmm(
                predicted, torch.cat((gains[:, :, None], others), dim=2), torch.stack((innovation, extra), dim=1)
            )

        total = streams[:, 0]
        magnitude = size(total)
        for number, projection in enumerate(body.altup_unembed_projections, 1):
            stream = projection(streams[:, number])
            total = total + stream * (magnitude / size(stream, 1e-5))
        logits = F.linear(rms(total / count, body.norm.weight, eps), body.embed_tokens.weight)
        cap = config.final_logit_softcapping
        capped: Tensor = torch.tanh(logits / cap) * cap
        return capped

    def route(self, altup: Any, x: Tensor) -> Tensor:
        return torch.tanh(altup.modality_router(rms(x, altup.router_norm.weight, self.eps) / self.width))

    def attend(
        self,
        layer: Any,
        x: Tensor,
        rope: tuple[Tensor, Tensor],
        mask: Tensor,
        shared: dict[str, tuple[Tensor, Tensor]],
        kind: str,
        batch: int,
    ) -> Tensor:
        config: Any = self.model.config
        shape = (batch, x.shape[0] // batch, -1, config.head_dim)
        query = rotate(rms(layer.q_proj(x).view(shape), layer.q_norm.weight, self.eps), *rope).transpose(1, 2)
        if layer.is_kv_shared_layer:
            key, value = shared[kind]
        else:
            key = rotate(rms(layer.k_proj(x).view(shape), layer.k_norm.weight, self.eps), *rope).transpose(1, 2)
            value = rms(layer.v_proj(x).view(shape), None, self.eps).transpose(1, 2)
            groups = config.num_attention_heads // config.num_key_value_heads
            key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
            shared[kind] = key, value
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=1.0)
        out = out.transpose(1, 2).reshape(x.shape[0], -1)
        projected: Tensor = layer.o_proj(out)
        return projected

    def feed(self, layer: Any, x: Tensor, cutoff: float | None, half: bool) -> Tensor:
        gate_weight, up_weight, down_weight = layer.gate_proj.weight, layer.up_proj.weight, layer.down_proj.weight
        if half:
            part = gate_weight.shape[0] // 2
            gate_weight, up_weight, down_weight = gate_weight[:part], up_weight[:part], down_weight[:, :part]
        gate = F.linear(x, gate_weight)
        if cutoff is not None:
            mean = gate.mean(-1, keepdim=True)
            deviation = ((gate - mean).pow(2).mean(-1, keepdim=True) + 1e-12).sqrt()
            gate = F.relu(gate - (mean + deviation * cutoff))
        return F.linear(gelu(gate) * F.linear(x, up_weight), down_weight)
