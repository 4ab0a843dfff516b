"""Muon with AdamW beside it, and the learning rate by the clock."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


class Muon:
    """Momentum whose matrix updates are made orthogonal, for all inner matrices; AdamW for the rest."""

    def __init__(self, named: Iterable[tuple[str, nn.Parameter]], rate: float, adam_rate: float) -> None:
        self.rate, self.adam_rate = rate, adam_rate
        matrices, tables, small = [], [], []
        for name, weight in named:
            if "embed_tokens" in name or "embedding.weight" in name:
                tables.append(weight)
            elif is_matrix(name, weight):
                matrices.append(weight)
            else:
                small.append(weight)
        self.groups: dict[tuple[int, int], list[nn.Parameter]] = {}
        for weight in matrices:
            self.groups.setdefault((weight.shape[0], weight[0].numel()), []).append(weight)
        self.momentum = {shape: torch.zeros(len(group), *shape) for shape, group in self.groups.items()}
        self.adam = torch.optim.AdamW(
            [{"params": tables}, {"params": small}],
            lr=adam_rate,
            betas=(0.9, 0.98),
            eps=1e-10,
            weight_decay=0.0,
            fused=True,
        )

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def step(self, scale: float) -> None:
        for options in self.adam.param_groups:
            options["lr"] = self.adam_rate * scale
        self.adam.step()
        for shape, group in self.groups.items():
            if group[0].grad is None:
                continue
            gradient = torch.stack([weight.grad.reshape(shape) for weight in group if weight.grad is not None])
            momentum = self.momentum[shape]
            momentum.lerp_(gradient, 0.05)
            update = orthogonal(gradient.lerp(momentum, 0.95))
            rate = self.rate * scale * max(1.0, shape[0] / shape[1]) ** 0.5
            for weight, change in zip(group, update, strict=True):
                weight.mul_(1 - 0.05 * self.rate * scale).sub_(change.view(weight.shape), alpha=rate)

    def state(self) -> dict[str, Any]:
        return {"adam": self.adam.state_dict(), "momentum": self.momentum}

    def load(self, state: Mapping[str, Any]) -> None:
        self.adam.load_state_dict(state["adam"])
        self.momentum = dict(state["momentum"])


@dataclass(frozen=True)
class Group:
    """Weights that are trained at a rate of their own."""

    muon: Muon
    scale: float = 1.0


def is_matrix(name: str, weight: Tensor) -> bool:
    """Linear layers and convolutions that mix channels, but for AltUp's coefficients and encoders' first layers."""
    if "coefs" in name or "router" in name or "conv_stem" in name or "conv_0" in name or weight.ndim < 2:
        return False
    return weight.ndim == 2 or (weight.ndim == 4 and weight.shape[1] > 1)


def orthogonal(update: Tensor) -> Tensor:
    """Newton-Schulz iteration towards the nearest orthogonal matrices, in a batch."""
    x = update / (update.norm(dim=(1, 2), keepdim=True) + 1e-7)
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.transpose(1, 2)
    for a, b, c in (
        (4.0848, -6.8946, 2.9270),
        (3.9505, -6.3029, 2.6377),
        (3.7418, -5.5913, 2.3037),
        (2.8769, -3.1427, 1.2046),
        (2.8366, -3.0525, 1.2012),
    ):
        square = x @ x.transpose(1, 2)
        x = a * x + (b * square + c * (square @ square)) @ x
    result: Tensor = x.transpose(1, 2) if tall else x
    return result


def schedule(progress: float, decay: float = 0.25) -> float:
    """Warm-up, constant, and a fall to zero over the last share `decay` (as 1 - sqrt)."""
    if progress < 0.01:
        return max(progress / 0.01, 0.02)
    if progress < 1 - decay:
        return 1.0
    return max(0.0, 1.0 - math.sqrt((progress - 1 + decay) / decay)) if progress < 1 else 0.0
