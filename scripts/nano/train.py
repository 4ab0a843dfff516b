"""Train nano from random weights on one CPU, for a set number of minutes.

`OUT/control.json` (made at the start) is read again as it changes: total minutes, learning-rate scale and task weights.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import shutil
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import sentencepiece
import torch
import torch.nn.functional as F
from data import DEFAULT_WEIGHTS, dialogue_parts, read_examples, training_dialogues
from evaluate import score_torch
from fast import Fast
from torch import Tensor
from tqdm import tqdm  # type: ignore[import-untyped]
from transformers import Gemma3nForCausalLM, Gemma3nTextConfig, GenerationConfig

log = logging.getLogger("nano")
SHORT, LONG = 128, 320


@dataclass(frozen=True)
class Shape:
    """How many rows of which length one micro-batch has, and how many answer positions it may have."""

    rows: int
    length: int

    @property
    def answers(self) -> int:
        return int(self.rows * self.length * 0.45)


@dataclass(frozen=True)
class Packed:
    """One micro-batch: several dialogues to a row."""

    ids: Tensor
    positions: Tensor
    full: Tensor
    sliding: Tensor
    chosen: Tensor
    targets: Tensor


def nano_config(width: int, layers: int, ffn: int) -> Gemma3nTextConfig:
    """Every feature of Gemma 3n, small: each third layer sees everything, the last three share keys and values."""
    return Gemma3nTextConfig(
        vocab_size=2048,
        vocab_size_per_layer_input=2048,
        hidden_size=width,
        hidden_size_per_layer_input=32,
        intermediate_size=[ffn] * layers,
        num_hidden_layers=layers,
        num_attention_heads=width // 32,
        num_key_value_heads=width // 64,
        head_dim=32,
        num_kv_shared_layers=3,
        laurel_rank=32,
        sliding_window=64,
        max_position_embeddings=1024,
        layer_types=["full_attention" if i % 3 == 2 else "sliding_attention" for i in range(layers)],
        activation_sparsity_pattern=[0.8] * 3 + [0.0] * (layers - 3),
        eos_token_id=[1, 5],
        bos_token_id=2,
        pad_token_id=0,
        rope_parameters={
            "full_attention": {"rope_type": "default", "rope_theta": 1_000_000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
        },
    )


def initialise(model: Gemma3nForCausalLM) -> None:
    """Unit-scale activations everywhere, attention scores of about one, gentle residual additions."""
    width = model.config.hidden_size
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "router_norm" in name:
                weight.fill_(width)
            elif "q_norm" in name or "k_norm" in name:
                weight.fill_(model.config.head_dim**-0.25 * 1.3)
            elif any(part in name for part in ("post_attention", "post_feedforward", "post_per_layer", "post_laurel")):
                weight.fill_(0.5)
            elif "norm" in name or "correct_output_scale" in name:
                weight.fill_(1)
            elif "prediction_coefs" in name or "correction_coefs" in name:
                weight.normal_(std=0.05)
            elif "embed_tokens_per_layer" in name:
                weight.normal_(std=model.config.hidden_size_per_layer_input**-0.5)
            elif "embed_tokens" in name:
                weight.normal_(std=width**-0.5)
            else:
                weight.normal_(std=weight.shape[1] ** -0.5)


class Muon:
    """Momentum whose matrix updates are made orthogonal, for all inner matrices; AdamW for the rest."""

    def __init__(self, model: Gemma3nForCausalLM, rate: float, adam_rate: float) -> None:
        self.rate, self.adam_rate = rate, adam_rate
        matrices, tables, small = [], [], []
        for name, weight in model.named_parameters():
            if "embed_tokens" in name:
                tables.append(weight)
            elif weight.ndim == 2 and "coefs" not in name and "router" not in name:
                matrices.append(weight)
            else:
                small.append(weight)
        self.groups: dict[tuple[int, int], list[torch.nn.Parameter]] = {}
        for weight in matrices:
            self.groups.setdefault((weight.shape[0], weight.shape[1]), []).append(weight)
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
            gradient = torch.stack([weight.grad for weight in group if weight.grad is not None])
            momentum = self.momentum[shape]
            momentum.lerp_(gradient, 0.05)
            update = orthogonal(gradient.lerp(momentum, 0.95))
            rate = self.rate * scale * max(1.0, shape[0] / shape[1]) ** 0.5
            for weight, change in zip(group, update, strict=True):
                weight.mul_(1 - 0.05 * self.rate * scale).sub_(change, alpha=rate)

    def state(self) -> dict[str, object]:
        return {"adam": self.adam.state_dict(), "momentum": self.momentum}

    def load(self, state: dict[str, object]) -> None:
        self.adam.load_state_dict(state["adam"])
        self.momentum = state["momentum"]  # type: ignore[assignment]


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


class Packer:
    """Draws dialogues and packs them into rows."""

    def __init__(
        self, processor: sentencepiece.SentencePieceProcessor, seed: int, weights: dict[str, float], window: int
    ) -> None:
        self.processor, self.window = processor, window
        self.dialogues = training_dialogues(seed, weights)
        self.short: deque[tuple[list[int], list[bool]]] = deque()
        self.long: deque[tuple[list[int], list[bool]]] = deque()
        self.random = Random(seed)

    def draw(self) -> None:
        ids, learn = [2], [False]
        for text, answer in dialogue_parts(next(self.dialogues)):
            pieces = self.processor.encode(text)
            ids += pieces
            learn += [answer] * len(pieces)
        if len(ids) <= SHORT:
            self.short.append((ids, learn))
        elif len(ids) <= LONG and len(self.long) < 400:
            self.long.append((ids, learn))

    def row(self, length: int) -> list[tuple[list[int], list[bool]]]:
        out: list[tuple[list[int], list[bool]]] = []
        room = length
        while len(self.short) < 60:
            self.draw()
        if length > SHORT and self.long:
            out.append(self.long.popleft())
            room -= len(out[0][0])
        for _ in range(40):
            if room < 24:
                break
            if len(self.short[0][0]) <= room:
                out.append(self.short.popleft())
                room -= len(out[-1][0])
            else:
                self.short.rotate(-1)
        return out

    def batch(self, shape: Shape) -> Packed:
        rows, length = shape.rows, shape.length
        ids = torch.zeros(rows, length, dtype=torch.long)
        positions = torch.zeros(rows, length, dtype=torch.long)
        segment = torch.zeros(rows, length, dtype=torch.long)
        target = torch.full((rows, length), -1)
        for r in range(rows):
            at = 0
            for number, (pieces, learn) in enumerate(self.row(length), 1):
                end = at + len(pieces)
                row = torch.tensor(pieces)
                ids[r, at:end] = row
                positions[r, at:end] = torch.arange(len(pieces))
                segment[r, at:end] = number
                target[r, at : end - 1] = torch.where(torch.tensor(learn[1:]), row[1:], -1)
                at = end
        order = torch.arange(length)
        distance = order[:, None] - order[None, :]
        full = (segment[:, :, None] == segment[:, None, :]) & (distance >= 0)
        flat = target.reshape(-1)
        chosen = (flat >= 0).nonzero()[:, 0][: shape.answers]
        chosen = F.pad(chosen, (0, shape.answers - len(chosen)))
        targets = flat[chosen]
        used = int((flat >= 0).sum().clamp(max=shape.answers))
        targets[used:] = -1
        return Packed(ids, positions, full[:, None], (full & (distance < self.window))[:, None], chosen, targets)


def schedule(progress: float) -> float:
    """Warm-up, constant, and a decay to zero over the last quarter (as 1 - sqrt)."""
    if progress < 0.01:
        return max(progress / 0.01, 0.02)
    return 1.0 if progress < 0.75 else max(0.0, 1.0 - math.sqrt((progress - 0.75) / 0.25)) if progress < 1 else 0.0


def save(model: Gemma3nForCausalLM, folder: Path, tokenizer: Path) -> None:
    """A Hugging Face checkpoint folder, replaced file by file."""
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder.with_name(folder.name + ".new")
    model.generation_config = GenerationConfig(eos_token_id=[1, 5], bos_token_id=2, pad_token_id=0, do_sample=False)
    model.save_pretrained(fresh)
    for path in tokenizer.iterdir():
        if path.is_file():
            shutil.copy(path, fresh / path.name)
    for path in fresh.iterdir():
        path.replace(folder / path.name)
    fresh.rmdir()


def batches(packer: Packer, shapes: tuple[Shape, ...]) -> Iterator[list[Packed]]:
    while True:
        yield [packer.batch(shape) for shape in shapes]


def read_control(path: Path, weights: dict[str, float]) -> tuple[float, float]:
    """Total minutes and rate scale; task weights are updated in place."""
    control = json.loads(path.read_text())
    weights.update(control["weights"])
    return float(control["minutes"]), float(control.get("rate_scale", 1.0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder that tokenizer.py wrote")
    parser.add_argument("--minutes", type=float, default=95)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=9)
    parser.add_argument("--ffn", type=int, default=512)
    parser.add_argument("--rate", type=float, default=0.02)
    parser.add_argument("--adam-rate", type=float, default=0.004)
    parser.add_argument("--half-share", type=float, default=0.35, help="share of steps with half of every feed-forward")
    parser.add_argument("--short-rows", type=int, default=24)
    parser.add_argument("--long-rows", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--eval-minutes", type=float, default=10)
    parser.add_argument("--save-minutes", type=float, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-compile", action="store_true")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    out: Path = args.out
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)

    config = nano_config(args.width, args.layers, args.ffn)
    model = Gemma3nForCausalLM(config).train()
    initialise(model)
    optimizer = Muon(model, args.rate, args.adam_rate)
    elapsed, step, tokens = 0.0, 0, 0
    resume = out / "resume.pt"
    if resume.exists():
        state = torch.load(resume, weights_only=False)
        model.load_state_dict(state["model"])
        optimizer.load(state["optimizer"])
        elapsed, step, tokens = state["elapsed"], state["step"], state["tokens"]
    log.info("%.2f M weights", sum(weight.numel() for weight in model.parameters()) / 1e6)

    control = out / "control.json"
    weights = dict(DEFAULT_WEIGHTS)
    if not control.exists():
        control.write_text(json.dumps({"minutes": args.minutes, "rate_scale": 1.0, "weights": weights}, indent=1))
    minutes, rate_scale = read_control(control, weights)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(args.tokenizer / "tokenizer.model"))
    packer = Packer(processor, args.seed * 1_000_003 + step, weights, config.sliding_window)
    shapes = (Shape(args.short_rows, SHORT), Shape(args.long_rows, LONG))
    fast = Fast(model)
    run = fast if args.no_compile else torch.compile(fast, dynamic=False)
    examples = read_examples()
    save(model, out / "checkpoint", args.tokenizer)
    choose = Random(args.seed + step)
    begin = last = time.monotonic()
    next_save, next_eval = elapsed + args.save_minutes * 60, elapsed + args.eval_minutes * 60
    losses: list[float] = []
    history = (out / "log.jsonl").open("a", buffering=1)
    progress_bar = tqdm(total=100, mininterval=20)
    if not args.no_compile:  # compile before the clock starts
        warm = next(batches(packer, shapes))
        for half in (False, True):
            for packed in warm:
                run(packed.ids, packed.positions, packed.full, packed.sliding, packed.chosen, half).sum().backward()
        for weight in model.parameters():
            weight.grad = None
        log.info("compiled in %.0f s", time.monotonic() - begin)
        last = time.monotonic()

    for group in batches(packer, shapes):
        now = time.monotonic()
        elapsed += min(now - last, 60.0)
        last = now
        if step % 20 == 0:
            minutes, rate_scale = read_control(control, weights)
        progress = elapsed / 60 / minutes
        if progress >= 1:
            break
        half = choose.random() < args.half_share
        count = sum(int((packed.targets >= 0).sum()) for packed in group)
        total = 0.0
        for packed in group:
            logits = run(packed.ids, packed.positions, packed.full, packed.sliding, packed.chosen, half)
            loss = F.cross_entropy(logits, packed.targets, ignore_index=-1, reduction="sum") / count
            loss.backward()
            total += loss.item()
            tokens += int((packed.ids != 0).sum())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step(schedule(progress) * rate_scale)
        for weight in model.parameters():
            weight.grad = None
        step += 1
        losses.append(total)
        if step % 20 == 0:
            record = {
                "step": step,
                "minutes": round(elapsed / 60, 2),
                "tokens": tokens,
                "loss": round(sum(losses) / len(losses), 4),
            }
            losses = []
            history.write(json.dumps(record) + "\n")
            progress_bar.set_postfix(record)
            progress_bar.update(max(0, int(progress * 100) - progress_bar.n))
        if elapsed >= next_save:
            next_save = elapsed + args.save_minutes * 60
            keep(resume, model, optimizer, elapsed, step, tokens)
            save(model, out / "checkpoint", args.tokenizer)
        if elapsed >= next_eval:
            next_eval = elapsed + args.eval_minutes * 60
            for half in (False, True):
                scores = score_torch(out / "checkpoint", model, examples[::3], half)
                history.write(
                    json.dumps(
                        {"step": step, "minutes": round(elapsed / 60, 2), "half": half, "scores": scores.rates()}
                    )
                    + "\n"
                )
            model.train()
    keep(resume, model, optimizer, elapsed, step, tokens)
    save(model, out / "checkpoint", args.tokenizer)
    history.write(json.dumps({"step": step, "minutes": round(elapsed / 60, 2), "tokens": tokens, "done": True}) + "\n")


def keep(path: Path, model: Gemma3nForCausalLM, optimizer: Muon, elapsed: float, step: int, tokens: int) -> None:
    """All that is needed to go on later."""
    fresh = path.with_suffix(".new")
    torch.save(
        {
            "model": model.state_dict(),
            "optimizer": optimizer.state(),
            "elapsed": elapsed,
            "step": step,
            "tokens": tokens,
        },
        fresh,
    )
    fresh.replace(path)


if __name__ == "__main__":
    main()
