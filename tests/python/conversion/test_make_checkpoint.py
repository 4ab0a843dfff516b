"""scripts/make_checkpoint: every size has the tensors that its configuration asks for, and as many weights as its name
says. Nothing large is written."""

from __future__ import annotations

import json
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from sys import modules
from types import ModuleType

import pytest
from gemlet.conversion import architectures
from gemlet.conversion.checkpoint import StoredTensor
from gemlet.conversion.config import ConfigFile
from gemlet.conversion.tensors import plan

ROOT = Path(__file__).parents[3]
MILLIONS = {
    "e2b": 4456,
    "e4b": 6867,
    "mid": 562,
    "gemma3-270m": 268,
    "gemma3-1b": 1000,
    "gemma3-4b": 3880,
}
"""Text parameters. Those of Gemma 3 are the published 0.268, 1.00 and 3.88 billion."""


@pytest.fixture(scope="module")
def script() -> ModuleType:
    loader = SourceFileLoader("make_checkpoint", str(ROOT / "scripts" / "make_checkpoint"))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    modules[loader.name] = module  # its dataclasses look for their module
    loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", MILLIONS)
def test_a_size_fits_its_configuration(script: ModuleType, name: str, tmp_path: Path) -> None:
    size = script.SIZES[name]
    (tmp_path / "config.json").write_text(json.dumps(size.config()))
    file = ConfigFile.read(tmp_path)
    architecture = architectures.find(file)
    stored = {w.name: StoredTensor(w.name, "BF16", w.shape, tmp_path, 0) for w in size.weights()}
    planned = plan(architecture, architecture.read_config(file), stored)
    assert not planned.left_out
    assert round(sum(weight.count for weight in size.weights()) / 1e6) == MILLIONS[name]


def test_every_size_is_checked(script: ModuleType) -> None:
    assert script.SIZES.keys() == MILLIONS.keys()
