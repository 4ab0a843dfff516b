"""Exporting, and running the result: tiny models with every feature, in every format and quantisation."""

from __future__ import annotations

import dataclasses
import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gemlet
import numpy as np
import pytest
from gemlet.conversion import convert
from gemlet.exported.manifest import NAME, TOKENIZER
from gemlet.exporters import ExportError, export, litertlm, litertlm_check
from gemlet.exporters.check import Comparison, require
from gemlet.exporters.onnx.file import OnnxFile
from gemlet.exporters.packing import BLOCK, stored_blocks
from gemlet.exporters.progress import Progress
from gemlet.exporters.requantise import positive_q4_0
from gemlet.exporters.source import Source
from gemlet.exporters.tflite import require_old_runtime

from conftest import Cli, cli_environment
from tiny import Tiny, write_checkpoint

BLOCKS = Tiny(
    layers="ssFsssF",
    shared=3,
    sparsity=(0.95, 0.8, 0.0, 0.5, 0.0, 0.9, 0.0),
    hidden=64,
    heads=4,
    kv_heads=2,
    head_dim=32,
    ffn=(128,),
    ple=32,
    laurel=32,
)
"""Rows that are whole blocks: so that matrices are quantised where the others would fall back to F16."""
MODELS = {
    "plain": Tiny(),
    "blocks": BLOCKS,
    "hostile": dataclasses.replace(
        BLOCKS,
        layers="FsFsF",
        shared=0,
        sparsity=(0.5,),
        altup=3,
        active=1,
        correct_scale=False,
        altup_projection_gain=1e-4,
        vocab=320,
        seed=4,
    ),
}
QUANTS = ("fp32", "fp16", "int8", "int4")
FORMATS = ("onnx", "tflite")
CASES = [(f, q, m) for f in FORMATS for q in QUANTS for m in MODELS if q in ("fp32", "fp16") or m != "plain"]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("checkpoints")
    return {name: write_checkpoint(folder / name, tiny) for name, tiny in MODELS.items()}


