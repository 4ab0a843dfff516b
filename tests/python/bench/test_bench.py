"""What `gemlet bench` measures beside speed: work, the machine's ceilings."""

import importlib.util
import json
from pathlib import Path

import gemlet
import pytest
from gemlet.bench import ceiling, roofline, speed
from gemlet.cli import app
from typer.testing import CliRunner

from conftest import Cli

TYPES = list(ceiling.COMMON_TYPES)


@pytest.fixture(autouse=True)
def small_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceiling, "BUFFER_BYTES", 1 << 22)


def test_the_work_is_counted(cli: Cli, tiny_gguf: Path, model: gemlet.Model) -> None:
    prefill, decode = json.loads(cli("bench", tiny_gguf, "-p", 20, "-n", 6, "-r", 1, "--json").stdout)
    weights = sum(tensor.bytes for tensor in model.info.tensors if not tensor.on_flash)
    assert 0.5 * weights < decode["weight_bytes"] <= weights
    assert prefill["weight_bytes"] < decode["weight_bytes"] / 10
    assert prefill["multiply_adds"] < decode["multiply_adds"]  # no logits but the last
    assert decode["barriers"] >= model.info.layers and decode["read_share"] is None


def test_several_numbers_of_threads(cli: Cli, tiny_gguf: Path) -> None:
    rows = json.loads(cli("bench", tiny_gguf, "-p", 5, "-n", 0, "-r", 1, "-t", "1,3", "--json").stdout)
    assert [row["threads"] for row in rows] == [1, 3]


@pytest.mark.parametrize("kernels", ["scalar", ""])
def test_ceiling(kernels: str) -> None:
    machine, products = ceiling.measure(2, kernels)
    assert machine.threads == 2 and kernels in machine.kernels
    assert min(machine.read_bandwidth, machine.bytes, machine.half_bytes, machine.floats) > 1e6
    assert [product.type for product in products] == TYPES
    for product in products:
        assert product.one_token_share == product.one_token / machine.read_bandwidth > 0
        assert product.many_tokens_share == product.many_tokens / machine.multiply_adds(product.type) > 0


def test_ceiling_refuses_what_is_not_there() -> None:
    with pytest.raises(gemlet.ArgumentError, match="sse9"):
        ceiling.measure(1, "sse9")
    with pytest.raises(gemlet.ArgumentError, match="Q9_0"):
        ceiling.measure(1, types=["Q9_0"])


def test_a_model_beside_the_ceiling(tiny_gguf: Path) -> None:
    arguments = ["bench", str(tiny_gguf), "-p", "0", "-n", "4", "-r", "1", "-t", "2", "--ceiling"]
    done = CliRunner().invoke(app, [*arguments, "--json"])
    record = json.loads(done.stdout)
    (machine,), (row,) = record["machine"], record["rows"]
    assert row["read_share"] == pytest.approx(row["weight_bytes"] * row["mean"] / machine["read_bandwidth"])
    assert row["multiply_add_share"] > 0
    assert [product["type"] for product in record["products"]] == TYPES
    tables = CliRunner().invoke(app, arguments).stdout.split("\n\n")
    assert [table.split()[1] for table in tables] == ["kernels", "kernels", "model"]


def test_the_roofline_is_drawn(tiny_gguf: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    arguments = ["bench", str(tiny_gguf), "-p", "8", "-n", "4", "-r", "1", "-t", "1,2", "--ceiling", "--plot"]
    done = CliRunner().invoke(app, [*arguments, str(tmp_path / "roofline.png")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "roofline.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("x.foo", "--plot: expected a name that ends in .png, .svg, .pdf, found x.foo"),
        ("/none/x.png", "/none/x.png: cannot be written: there is no directory /none"),
        ("x.png", "--plot needs matplotlib: pip install 'gemlet[bench]'"),
    ],
)
def test_a_plot_that_cannot_be_drawn_is_refused_before_measuring(
    tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch, out: str, message: str
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(speed, "measure", None)
    done = CliRunner().invoke(app, ["bench", str(tiny_gguf), "--ceiling", "--plot", out])
    assert isinstance(done.exception, gemlet.GemletError) and str(done.exception) == message


def test_the_lower_roof_is_the_bound() -> None:
    machine = ceiling.Machine("avx2", 2, read_bandwidth=20e9, bytes=100e9, half_bytes=150e9, floats=30e9)
    cases = {("Q4_0", 2.0): 40e9, ("Q4_0", 9.0): 150e9, ("Q8_0", 9.0): 100e9, ("F16", 9.0): 30e9}
    for (type, intensity), expected in cases.items():
        assert roofline.bound(machine, type, intensity) == expected
