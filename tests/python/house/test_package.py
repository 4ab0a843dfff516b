"""What is installed."""

import inspect
import re
import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gemlet
import pytest
from gemlet import conversion, exporters

ROOT = Path(__file__).parents[3]


def test_the_version_is_the_same_everywhere() -> None:
    found = re.search(r"project\(gemlet VERSION ([\d.]+)", (ROOT / "CMakeLists.txt").read_text())
    assert found is not None and found[1] == gemlet.__version__


def test_all_public_names_exist_and_say_what_they_are() -> None:
    for name in gemlet.__all__:
        value = getattr(gemlet, name)
        assert value is gemlet.FinishReason or value.__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        gemlet.nothing  # noqa: B018


@pytest.mark.parametrize(
    ("ours", "room"),
    [
        (gemlet.convert, conversion.convert),
        (gemlet.convert_mmproj, conversion.convert_mmproj),
        (gemlet.export, exporters.export),
    ],
)
def test_the_functions_of_rooms_take_the_same_arguments(ours: Callable[..., Any], room: Callable[..., Any]) -> None:
    """`gemlet.convert` and `gemlet.export` hand on to the rooms that need an extra, and miss no argument of theirs."""

    def arguments(function: Callable[..., Any]) -> list[tuple[object, ...]]:
        return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]

    assert arguments(ours) == arguments(room)


def test_the_package_is_typed() -> None:
    assert (Path(gemlet.__file__).parent / "py.typed").exists()


def test_the_sample_model_answers(nano_gguf: Path) -> None:
    assert nano_gguf.stat().st_size <= 8 * 2**20
    answer = gemlet.load("nano").chat(temperature=0.0).send("What is the capital of France?").text
    assert "Paris" in answer


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_wheel_works_in_a_clean_environment(tmp_path: Path) -> None:
    """Needs the package index, for the build and for the requirements."""
    pip = [sys.executable, "-m", "pip", "--quiet", "wheel", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(pip, check=True)
    [wheel] = tmp_path.glob("gemlet-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"gemlet/py.typed", "gemlet/_core.pyi", "gemlet/conversion/__init__.py"} <= set(names)
    assert any(re.fullmatch(r"gemlet/_core\..*\.so", name) for name in names)
    assert not [name for name in names if "__pycache__" in name or name.startswith(("tests", "cpp", "lib", "include"))]
    model = ROOT / "python" / "gemlet" / "models" / "nano.gguf"
    assert ("gemlet/models/nano.gguf" in names) == model.exists()

    venv.create(tmp_path / "venv", with_pip=True)
    binaries = tmp_path / "venv" / "bin"
    subprocess.run([binaries / "python", "-m", "pip", "--quiet", "install", wheel], check=True)
    code = "import gemlet; print(gemlet.__version__, gemlet.__file__)"
    done = subprocess.run([binaries / "python", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{gemlet.__version__} {tmp_path}")
    subprocess.run([binaries / "gemlet", "--help"], cwd=tmp_path, capture_output=True, check=True)
