"""What the trainings of one encoder alone have in common (see.py, hear.py)."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from clock import Run
from optimizer import Group, Muon
from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def parser(description: str | None, *, minutes: float, batch: int) -> argparse.ArgumentParser:
    """The options, with the defaults that differ."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=minutes, help="of processor time")
    parser.add_argument("--batch", type=int, default=batch)
    parser.add_argument("--rate", type=float, default=0.02)
    parser.add_argument("--adam-rate", type=float, default=0.003)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    return parser


def begin(args: argparse.Namespace, make: Callable[[], Module]) -> tuple[Module, Run]:
    """The module and its run, which goes on from what is in its folder."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    module = make()
    groups = [Group(Muon(module.named_parameters(), args.rate, args.adam_rate))]
    return module, Run(args.out, module, groups, minutes=args.minutes, weights={}, decay=0.3)
