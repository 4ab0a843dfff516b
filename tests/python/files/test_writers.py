"""Everything in the package that writes a file refuses the same places: each is tried with each."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import gemlet
import pytest
from gemlet.bench import compare, roofline
from gemlet.bench.ceiling import Machine

from conftest import make_device

Write = Callable[[Path], object]

PLACES = ("a file", "a link", "a loose link", "a FIFO", "a device", "a directory", "nowhere")


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """The folder that the places are in; what is read lies elsewhere."""
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def place(folder: Path, kind: str, name: str) -> Path:
    path = folder / name
    match kind:
        case "a file":
            path.write_text("old")
        case "a link":
            (folder / "precious").write_text("mine")
            path.symlink_to(folder / "precious")
        case "a loose link":
            path.symlink_to(folder / "made")
        case "a FIFO":
            os.mkfifo(path)
        case "a device":
            make_device(path)
        case "a directory":
            path.mkdir()
        case "nowhere":
            return folder / "none" / name
    return path


@pytest.fixture
def writers(model: gemlet.Model, tiny_gguf: Path, nano_gguf: Path) -> dict[str, Write]:
    session = model.session()
    session.prefill([2, 20, 21])
    contender = compare.Contender("x", compare.Gemlet(), tiny_gguf, {"warm": [1.0]})
    machine = Machine("scalar", 1, 1e9, 1e9, 1e9, 1e9)
    return {
        "convert": lambda path: gemlet.convert(tiny_gguf.parent / "checkpoint", path, "f32"),
        "chat": lambda path: model.chat().save(path),
        "session": session.save,
        "bundle": lambda path: gemlet.export(nano_gguf, path, "litertlm", "int8", context=64, prefill=(8,)),
        "roofline": lambda path: roofline.plot(machine, [roofline.Point("x", "F32", 2.0, 1e8)], path),
        "comparison": lambda path: compare.plot([contender], "one bar", path),
    }


NAMES = ("convert", "chat", "session", "bundle", "roofline", "comparison")


@pytest.mark.parametrize("kind", PLACES)
@pytest.mark.parametrize("name", NAMES)
def test_where_files_are_written(name: str, kind: str, writers: dict[str, Write], work: Path) -> None:
    path = place(work, kind, "x.litertlm" if name == "bundle" else "x")
    before = sorted(entry.name for entry in work.iterdir())
    status = os.lstat(path) if os.path.lexists(path) else None
    if kind == "a file":
        writers[name](path)
        assert path.is_file() and path.read_bytes() != b"old"
        return
    with pytest.raises(gemlet.FileError, match=f"{path}: "):
        writers[name](path)
    if status is not None:
        assert os.path.samestat(os.lstat(path), status)
    assert sorted(entry.name for entry in work.iterdir()) == before
    if kind == "a link":
        assert (work / "precious").read_text() == "mine"


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.model", "another"])
def test_a_checkpoint_is_not_replaced_by_its_conversion(name: str, tiny_gguf: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(tiny_gguf.parent / "checkpoint", checkpoint)
    target = checkpoint / name
    if name == "another":
        os.link(checkpoint / "model.safetensors", target)
    before = target.read_bytes()
    with pytest.raises(gemlet.FileError, match=r"which is read or in use; expected another name"):
        gemlet.convert(checkpoint, target, "f32")
    assert target.read_bytes() == before
    for _ in range(2):  # a file of ours in the same folder may be replaced
        gemlet.convert(checkpoint, checkpoint / "model.gguf", "f32")


def test_a_model_is_not_replaced_by_what_it_says(tiny_gguf: Path, tmp_path: Path) -> None:
    path = shutil.copyfile(tiny_gguf, tmp_path / "model.gguf")
    loaded = gemlet.load(path)
    session = loaded.session()
    session.prefill([2])
    with pytest.raises(gemlet.FileError, match="which is read or in use"):
        loaded.chat().save(path)
    with pytest.raises(gemlet.FileError, match="which is read or in use"):
        session.save(path)
    for format, message in (("litertlm", "which is read or in use"), ("onnx", "is a file, expected a folder")):
        with pytest.raises(gemlet.FileError, match=message):
            gemlet.export(path, path, format, "fp32")
    assert path.read_bytes() == tiny_gguf.read_bytes()


@pytest.mark.parametrize("name", ["a\0b", "a\ud800b", ""])
def test_names_that_no_file_can_have(name: str, model: gemlet.Model, tiny_gguf: Path) -> None:
    session = model.session()
    session.prefill([2])
    calls: list[Callable[[], object]] = [
        lambda: model.chat().save(name),
        lambda: model.chat().load(name),
        lambda: session.save(name),
        lambda: model.restore(name),
        lambda: gemlet.convert(tiny_gguf.parent / "checkpoint", name),
        lambda: gemlet.export(tiny_gguf, name, "onnx", "fp32"),
    ]
    for call in calls:
        with pytest.raises(gemlet.ArgumentError, match="expected the name of a file"):
            call()
