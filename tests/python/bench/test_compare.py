"""`gemlet bench --compare`, with programs that answer as the other runtimes do."""

import json
from pathlib import Path

import gemlet
import pytest
from gemlet.bench import compare
from gemlet.memory import peak_memory

from conftest import Cli

LLAMA_BENCH = """#!/bin/sh
case " $* " in *" -p 0 "*) printf '[\\n{"avg_ts": 3.0}]';; *" -n 0 "*) printf '[\\n{"avg_ts": 9.0}]';;
*) echo 'a warning'; printf '[\\n{"avg_ts": 8.0}, {"avg_ts": 4.0}]';; esac
"""
LITERT_LM = """#!/bin/sh
echo 'Prefill speed:        200.50 tokens/s'
echo 'Decode speed:         40.25 tokens/s'
"""


def program(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return folder


def test_llama_cpp(cli: Cli, tiny_gguf: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.gguf"
    own.write_bytes(tiny_gguf.read_bytes())
    tools = program(tmp_path, "llama-bench", LLAMA_BENCH)
    tests = ("-p", 20, "-n", 6, "-d", 8, "-r", 2, "-t", 1)
    done = cli("bench", own, *tests, "--compare", "llama.cpp", "--other-bin", tools, "--json")
    mine, other = json.loads(done.stdout)["contenders"]
    assert other["medians"]["prefill"] == 8.0 and other["medians"]["decode"] == 4.0 and other["medians"]["deep"] == 3.0
    assert set(mine["medians"]) == set(compare.METRICS)
    for metric, values in mine["samples"].items():
        assert len(values) == len(other["samples"][metric]) == 2
        assert other["gemlet_over_it"][metric] == pytest.approx(mine["medians"][metric] / other["medians"][metric])
    assert done.stderr.count("round 1 of 2") == 2
    table = cli("bench", own, *tests, "--compare", "llama.cpp", "--other-bin", tools).stdout.splitlines()
    assert len(table) == 4 and "(1.00 x)" in table[2] and "llama.cpp, own.gguf" in table[3]


def test_litert_lm(tmp_path: Path) -> None:
    runtime = compare.LiteRtLm(program(tmp_path, "litert-lm", LITERT_LM) / "litert-lm")
    speeds, peak = runtime.speeds(tmp_path / "x.litertlm", 512, 64, 0, 2)
    assert speeds == [200.5, 40.25]
    assert 0 < peak < peak_memory() / 1e9 + 0.1
    assert runtime.speeds(tmp_path / "x.litertlm", 0, 64, 4096, 2) == ([], 0.0)
    assert runtime.first_token(tmp_path / "x.litertlm", 2) > 0


def test_what_cannot_be_compared(tiny_gguf: Path, tmp_path: Path) -> None:
    with pytest.raises(gemlet.ArgumentError, match=r"llama\.cpp, litert-lm or exported, found ollama"):
        compare.contenders(tiny_gguf, "ollama", [], None)
    with pytest.raises(gemlet.ArgumentError, match="--other-file"):
        compare.contenders(tiny_gguf, "litert-lm", [], None)
    with pytest.raises(gemlet.FileError, match="none/llama-bench"):
        compare.LlamaCpp(tmp_path / "none" / "llama-bench").first_token(tiny_gguf, 1)
    failing = program(tmp_path, "litert-lm", "#!/bin/sh\necho it broke\nexit 3\n") / "litert-lm"
    with pytest.raises(compare.RuntimeFailedError, match=r"exit code 3\nit broke"):
        compare.LiteRtLm(failing).first_token(tiny_gguf, 1)
    program(tmp_path, "litert-lm", "#!/bin/sh\necho nothing\n")
    with pytest.raises(compare.RuntimeFailedError, match="expected two speeds"):
        compare.LiteRtLm(failing).speeds(tiny_gguf, 1, 1, 0, 1)


def test_plot(tiny_gguf: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    mine, other = compare.contenders(tiny_gguf, "llama.cpp", [], None)
    for contender in (mine, other):
        contender.samples["prefill"] = [1.0, 3.0, 2.0]
    for ending, begin in ((".png", b"\x89PNG"), (".PDF", b"%PDF"), (".svg", b"<?xml")):
        compare.plot([mine, other], "two bars", tmp_path / f"out{ending}")
        assert (tmp_path / f"out{ending}").read_bytes().startswith(begin)
