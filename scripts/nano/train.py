"""Train nano for a set number of minutes: its text model alone, or (with --media) all of it.

With --media the run starts from the text model of another run and from the encoders that see.py and hear.py trained.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import media_tasks
import sentencepiece
import torch
from architecture import FFN, LAYERS, WIDTH, initialise, nano_config
from checkpoint import save
from clips import Clips
from clock import Run
from data import DEFAULT_WEIGHTS, read_examples, training_dialogues
from dialogue import Source
from fast import Fast
from media_tasks import MEDIA_TASKS, Said, Shown
from optimizer import Group, Muon
from packing import Encoding, Item, Packed, Packer, Shape, loss_of
from score import score
from soft import Soft
from torch import nn
from towers import Audio, Vision
from transformers import Gemma3nForCausalLM
from voices import Floats, features, spoken

log = logging.getLogger("nano")
MEDIA_PER_SCORE = 30
ENCODER_RATE = 0.3
"""Of encoders that are trained already, relative to the text model's."""
TEXT_SHAPES = (Shape(24, 128), Shape(4, 320))
JOINT_SHAPES = {
    "text": (Shape(8, 128), Shape(2, 320)),
    "sound": (Shape(16, 128),),
    "picture": (Shape(5, 592, 0.25),),
    "pictures": (Shape(3, 592, 0.1),),
}
SHARES = {"text": 0.35, "sound": 0.25, "picture": 0.27, "pictures": 0.13}
"""Of each kind in the loss of a joint step, whatever the length of its answers."""
TASKS = {
    "sound": ("transcription", "translation", "spoken questions"),
    "picture": ("pictures", "asked by voice"),
    "pictures": ("comparison",),
}


@dataclass
class Streams:
    """Items of every kind, without end."""

    encoding: Encoding
    clips: Clips | None
    weights: dict[str, float]
    seed: str

    def text(self) -> Callable[[], Item]:
        processor = self.encoding.processor
        pieces = [processor.id_to_piece(i) for i in range(processor.get_piece_size())]
        dialogues = training_dialogues(self.seed, self.weights, [piece for piece in pieces if piece.isalpha()])
        return lambda: self.encoding.text(next(dialogues))

    def media(self, kind: str) -> Callable[[], Item]:
        source = Source(Random(f"{self.seed} {kind}"), held_out=False)
        names = TASKS[kind]

        def draw() -> Item:
            task = source.rng.choices(names, [self.weights[name] for name in names])[0]
            return self.encoding.shown(self._shown(task, source))

        return draw

    def _shown(self, task: str, source: Source) -> Shown:
        if task == "transcription" and self.clips is not None:
            return media_tasks.transcription(source, self.clips.draw(source.rng)[0])
        return MEDIA_TASKS[task](source)


def hearing(clips: Clips | None, rng: Random) -> Callable[[Said], Floats]:
    """Clips from the store where one says just this; others are spoken now."""

    def hear(said: Said) -> Floats:
        found = clips.of(said.utterance, rng) if clips is not None else None
        return features(spoken(said.utterance, said.manner)) if found is None else found

    return hear


def group_of(name: str) -> str:
    return name.split(".")[0]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder that tokenizer.py wrote")
    parser.add_argument("--minutes", type=float, default=95, help="of processor time")
    parser.add_argument("--decay", type=float, default=0.25, help="share of the time in which the rate falls to zero")
    parser.add_argument("--media", type=Path, help="folder with the runs text, vision and audio, and clips")
    parser.add_argument("--rate", type=float, default=0.02)
    parser.add_argument("--adam-rate", type=float, default=0.004)
    parser.add_argument("--half-share", type=float, default=0.35, help="share of steps with half of every feed-forward")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--score-minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-compile", action="store_true")
    return parser.parse_args()


def built(media: Path | None) -> nn.ModuleDict:
    """The text model, and the encoders with what they have learnt."""
    config = nano_config(WIDTH, LAYERS, FFN)
    text = Gemma3nForCausalLM(config).train()
    initialise(text)
    modules = nn.ModuleDict({"text": text})
    if media is not None:
        state = torch.load(media / "text" / "resume.pt", weights_only=False)["module"]
        modules.load_state_dict(state)
        for name, make in (("vision", Vision), ("audio", Audio)):
            modules[name] = make(config)
            modules[name].load_state_dict(torch.load(media / name / f"{name}.pt"))
    return modules


def main() -> None:
    args = parse()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    torch._dynamo.config.recompile_limit = 32  # a graph for each shape and feed-forward width
    modules = built(args.media)
    groups = [
        Group(
            Muon([(n, w) for n, w in modules.named_parameters() if group_of(n) == name], args.rate, args.adam_rate),
            1.0 if name == "text" else ENCODER_RATE,
        )
        for name in modules
    ]
    run = Run(
        args.out,
        modules,
        groups,
        minutes=args.minutes,
        weights=DEFAULT_WEIGHTS | (media_tasks.DEFAULT_WEIGHTS if args.media else {}),
        decay=args.decay,
    )
    log.info("%.2f M weights", sum(weight.numel() for weight in modules.parameters()) / 1e6)
    text: Any = modules["text"]
    seed = f"{args.seed} {run.step}"
    choose = Random(seed)
    clips = Clips(args.media / "clips") if args.media else None
    processor = sentencepiece.SentencePieceProcessor(model_file=str(args.tokenizer / "tokenizer.model"))
    streams = Streams(Encoding(processor, hearing(clips, choose)), clips, run.weights, seed)
    window = text.config.sliding_window
    shapes = JOINT_SHAPES if args.media else {"text": TEXT_SHAPES}
    packers = {
        kind: Packer(streams.text() if kind == "text" else streams.media(kind), window, 60 if kind == "text" else 8)
        for kind in shapes
    }
    fast = Fast(text)
    forward = fast if args.no_compile else torch.compile(fast, dynamic=False)
    soft = Soft(modules)
    scored = run.elapsed
    examples = read_examples()[::3]

    def saved() -> None:
        nonlocal scored
        save(modules, args.out / "checkpoint", args.tokenizer)
        if run.elapsed - scored >= args.score_minutes * 60 or run.progress >= 1:
            scored = run.elapsed
            for half in (False, True):
                scores = score(fast, soft, processor, examples, MEDIA_PER_SCORE, half=half)
                run.write({"half": half, "scores": scores.rates()})

    for _ in run.steps(saved):
        half = choose.random() < args.half_share
        group: list[tuple[str, Packed]] = [
            (kind, packers[kind].batch(shape)) for kind, several in shapes.items() for shape in several
        ]
        counts: dict[str, int] = {}
        for kind, packed in group:
            counts[kind] = counts.get(kind, 0) + int((packed.targets >= 0).sum())
        for kind, packed in group:
            rows = soft(packed)
            logits = forward(
                packed.ids, packed.positions, packed.full, packed.sliding, packed.chosen, half, *(rows or ())
            )
            loss = loss_of(logits, packed.targets, max(1, counts[kind]))
            (loss * SHARES[kind] if args.media else loss).backward()
            run.count(kind, loss.item() * len(shapes[kind]))


if __name__ == "__main__":
    main()
