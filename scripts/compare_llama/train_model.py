#!/usr/bin/env python3
"""Train a 30-layer Gemma 3n small enough for minutes on one core, for perplexity beside llama.cpp.

Random weights give a perplexity near the vocabulary size, which hides mistakes; this model has learnt enough Python to
be sensitive to them. It satisfies what llama.cpp fixes in its code: 30 layers of which 20 own K and V, 10 sparse
layers at 0.95, four AltUp streams, per-layer embeddings of 256, LAuReL of rank 64, K and V weights in every layer. The
sliding window of 128 is well inside the 512 tokens that perplexity is measured over.

The text is the standard library of the Python that runs this. Every tenth file is held out and written to
OUT/heldout.txt. Needs torch, transformers and sentencepiece.
"""

from __future__ import annotations

import argparse
import ctypes
import sysconfig
import time
from pathlib import Path

import sentencepiece
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy
from transformers import Gemma3nForCausalLM, Gemma3nTextConfig

LAYERS, SHARED, SPARSE, VOCABULARY, CONTEXT = 30, 10, 10, 2048, 512


def keep_memory() -> None:
    """Tells glibc to keep freed memory: giving each activation back to the system costs a third of the training."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD
        libc.mallopt(-4, 0)  # M_MMAP_MAX


def standard_library() -> tuple[str, str]:
    """The source of the top-level modules and of some packages: (training text, held-out text)."""
    root = Path(sysconfig.get_path("stdlib"))
    packages = ("asyncio", "collections", "concurrent", "email", "http", "importlib", "json", "logging", "unittest")
    files = sorted(root.glob("*.py")) + [f for name in packages for f in sorted((root / name).glob("*.py"))]
    texts = [file.read_text(encoding="utf-8", errors="ignore") for file in files]
    return "\n".join(t for i, t in enumerate(texts) if i % 10), "\n".join(texts[::10])


def train_tokenizer(out: Path, text: str) -> sentencepiece.SentencePieceProcessor:
    corpus = out / "corpus.txt"
    corpus.write_text(text, encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus),
        model_prefix=str(out / "tokenizer"),
        vocab_size=VOCABULARY,
        model_type="bpe",
        byte_fallback=True,
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        pad_piece="<pad>",
        eos_piece="<eos>",
        bos_piece="<bos>",
        user_defined_symbols=["<start_of_turn>", "<end_of_turn>"],
        split_digits=True,
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        minloglevel=2,
    )
    corpus.unlink()
    return sentencepiece.SentencePieceProcessor(model_file=str(out / "tokenizer.model"))


def new_model() -> Gemma3nForCausalLM:
    config = Gemma3nTextConfig(
        vocab_size=VOCABULARY,
        vocab_size_per_layer_input=VOCABULARY,
        hidden_size=128,
        hidden_size_per_layer_input=256,
        intermediate_size=[256] * LAYERS,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=64,
        num_kv_shared_layers=SHARED,
        laurel_rank=64,
        sliding_window=128,
        max_position_embeddings=2048,
        layer_types=["full_attention" if (i + 1) % 5 == 0 else "sliding_attention" for i in range(LAYERS)],
        activation_sparsity_pattern=[0.95] * SPARSE + [0.0] * (LAYERS - SPARSE),
    )
    model = Gemma3nForCausalLM(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "post" in name and "norm" in name:
                parameter.fill_(LAYERS**-0.5)  # the branches of all layers add up to about one
            elif "norm" in name or "correct_output_scale" in name:
                parameter.fill_(1)
            elif "embed" in name or "coefs" in name:
                parameter.normal_(std=0.02)
            else:
                parameter.normal_(std=parameter.shape[-1] ** -0.5)
    return model


def train(model: Gemma3nForCausalLM, ids: torch.Tensor, out: Path, steps: int, batch: int, rate: float) -> None:
    """AdamW on random windows of `CONTEXT` tokens, each begun by <bos>; the rate warms up and falls to zero.

    The checkpoint is written every 100 steps, so that a run cut short leaves a model that can be used.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / 30, 1.5 * (1 - step / steps) + 1e-3)
    )
    bos = torch.full((batch, 1), 2)
    mean, start = 0.0, time.monotonic()
    for step in range(steps):
        starts = torch.randint(0, len(ids) - CONTEXT, (batch,)).tolist()
        rows = torch.cat([bos, torch.stack([ids[s : s + CONTEXT - 1] for s in starts])], dim=1)
        logits = model(rows, use_cache=False).logits
        loss = cross_entropy(logits[:, :-1].flatten(0, 1), rows[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        mean = loss.item() if step == 0 else 0.95 * mean + 0.05 * loss.item()
        if step % 10 == 0 or step + 1 == steps:
            seconds = (time.monotonic() - start) / (step + 1)
            print(f"step {step + 1}/{steps}  loss {mean:.3f}  {seconds:.2f} s a step", flush=True)
        if (step + 1) % 100 == 0 or step + 1 == steps:
            save(model, out)


def save(model: Gemma3nForCausalLM, out: Path) -> None:
    """As published checkpoints are: K and V weights in the KV-shared layers too, where nothing uses them."""
    model.save_pretrained(out)
    tensors = load_file(out / "model.safetensors")
    prefix = next(key for key in tensors if "layers.0.self_attn.k_proj" in key).split("layers.0")[0]
    for layer in range(LAYERS - SHARED, LAYERS):
        for part in ("k_proj", "v_proj", "k_norm"):
            key = f"{prefix}layers.{{}}.self_attn.{part}.weight"
            tensors.setdefault(key.format(layer), tensors[key.format(0)].clone())
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of the checkpoint to write")
    parser.add_argument("--steps", type=int, default=200, help="of BATCH x 512 tokens (default %(default)s)")
    parser.add_argument("--batch", type=int, default=2, help="windows a step (default %(default)s)")
    parser.add_argument("--rate", type=float, default=3e-3, help="peak learning rate (default %(default)s)")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()

    keep_memory()
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    text, heldout = standard_library()
    (arguments.out / "heldout.txt").write_text(heldout, encoding="utf-8")
    tokenizer = train_tokenizer(arguments.out, text)
    ids = torch.tensor(tokenizer.encode(text))
    model = new_model()
    count = sum(parameter.numel() for parameter in model.parameters())
    print(f"{count / 1e6:.1f} M parameters, {len(ids) / 1e6:.2f} M tokens of text")
    train(model, ids, arguments.out, arguments.steps, arguments.batch, arguments.rate)


if __name__ == "__main__":
    main()
