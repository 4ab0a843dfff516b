"""A training run by the processor's clock: it ends after so many minutes of it, keeps itself in its folder and goes on
from there. Other programs on the machine make it longer, but not another run.

`FOLDER/control.json` may be edited while it runs: total minutes, the learning rate's scale, and task weights.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from optimizer import Group, schedule
from torch import nn
from tqdm import tqdm  # type: ignore[import-untyped]

CONTROL_EVERY = 20  # steps


class Run:
    """Steps of one run, with what is written about them."""

    def __init__(
        self,
        folder: Path,
        module: nn.Module,
        groups: Sequence[Group],
        *,
        minutes: float,
        weights: Mapping[str, float],
        decay: float,
        save_minutes: float = 4,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.module, self.groups = folder, module, groups
        self.decay, self.save_seconds = decay, save_minutes * 60
        self.elapsed, self.step = 0.0, 0
        self.losses: dict[str, list[float]] = {}
        self.weights = dict(weights)
        self.control = folder / "control.json"
        if not self.control.exists():
            content = {"minutes": minutes, "rate_scale": 1.0, "weights": self.weights}
            self.control.write_text(json.dumps(content, indent=1))
        self._read_control()
        if self.state.exists():
            self._resume()

    @property
    def state(self) -> Path:
        return self.folder / "resume.pt"

    @property
    def progress(self) -> float:
        return self.elapsed / 60 / self.minutes

    def _read_control(self) -> None:
        control = json.loads(self.control.read_text())
        self.minutes, self.rate_scale = float(control["minutes"]), float(control.get("rate_scale", 1.0))
        self.weights.update(control["weights"])

    def _resume(self) -> None:
        state = torch.load(self.state, weights_only=False)
        self.module.load_state_dict(state["module"])
        for group, kept in zip(self.groups, state["optimizers"], strict=True):
            group.muon.load(kept)
        self.elapsed, self.step = state["elapsed"], state["step"]

    def keep(self) -> None:
        """All that is needed to go on later."""
        fresh = self.state.with_suffix(".new")
        content: dict[str, Any] = {
            "module": self.module.state_dict(),
            "optimizers": [group.muon.state() for group in self.groups],
            "elapsed": self.elapsed,
            "step": self.step,
        }
        torch.save(content, fresh)
        fresh.replace(self.state)

    def write(self, record: Mapping[str, Any]) -> None:
        line = {"step": self.step, "minutes": round(self.elapsed / 60, 2), **record}
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def count(self, name: str, loss: float) -> None:
        """A loss of this step."""
        self.losses.setdefault(name, []).append(loss)

    def steps(self, save: Callable[[], None]) -> Iterator[float]:
        """The run's progress before each step, until the time is over. `save` is called every few minutes and at the
        end. Gradients are there after each step: they are clipped, applied and cleared."""
        last = time.process_time()
        next_save = self.elapsed + self.save_seconds
        bar = tqdm(total=100, mininterval=20)
        weights = [weight for weight in self.module.parameters() if weight.requires_grad]
        while self.progress < 1:
            yield self.progress
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            rate = schedule(self.progress, self.decay) * self.rate_scale
            for group in self.groups:
                group.muon.step(rate * group.scale)
            for weight in weights:
                weight.grad = None
            self.step += 1
            now = time.process_time()
            self.elapsed += now - last
            last = now
            if self.step % CONTROL_EVERY == 0:
                self._read_control()
                means = {name: round(sum(values) / len(values), 4) for name, values in self.losses.items()}
                self.losses = {}
                self.write(means)
                bar.set_postfix(means)
                bar.update(max(0, min(100, int(self.progress * 100)) - bar.n))
            if self.elapsed >= next_save:
                next_save = self.elapsed + self.save_seconds
                self.keep()
                save()
        self.keep()
        save()
        self.write({"done": True})
