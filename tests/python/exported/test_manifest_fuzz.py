"""gemlet.json is whatever somebody put there: each of many mutations loads, or gives the package's own error."""

import copy
import hashlib
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gemlet
import pytest
from gemlet.exported.engine import engine_of
from gemlet.exported.manifest import NAME, TOKENIZER, Manifest, unchanged_files
from gemlet.exported.media import EMBEDDERS, FILES

from conftest import write_export
from mutations import cases, mutated_json, seed


class NoRunner:
    """A runtime whose model computes nothing."""

    runtime = "none"
    threads = 1
    context = 8

    def empty(self) -> object:
        return object()

    def run(self, *_: object) -> Any:
        raise AssertionError


@pytest.fixture
def folder(model: gemlet.Model, tmp_path: Path) -> Path:
    return write_export(tmp_path, model)


def load(folder: Path) -> None:
    """All that gemlet makes of a manifest, without the runtime."""
    manifest = Manifest.read(folder)
    loaded = gemlet.Model(engine_of(manifest, NoRunner(), folder), folder)
    assert loaded.info.parameters >= 0 and loaded.session().context == NoRunner.context
    assert unchanged_files(folder) <= {path.name for path in folder.iterdir()}


def test_every_mutation_has_the_packages_own_error(folder: Path) -> None:
    """Of a list of two tensors, so that the other fields are met often."""
    load(folder)
    good = json.loads((folder / NAME).read_text())
    good["info"]["tensors"] = good["info"]["tensors"][:2]
    os.mkfifo(folder / "fifo")
    rng = random.Random(seed(5))
    tried = cases(1000)
    loaded = 0
    for number in range(tried):
        text = json.dumps(mutated_json(good, rng))
        if number % 10 == 0:
            at = rng.randrange(len(text))
            text = text[:at] + rng.choice(('"', "}", "\0", "[" * 2000, "")) + text[at + 1 :]
        (folder / NAME).write_text(text)
        try:
            load(folder)
            loaded += 1
        except (gemlet.FileError, gemlet.FormatError, gemlet.UnsupportedError, gemlet.ArgumentError) as error:
            assert str(error), text
    assert tried < 500 or 0 < loaded < tried / 2


def test_every_mutation_of_the_encoders_has_the_packages_own_error(folder: Path, model: gemlet.Model) -> None:
    good = json.loads((folder / NAME).read_text())
    for name in (*EMBEDDERS["onnx"], *FILES["onnx"]["vision"], *FILES["onnx"]["audio"]):
        (folder / name).touch()
        good["files"][name], good["digests"][name] = 0, hashlib.sha256().hexdigest()
    row = [0.5] * model.info.hidden_size
    media = {
        "vision": {"size": 768, "end": row},
        "audio": {"mel_bins": 128, "filled_tokens": 188, "padding": row, "end": row},
    }
    (folder / NAME).write_text(json.dumps({**good, "media": media}))
    load(folder)
    rng = random.Random(seed(6))
    tried = cases(300)
    loaded = 0
    for _ in range(tried):
        (folder / NAME).write_text(json.dumps({**good, "media": mutated_json(media, rng)}))
        try:
            load(folder)
            loaded += 1
        except (gemlet.FormatError, gemlet.FileError) as error:
            assert str(error)
    assert tried < 200 or 0 < loaded < tried


def put_fifo(path: Path) -> None:
    os.mkfifo(path)


def put_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def put_folder(path: Path) -> None:
    path.mkdir()


def put_socket(path: Path) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))


@pytest.mark.parametrize("put", [put_fifo, put_device, put_folder, put_socket])
@pytest.mark.parametrize("name", [NAME, TOKENIZER, "model.onnx", "model.onnx.data"])
def test_what_is_no_file_is_refused_and_not_waited_for(folder: Path, name: str, put: Callable[[Path], None]) -> None:
    (folder / name).unlink()
    put(folder / name)
    with pytest.raises(gemlet.FileError, match=rf"{name}: .*(expected a|cannot)"):
        load(folder)


@pytest.mark.parametrize("name", [TOKENIZER, "model.onnx", "model.onnx.data"])
def test_no_file_that_is_opened_goes_unchecked(folder: Path, name: str) -> None:
    good = json.loads((folder / NAME).read_text())
    for part in ("files", "digests"):
        changed = copy.deepcopy(good)
        del changed[part][name]
        (folder / NAME).write_text(json.dumps(changed))
        with pytest.raises(gemlet.FormatError, match=name):
            load(folder)


def test_a_link_to_a_file_is_a_file(folder: Path, tmp_path: Path) -> None:
    """The cache of the Hugging Face hub consists of links."""
    blob = tmp_path / "blob"
    (folder / "model.onnx").rename(blob)
    (folder / "model.onnx").symlink_to(blob)
    load(folder)


def test_files_that_were_changed_are_somebodys(folder: Path) -> None:
    written = {TOKENIZER, "model.onnx", "model.onnx.data"}
    assert unchanged_files(folder) == written
    (folder / "model.onnx").write_bytes(b"Nothing")
    assert unchanged_files(folder) == written - {"model.onnx"}
    (folder / NAME).write_text("{" * 10000)
    assert unchanged_files(folder) == set()
