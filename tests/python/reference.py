"""transformers as the oracle: in float32, in true float64, and with the rounding of int8 activations."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from unittest import mock

import gemlet
import numpy as np
import torch
from numpy.typing import NDArray
from torch.overrides import TorchFunctionMode
from transformers import Gemma3ForCausalLM, Gemma3nForCausalLM, Gemma3nTextConfig, Gemma3TextConfig
from transformers.models.gemma3n import modeling_gemma3n

from tiny import Tiny
from tiny_gemma3 import TinyGemma3

Array = NDArray[np.float32]

PARTED = 1e-4
"""Tolerance, as a share of a layer's greatest value: rounding in float32 stays below it in the tests' models, and a
mistake does not."""


class _Doubled(TorchFunctionMode):
    """Whatever asks for float32 gets float64: norms, softmax, rotary angles and the router cast up to float32 by name,
    which would bring a model "in float64" back to float32 at every layer."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch.Tensor.float:
            func = torch.Tensor.double
        double = {key: torch.float64 if value is torch.float32 else value for key, value in (kwargs or {}).items()}
        return func(*(torch.float64 if value is torch.float32 else value for value in args), **double)


@contextlib.contextmanager
def doubled() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with _Doubled():
            yield
    finally:
        torch.set_default_dtype(before)


class Reference:
    """The model of `tiny`, with its own weights or with `weights` in their place."""

    def __init__(
        self, tiny: Tiny | TinyGemma3, weights: Mapping[str, Array] | None = None, *, double: bool = False
    ) -> None:
        self._scope: Callable[[], contextlib.AbstractContextManager[None]] = (
            doubled if double else contextlib.nullcontext
        )
        self._dtype = torch.float64 if double else torch.float32
        with self._scope():
            described, model = (
                (Gemma3nTextConfig, Gemma3nForCausalLM)
                if isinstance(tiny, Tiny)
                else (Gemma3TextConfig, Gemma3ForCausalLM)
            )
            config = described(**tiny.config())
            config._attn_implementation = "eager"
            self.model = model(config).eval()
            state = {
                f"model.{name}": torch.from_numpy(np.array(value)).to(self._dtype)
                for name, value in (tiny.weights() if weights is None else weights).items()
            }
            state["lm_head.weight"] = state.get("model.lm_head.weight", state["model.embed_tokens.weight"])
            state.pop("model.lm_head.weight", None)
            self.model.load_state_dict(state, strict=True)
        if double:
            assert all(value.dtype != torch.float32 for value in [*self.model.parameters(), *self.model.buffers()])

    @torch.no_grad()
    def logits(self, ids: Sequence[int]) -> NDArray[np.floating[Any]]:
        """float[len(ids)][vocab], the whole sequence at once."""
        with self._scope():
            logits: torch.Tensor = self.model(input_ids=torch.tensor([list(ids)])).logits[0]
        assert logits.dtype == self._dtype
        values: NDArray[np.floating[Any]] = logits.numpy()
        return values

    @torch.no_grad()
    def streams(self, ids: Sequence[int]) -> list[Array]:
        """The output of each layer, float[altup][len(ids)][hidden]."""
        outputs: list[Array] = []
        handles = [
            layer.register_forward_hook(lambda _m, _i, out: outputs.append(out[:, 0].float().numpy()))
            for layer in self.model.model.layers
        ]
        try:
            self.logits(ids)
        finally:
            for handle in handles:
                handle.remove()
        return outputs

    @torch.no_grad()
    def greedy(self, prompt: Sequence[int], count: int) -> list[int]:
        """The most likely tokens one by one, whatever they are; ties go to the lowest id."""
        ids = list(prompt)
        for _ in range(count):
            ids.append(int(np.argmax(self.logits(ids)[-1])))
        return ids[len(prompt) :]


def rms(values: NDArray[Any]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def layer_report(session: gemlet.Session, pieces: Sequence[Sequence[int]], reference: Reference) -> str:
    """Where a session, begun again with the tokens in these pieces, and the reference part: the first layer whose
    output differs by more than PARTED of its greatest value, and by how much."""
    session.rewind(0)
    runs = [session._core.prefill_layers(piece) for piece in pieces]
    ours = [np.concatenate(chunks, axis=1) for chunks in zip(*runs, strict=True)]
    theirs = reference.streams([token for piece in pieces for token in piece])
    before = 0.0
    for layer, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        apart = np.abs(a - b) / np.abs(b).max()
        apart[np.isnan(apart)] = np.inf
        stream, position, _ = np.unravel_index(np.argmax(apart), apart.shape)
        if apart.max() > PARTED:
            return (
                f"layer {layer} is the first to differ, by {apart.max():.1e} of its greatest value, in stream {stream}"
                f" at position {position}; the layers before differ by {before:.1e} at most"
            )
        before = max(before, float(apart.max()))
    return f"no layer differs by more than {before:.1e} of its greatest value: they part after the layers"


def int8_rounded(x: torch.Tensor) -> torch.Tensor:
    """Activations as quantised weights meet them (kernels/blocks.hpp, ActivationBlock): blocks of 32, scale
    max|x| / 127, rounded to nearest even."""
    blocks = x.reshape(*x.shape[:-1], -1, 32)
    scale = blocks.abs().amax(-1, keepdim=True) / 127
    rounded = torch.where(scale > 0, torch.round(blocks / scale) * scale, torch.zeros_like(blocks))
    return rounded.reshape(x.shape)


@contextlib.contextmanager
def rounded_inputs(reference: Reference, names: Sequence[str]) -> Iterator[None]:
    """The named linear layers see their inputs in int8."""
    modules = dict(reference.model.named_modules())
    handles = [
        modules[name].register_forward_pre_hook(lambda _module, inputs: (int8_rounded(inputs[0]), *inputs[1:]))
        for name in names
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def half_cache() -> Iterator[None]:
    """Keys and values are as a cache in half precision gives them back."""
    attention = modeling_gemma3n.eager_attention_forward

    def rounded(
        module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *rest: Any, **more: Any
    ) -> Any:
        return attention(module, query, key.half().to(key.dtype), value.half().to(value.dtype), *rest, **more)

    with mock.patch.object(modeling_gemma3n, "eager_attention_forward", rounded):
        yield
