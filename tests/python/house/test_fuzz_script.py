"""scripts/fuzz runs for hours or in continuous integration; that no finding gets lost there is seen here."""

from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from sys import modules
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[3]
LONG = 1e6
"""More seconds than a run with findings takes."""
TARGET = """#!/bin/sh
for argument; do case $argument in -artifact_prefix=*) prefix=${argument#*=} ;; esac; done
echo '#7 DONE   cov: 321 ft: 400' >&2
echo 'stat::number_of_executed_units: 7' >&2
echo 'stat::new_units_added: 2' >&2
ENDING
"""


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    loader = SourceFileLoader("fuzz", str(ROOT / "scripts" / "fuzz"))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    script = module_from_spec(spec)
    monkeypatch.setitem(modules, loader.name, script)  # its dataclass looks for its module
    loader.exec_module(script)
    for name, folder in {"BUILD": "", "FINDINGS": "findings", "GROWN": "corpus"}.items():
        monkeypatch.setattr(script, name, tmp_path / folder)
        (tmp_path / folder).mkdir(exist_ok=True)
    monkeypatch.setattr(script, "ROOT", tmp_path)
    monkeypatch.setattr(script, "MOST_FINDINGS", 1)
    return script


def put_target(folder: Path, ending: str) -> None:
    target = folder / "tests" / "fuzz" / "fuzz_x"
    target.parent.mkdir(parents=True)
    target.write_text(TARGET.replace("ENDING", ending))
    target.chmod(0o755)


@pytest.mark.parametrize(
    ("ending", "finding"),
    [
        ('echo bad > "$prefix"crash-1; exit 77', "fuzz_x-crash-1"),
        ('echo bad > "$prefix"timeout-1; exit 70', "fuzz_x-timeout-1"),
        ("kill -9 $$", "fuzz_x-exit-code--9.log"),
    ],
)
def test_a_target_that_ends_is_a_finding(script: ModuleType, tmp_path: Path, ending: str, finding: str) -> None:
    put_target(tmp_path, ending)
    [result] = script.Run({}, tmp_path).all(["fuzz_x"], LONG, 1)
    assert result.findings == [tmp_path / "findings" / finding]
    assert result.row() == ("fuzz_x", "7", "321 edges, 2 new inputs", "1")
    logs = [path.read_text() for path in (tmp_path / "findings").glob("*.log")]
    assert len(logs) == 1 and "number_of_executed_units: 7" in logs[0]


def test_a_python_fuzzer_that_fails_is_a_finding_with_its_seed(script: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "test_x_fuzz.py"
    file.write_text(
        "import os\n"
        "def test_every_mutation():\n"
        "    assert os.environ['GEMLET_FUZZ_CASES'] == '200'\n"
        "    assert os.environ['GEMLET_FUZZ_SEED'] != '1001', 'broken'\n"
    )
    [result] = script.Run({file.stem: file}, tmp_path).all([file.stem], LONG, 1)
    assert [path.name for path in result.findings] == ["test_x_fuzz-seed-1001.log"]
    assert result.row() == ("test_x_fuzz", "400", "seeds 1000 to 1001", "1")
    assert "broken" in (tmp_path / "findings" / "test_x_fuzz-seed-1001.log").read_text()
    assert (tmp_path / "corpus" / "test_x_fuzz.seed").read_text() == "1002"


def test_every_target_has_seeds_and_is_built() -> None:
    targets = sorted(path.stem for path in (ROOT / "tests" / "fuzz").glob("fuzz_*.cpp"))
    assert len(targets) >= 5
    assert sorted(path.name for path in (ROOT / "tests" / "fuzz" / "corpus").iterdir()) == targets
    cmake = (ROOT / "tests" / "fuzz" / "CMakeLists.txt").read_text()
    [names] = [line for line in cmake.splitlines() if line.startswith("foreach(name IN ITEMS")]
    assert sorted("fuzz_" + name for name in names.removesuffix(")").split()[3:]) == targets