@pytest.fixture(scope="module")
def exports(checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Exports are made once, when a test first asks."""
    folder = tmp_path_factory.mktemp("exports")
    made: dict[tuple[str, str, str], Any] = {}

    def get(format: str, quant: str, model: str) -> Any:
        key = (format, quant, model)
        if key not in made:
            out = folder / "-".join(key)
            made[key] = export(checkpoints[model], out, format, quant, context=96, prefill=(5, 16))
        return made[key]

    yield get


@pytest.mark.parametrize(("format", "quant", "model"), CASES)
def test_every_combination_passes_its_check(exports: Any, format: str, quant: str, model: str) -> None:
    done = exports(format, quant, model)
    found = done.same_weights
    assert found.longest >= 2 * MODELS[model].window and found.decoded > 16
    if quant in ("fp32", "fp16"):
        assert found.max_difference < 1e-3 and found.greedy_agreement == 1.0
    assert found.relative_difference < (1e-4 if quant in ("fp32", "fp16") else 0.2)
    report = json.loads((done.path / "report.json").read_text())
    assert report["same_weights"]["max_difference"] == found.max_difference
    assert report["files"] == done.files and set(report["seconds"]) == {"prepare", "write", "check"}
    for name, size in done.files.items():
        assert (done.path / name).stat().st_size == size


@pytest.mark.parametrize("format", FORMATS)
def test_timelines_to_the_last_position(exports: Any, format: str, checkpoints: dict[str, Path]) -> None:
    """A prompt in uneven pieces, single steps, a rewind, and a context that is full."""
    done = exports(format, "fp32", "blocks")
    model = gemlet.load(done.path)
    gguf = done.path.parent / "reference.gguf"
    core = gemlet.load(convert(checkpoints["blocks"], gguf, "f32").path, cache="f32", context=96)
    ids = np.random.default_rng(3).integers(0, core.info.vocabulary, 96).tolist()
    want = core.logits(ids)
    session = model.session()
    at = 0
    for size in (1, 7, 30, 2, 44):
        logits = session.prefill(ids[at : at + size])
        at += size
        assert np.abs(logits - want[at - 1]).max() < 1e-3
    session.rewind(50)
    for i in range(50, 96):
        assert np.abs(session.step(ids[i]) - want[i]).max() < 1e-3
    with pytest.raises(gemlet.ContextError, match="holds 96 tokens, 96 are taken"):
        session.step(5)
    fork = session.fork()
    fork.rewind(95)
    assert np.abs(fork.step(ids[95]) - want[95]).max() < 1e-3
    assert np.abs(model.logits(ids[:40]) - want[:40]).max() < 1e-3


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("quant", ["fp32", "int4"])
def test_answers(exports: Any, format: str, quant: str, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    done = exports(format, quant, "blocks")
    model = gemlet.load(done.path, backend=format)  # type: ignore[arg-type]
    first = model.generate("then the abc", seed=3, max_tokens=12)
    assert model.generate("then the abc", seed=3, max_tokens=12).tokens == first.tokens
    assert "".join(model.stream("then the abc", seed=3, max_tokens=12)) == first.text
    assert first.stats.decode_tokens_per_second > 0 and first.stats.prompt_tokens > 3
    chat = model.chat(temperature=0.0, max_tokens=4)
    chat.send("a")
    assert chat.send("the").stats.reused_tokens > 0
    if quant == "fp32":
        core = gemlet.load(convert(checkpoints["blocks"], tmp_path / "c.gguf", "f32").path, cache="f32")
        options: Any = {"temperature": 0.0, "max_tokens": 60}
        assert model.generate("abc", **options).tokens == core.generate("abc", **options).tokens


@pytest.mark.parametrize("format", FORMATS)
def test_threads_do_not_meet(exports: Any, format: str) -> None:
    model = gemlet.load(exports(format, "fp32", "blocks").path)
    prompts = ["then the abc", "a", "nothing at all", "in an"]
    alone = [model.generate(prompt, seed=1, max_tokens=20).tokens for prompt in prompts]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda prompt: model.generate(prompt, seed=1, max_tokens=20).tokens, prompts * 3))
    assert together == alone * 3


def test_onnx_holds_the_codes_of_the_gguf_file(exports: Any, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    import onnx

    folder = exports("onnx", "int4", "blocks").path
    gguf = convert(checkpoints["blocks"], tmp_path / "q4.gguf", "q4_0").path
    source = Source(gguf)
    matrix = source.matrix("blk.2.ffn_up.weight")
    assert matrix.type == "Q4_0"
    model = onnx.load(folder / "model.onnx")
    held = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    codes, scales = held["blk.2.ffn_up.codes"], held["blk.2.ffn_up.scales"]
    weights = np.stack([codes & 15, codes >> 4], axis=3).reshape(*codes.shape[:2], BLOCK).astype(np.float32) - 8
    exact = np.concatenate(list(source.floats(matrix)))
    assert np.array_equal((weights * scales[:, :, None]).reshape(exact.shape), exact)
    nodes = [node for node in model.graph.node if node.op_type == "MatMulNBits"]
    assert {attribute.i for node in nodes for attribute in node.attribute if attribute.name == "block_size"} == {32}


def test_onnx_file_is_what_the_ecosystem_expects(exports: Any) -> None:
    import onnx

    folder = exports("onnx", "fp32", "plain").path
    onnx.checker.check_model(folder / "model.onnx")
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    assert model.ir_version <= 10 and {entry.domain: entry.version for entry in model.opset_import}[""] <= 21
    tiny = MODELS["plain"]
    names = [value.name for value in model.graph.input]
    assert names[:2] == ["input_ids", "position_ids"] and names[-1] == "num_logits_to_keep"
    kv = [f"past_key_values.{i}.{kind}" for i in range(tiny.own_kv) for kind in ("key", "value")]
    assert names[2:-1] == kv
    outputs = [value.name for value in model.graph.output]
    assert outputs == ["logits", *(name.replace("past_key_values", "present") for name in kv)]
    raw = (folder / "model.onnx").read_bytes()
    assert b"Traceback" not in raw and os.fsencode(Path.cwd()) not in raw and b"/site-packages/" not in raw
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(properties["gemlet.config"])["layers"] == len(tiny.layers)
    assert json.loads(properties["gemlet.tokenizer"])["file"] == "tokenizer.gguf"
    assert properties["gemlet.chat_template"]
    shared = [node.name for node in model.graph.node if node.op_type == "Slice"]
    assert shared, "the tokens whose logits nobody wants are dropped before the layers that share keys and values"


def test_tflite_signatures_share_their_weights(exports: Any) -> None:
    folder = exports("tflite", "fp32", "blocks").path
    parameters = gemlet.load(folder).info.parameters
    assert (folder / "model.tflite").stat().st_size < 4 * parameters + 700_000
    from ai_edge_litert.interpreter import Interpreter

    signatures = Interpreter(model_path=str(folder / "model.tflite")).get_signature_list()
    assert list(signatures) == ["prefill_5", "prefill_16", "decode"]
    own = MODELS["blocks"].own_kv
    caches = sorted(f"kv_cache_{kind}_{i}" for i in range(own) for kind in "kv")
    assert sorted(signatures["decode"]["inputs"]) == sorted(["tokens", "input_pos", *caches])
    assert sorted(signatures["prefill_5"]["outputs"]) == caches


def test_ids_beyond_the_per_layer_table(exports: Any) -> None:
    """They use its row 0, in every format."""
    tiny = MODELS["blocks"]
    assert tiny.vocab > tiny.ple_vocab
    ids = [2, tiny.vocab - 1, tiny.ple_vocab, 5]
    found = [gemlet.load(exports(format, "fp32", "blocks").path).logits(ids) for format in FORMATS]
    assert np.abs(found[0] - found[1]).max() < 1e-3


def test_a_gguf_file_of_other_types_is_requantised(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    gguf = convert(checkpoints["blocks"], tmp_path / "f32.gguf", "f32", transpose_down=True).path
    done = export(gguf, tmp_path / "out", "onnx", "int4")
    assert done.source is not None and done.source.relative_difference > done.same_weights.relative_difference
    again = export(checkpoints["blocks"], tmp_path / "direct", "onnx", "int4")
    assert again.source is None
    assert (done.path / "model.onnx.data").read_bytes() == (again.path / "model.onnx.data").read_bytes()
    assert (again.path / "tokenizer.model").exists() and not list(tmp_path.glob(".*"))


def test_positive_scales() -> None:
    rows = np.random.default_rng(0).normal(size=(50, 64)).astype(np.float32)
    rows[3] = 0
    encoded = positive_q4_0(rows)
    decoded = gemlet._core.dequantize(encoded, "q4_0", 64)
    scales = np.ascontiguousarray(stored_blocks(encoded, 64)[:, :, :2]).view(np.float16)
    assert (scales >= 0).all()
    assert np.abs(decoded - rows).max() <= np.abs(rows).max() / 7 * 0.51
    assert np.array_equal(positive_q4_0(decoded)[:, 2:18], encoded[:, 2:18]), "what is stored so already stays"


def test_what_a_check_refuses() -> None:
    def found(relative: float) -> Comparison:
        return Comparison(9, 3, 9, 1.0, 0.1, relative, 0.5)

    require(found(9e-4), found(0.5), "onnx", "fp32", "x")
    require(found(0.19), found(0.1), "onnx", "int4", "x")
    with pytest.raises(ExportError, match=r"x: the exported file does not answer.*0\.0011 of their spread.*0\.001"):
        require(found(1.1e-3), found(0.5), "onnx", "fp32", "x")
    with pytest.raises(ExportError, match=r"at most 0\.2"):
        require(found(0.21), found(0.1), "onnx", "int4", "x")


@pytest.mark.parametrize("format", (*FORMATS, "litertlm"))
def test_a_wrong_file_does_not_land(
    format: str, checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A norm whose weight is lost, as if the graph had been built wrongly."""
    vector = Source.vector

    def without(self: Source, name: str) -> Any:
        values = vector(self, name)
        return np.ones_like(values) if "ffn_norm" in name else values

    monkeypatch.setattr(Source, "vector", without)
    out = tmp_path / f"out.{format}"
    with pytest.raises(ExportError, match=f"^{out}: .* does not answer as the source does"):
        export(checkpoints["blocks"], out, format, "fp32")
    assert not list(tmp_path.iterdir())


def test_a_full_disk(nano_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(OnnxFile, "write", full)
    with pytest.raises(gemlet.FileError, match=r"out: No space left on device; nothing was kept"):
        export(nano_gguf, tmp_path / "out", "onnx", "int8")
    assert not list(tmp_path.iterdir())
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    for format in (*FORMATS, "litertlm"):
        out = tmp_path / f"out.{format}"
        with pytest.raises(gemlet.FileError, match=rf"^{out}: needs .* bytes, the disk has 1,000 free"):
            export(nano_gguf, out, format, "int8")


def test_an_interrupted_export(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """Ctrl-C during the check: an earlier export stays, and nothing else."""
    export(checkpoints["plain"], tmp_path / "out", "onnx", "fp32")
    before = (tmp_path / "out" / NAME).read_bytes()
    code = (
        "import sys, time, gemlet; from gemlet.exporters import check\n"
        "def slow(*a):\n    print('checking', flush=True); time.sleep(60)\n"
        "check.Reference.compare = slow\n"
        "gemlet.export(sys.argv[1], sys.argv[2], 'onnx', 'fp16')\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, checkpoints["plain"], tmp_path / "out"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=cli_environment(),
    )
    assert process.stdout is not None and process.stdout.readline() == "checking\n"
    with pytest.raises(gemlet.FileError, match="another export is writing it"):
        export(checkpoints["plain"], tmp_path / "out", "onnx", "fp32")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0 and "KeyboardInterrupt" in errors
    assert (tmp_path / "out" / NAME).read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("format", FORMATS)
def test_damaged_files(exports: Any, format: str, tmp_path: Path) -> None:
    """A runtime may crash on these; gemlet does not hand them over."""
    folder = tmp_path / "out"
    shutil.copytree(exports(format, "fp32", "plain").path, folder)
    name = {"onnx": "model.onnx", "tflite": "model.tflite"}[format]
    data = bytearray((folder / name).read_bytes())
    random = np.random.default_rng(0)
    for _ in range(8):
        damaged = bytearray(data)
        damaged[random.integers(4, 50_000)] ^= 1 + random.integers(255)
        (folder / name).write_bytes(damaged)
        with pytest.raises(gemlet.FormatError, match=rf"{name}: is not what was exported"):
            gemlet.load(folder)
    (folder / name).write_bytes(data[:-1])
    with pytest.raises(gemlet.FormatError, match="bytes, expected"):
        gemlet.load(folder)
    (folder / name).unlink()
    with pytest.raises(gemlet.FileError, match="No such file"):
        gemlet.load(folder)


def test_places_that_are_taken(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    plain = checkpoints["plain"]
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")
    for name, message in (
        ("file", "is a file, expected a folder"),
        ("full", "full: holds letter.txt"),
        ("none/out", "there is no directory"),
        ("/proc/out", "/proc/.out.lock: cannot be locked"),
    ):
        with pytest.raises(gemlet.FileError, match=message):
            export(plain, tmp_path / name, "onnx", "fp32")
    assert (tmp_path / "full" / "letter.txt").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    first = export(plain, tmp_path / "empty", "onnx", "fp32").path
    model = gemlet.load(first)
    before = model.logits([2, 3])
    export(plain, tmp_path / "empty", "onnx", "fp16")
    assert np.array_equal(model.logits([2, 3]), before), "files in use stay readable"
    assert gemlet.load(first).info.tensor_type == "F16"


def test_nothing_of_others_is_lost(checkpoints: dict[str, Path], nano_gguf: Path, tmp_path: Path) -> None:
    """The source, and files that an earlier export did not write, are not replaced; a lock is no way to other files."""
    out = export(checkpoints["plain"], tmp_path / "out", "onnx", "fp32").path
    (out / "notes.txt").write_text("mine")
    with pytest.raises(gemlet.FileError, match=r"out: holds notes\.txt, which no earlier export wrote so"):
        export(checkpoints["plain"], out, "onnx", "fp32")
    assert (out / "notes.txt").read_text() == "mine"
    (out / "notes.txt").unlink()
    source = shutil.copyfile(nano_gguf, out / "source.gguf")
    with pytest.raises(gemlet.FileError, match=r"out: would replace .*source\.gguf, which is to be exported"):
        export(source, out, "onnx", "int8")
    assert source.read_bytes() == nano_gguf.read_bytes()
    with pytest.raises(gemlet.FileError, match=r"source\.gguf: is .*, which is read or in use; expected another name"):
        export(source, source, "litertlm", "int8")
    assert source.read_bytes() == nano_gguf.read_bytes()
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (tmp_path / ".new.lock").symlink_to(precious)
    with pytest.raises(gemlet.FileError, match=r"\.new\.lock: cannot be locked"):
        export(checkpoints["plain"], tmp_path / "new", "onnx", "fp32")
    assert precious.read_text() == "mine"
    source.unlink()
    settings = json.loads((out / "generation_config.json").read_text()) | {"temperature": 0.1}
    (out / "generation_config.json").write_text(json.dumps(settings))
    with pytest.raises(gemlet.FileError, match=r"out: holds generation_config\.json"):  # somebody has changed it
        export(checkpoints["plain"], out, "onnx", "fp32")
    assert json.loads((out / "generation_config.json").read_text()) == settings


def test_sources_that_do_not_fit(checkpoints: dict[str, Path], tmp_path: Path, nano_gguf: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(checkpoints["plain"], broken)
    config = json.loads((broken / "config.json").read_text())
    config["num_hidden_layers"] += 1
    config["layer_types"].append("full_attention")
    config["intermediate_size"].append(116)
    config["activation_sparsity_pattern"].append(0.0)
    (broken / "config.json").write_text(json.dumps(config))
    out = tmp_path / "out"
    with pytest.raises(gemlet.FormatError, match=r"missing: layers\.5\."):
        export(broken, out, "onnx")
    other = tmp_path / "llama.gguf"
    data = nano_gguf.read_bytes()
    other.write_bytes(data.replace(b"gemma3n", b"gemma9x", 1))
    with pytest.raises(gemlet.UnsupportedError, match='architecture is "gemma9x"'):
        export(other, out, "onnx")
    other.write_bytes(data[: len(data) // 2])
    with pytest.raises(gemlet.FormatError):
        export(other, out, "tflite")
    with pytest.raises(gemlet.FileError):
        export(tmp_path / "nothing.gguf", out, "onnx")
    with pytest.raises(gemlet.ArgumentError, match="format is 'exe', expected one of onnx, tflite"):
        export(nano_gguf, out, "exe")
    with pytest.raises(ExportError, match="quant is 'int3', expected one of int4, int8, fp16, fp32"):
        export(nano_gguf, out, "onnx", "int3")
    with pytest.raises(gemlet.ArgumentError, match="context: expected 1 to"):
        export(nano_gguf, out, "onnx", context=10**7)
    with pytest.raises(gemlet.ArgumentError, match="prefill: expected lengths of 1 or more"):
        export(nano_gguf, out, "tflite", prefill=(0,))
    assert not out.exists() and not list(tmp_path.glob(".*"))


def test_progress_counts_to_the_end(nano_gguf: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    export(nano_gguf, tmp_path / "out", "tflite", "int4", lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1][0] == seen[-1][1] > 2_000_000
    quiet = Progress()
    quiet.add(3)


@pytest.mark.parametrize("format", FORMATS)
def test_nano_answers(format: str, nano_gguf: Path, tmp_path: Path) -> None:
    export(nano_gguf, tmp_path / "out", format, "int8")
    answer = gemlet.load(tmp_path / "out").chat(temperature=0.0).send("What is the capital of Portugal?")
    assert answer.text == "The capital of Portugal is Lisbon." and answer.finish_reason == "stop"


def test_command_line(cli: Cli, nano_gguf: Path, tmp_path: Path) -> None:
    start = time.time()
    done = cli("export", "onnx", nano_gguf, "-o", tmp_path / "out", "--quant", "int8", "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["files"]["model.onnx.data"] > 3_000_000 and record["seconds"]["check"] < time.time() - start
    shown = cli("export", "tflite", nano_gguf, "-o", tmp_path / "lite", "--prefill", "8,64", "--context", "128")
    assert shown.returncode == 0, shown.stderr
    assert "the same weights" in shown.stdout and "model.tflite" in shown.stdout
    for folder in ("out", "lite"):
        ran = cli("run", tmp_path / folder, "-p", "What is the capital of Portugal?", "--temperature", "0")
        assert (ran.stdout, ran.stderr) == ("The capital of Portugal is Lisbon.\n", "")
        assert cli("inspect", tmp_path / folder).returncode == 0
        rows = json.loads(cli("bench", tmp_path / folder, "-p", 16, "-n", 8, "-r", 1, "--json").stdout)
        assert [row["test"] for row in rows] == ["pp16", "tg8"] and all(row["mean"] > 0 for row in rows)
    wrong = cli("export", "tflite", nano_gguf, "-o", tmp_path / "x", "--prefill", "8,x")
    assert wrong.returncode == 2 and "expected a number or several" in wrong.stderr


def test_bench_beside_the_core(cli: Cli, nano_gguf: Path, tmp_path: Path) -> None:
    export(nano_gguf, tmp_path / "out", "onnx", "int8")
    own = tmp_path / "nano.gguf"
    own.write_bytes(nano_gguf.read_bytes())
    tests = ("-p", 16, "-n", 4, "-r", 1, "-t", 1, "--compare", "exported")
    done = cli("bench", own, *tests, "--other-file", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    mine, other = json.loads(done.stdout)["contenders"]
    assert other["name"] == "onnx int8, out" and other["medians"]["decode"] > 0
    assert other["file_bytes"] > mine["file_bytes"]
    assert "expected --other-file" in cli("bench", own, *tests).stderr


def test_what_the_old_runtime_runs(nano_gguf: Path, tmp_path: Path) -> None:
    done = export(nano_gguf, tmp_path / "out", "tflite", "fp32", runtime="tflite-runtime", context=64)
    assert done.files["model.tflite"] > 10_000_000
    for quant, reason in (("fp16", "no float16"), ("int8", "answers zeros"), ("int4", "no 4-bit weights")):
        with pytest.raises(ExportError, match=rf"tflite-runtime does not run {quant}: .*{reason}"):
            export(nano_gguf, tmp_path / "other", "tflite", quant, runtime="tflite-runtime")
    with pytest.raises(ExportError, match=r"files over 2 GB, and this one would have 2,000,000,001 bytes"):
        require_old_runtime("fp32", 2_000_000_001)
    with pytest.raises(gemlet.ArgumentError, match="runtime is 'exe'"):
        export(nano_gguf, tmp_path / "other", "tflite", "fp32", runtime="exe")
    for format in ("onnx", "litertlm"):
        with pytest.raises(
            gemlet.ArgumentError, match=f"'tflite-runtime', which runs the format tflite, found {format}"
        ):
            export(nano_gguf, tmp_path / "other", format, "fp32", runtime="tflite-runtime")


def test_bundles(nano_gguf: Path, tmp_path: Path, checkpoints: dict[str, Path]) -> None:
    """That LiteRT-LM runs them is tested where it is installed (test_litert_lm.py)."""
    from litert_lm_builder import litertlm_peek

    path = tmp_path / "nano.litertlm"
    done = export(nano_gguf, path, "litertlm", "int8", context=128, prefill=(32,))
    assert done.path == path and done.files == {path.name: path.stat().st_size}
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [path.name, f"{path.name}.report.json"]
    shown = io.StringIO()
    litertlm_peek.peek_litertlm_file(str(path), None, shown)
    for what in ("start_of_turn", "SP_Tokenizer", "tf_lite_prefill_decode", "gemma3n"):
        assert what in shown.getvalue()
    with pytest.raises(gemlet.FileError, match="is a directory, expected a file name"):
        export(nano_gguf, tmp_path, "litertlm", "int8")
    with pytest.raises(gemlet.FileError, match="there is no directory"):
        export(nano_gguf, tmp_path / "none" / "x.litertlm", "litertlm", "int8")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(gemlet.FileError, match="pipe: is a FIFO, expected a file name"):
        export(nano_gguf, tmp_path / "pipe", "litertlm", "int8")
    with pytest.raises(ExportError, match=r"LiteRT-LM answers 'no' to .*, expected 'yes'"):
        litertlm_check.compare(path, [["a"], ["b"]], ["yes", "no"], ["yes", "yes"])
    # The tiny models' template knows texts only.
    with pytest.raises(ExportError, match=r"x\.litertlm: LiteRT-LM gives contents .* as a list of parts"):
        export(checkpoints["blocks"], tmp_path / "x.litertlm", "litertlm", "fp32", context=64)
    assert not (tmp_path / "x.litertlm").exists()


def test_tokenizers_for_bundles(nano_gguf: Path, tmp_path: Path) -> None:
    """The SentencePiece model made of a GGUF vocabulary, in the real library."""
    import sentencepiece

    (tmp_path / TOKENIZER).write_bytes(Source(nano_gguf).header(0))
    model = litertlm._sentencepiece(tmp_path / TOKENIZER)
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.serialize())
    core = gemlet.load(nano_gguf)
    for text in ("<start_of_turn>user\nWhat is the capital of Peru?<end_of_turn>\n", "Grüße,  \U0001f600 a\n\n b"):
        assert processor.encode(text) == core.tokenize(text)
    assert not model.add_dummy_prefix
    header = (tmp_path / TOKENIZER).read_bytes()
    key, boolean = b".add_space_prefix", (7).to_bytes(4, "little")
    for stored, changed, prefix in (
        (key, b".add_space_prefiy", False),  # as in the core: none where the file says nothing
        (key + boolean + b"\0", key + boolean + b"\1", True),
    ):
        assert stored in header
        (tmp_path / TOKENIZER).write_bytes(header.replace(stored, changed))
        assert litertlm._sentencepiece(tmp_path / TOKENIZER).add_dummy_prefix == prefix
