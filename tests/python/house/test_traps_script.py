"""scripts/check_traps runs in continuous integration only; that its mistakes still fit the source is seen here."""

from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from sys import modules

ROOT = Path(__file__).parents[3]


def test_every_mistake_can_still_be_made() -> None:
    loader = SourceFileLoader("check_traps", str(ROOT / "scripts" / "check_traps"))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    script = module_from_spec(spec)
    modules[loader.name] = script  # its dataclass looks for its module
    loader.exec_module(script)
    assert len(script.TRAPS) >= 38
    stale = [(trap.name, trap.file) for trap in script.TRAPS if trap.old not in (ROOT / trap.file).read_text()]
    assert not stale
