"""`gemlet pull` and `hf:` names, with the hub's own client, against a server that has the network's faults."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from conftest import cli_environment
from hub_server import Hub, Repo, serving

REPO = "owner/tiny-GGUF"
FILE = "tiny-Q4_K_M.gguf"
DATA = random.Random(7).randbytes(3_000_000)
SUM = hashlib.sha256(DATA).hexdigest()
CUT = 1_200_000
NO_WAITS = "import gemlet.hub.fetch as f; f._WAITS = (0,) * 4; from gemlet.cli import main; main()"
NO_HOME = "import pwd; pwd.getpwuid = lambda uid: {}[uid]; from gemlet.cli import main; main()"
FULL_DISK = (
    "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000000, resource.RLIM_INFINITY));"
    "from gemlet.cli import main; main()"
)


@dataclass
class Place:
    """A user's machine: a hub, and a cache of its own."""

    hub: Hub
    home: Path

    @property
    def blobs(self) -> Path:
        return self.home / "hub" / f"models--{REPO.replace('/', '--')}" / "blobs"

    def environment(self, **more: str) -> dict[str, str]:
        return cli_environment() | {"HF_HOME": str(self.home), "HF_ENDPOINT": self.hub.endpoint} | more

    def start(self, *arguments: object, code: str | None = None, **more: str) -> subprocess.Popen[str]:
        how = ["-m", "gemlet"] if code is None else ["-c", code]
        environment = {name: value for name, value in self.environment(**more).items() if value != "unset"}
        return subprocess.Popen(
            [sys.executable, *how, *map(str, arguments)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def gemlet(self, *arguments: object, code: str | None = None, **more: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments, code=code, **more)
        out, err = process.communicate(timeout=120)
        assert "Traceback" not in err, err
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def pull(self, name: str = REPO, **more: str) -> dict[str, object]:
        done = self.gemlet("pull", name, "--json", **more)
        assert done.returncode == 0, done.stderr
        answer: dict[str, object] = json.loads(done.stdout)
        return answer

    def fail(self, *arguments: object, code: str | None = None, status: int = 1, **more: str) -> str:
        """The one line that a command which fails says."""
        done = self.gemlet(*arguments, code=code, **more)
        assert (done.returncode, done.stdout) == (status, ""), done
        assert done.stderr.startswith("gemlet: ") and done.stderr.count("\n") == 1, done.stderr
        return done.stderr.removeprefix("gemlet: ").rstrip("\n")

    def kept(self) -> list[str]:
        """The files that lie among the blobs."""
        return sorted(path.name for path in self.blobs.glob("*")) if self.blobs.exists() else []


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    with serving() as hub:
        hub.repos[REPO] = Repo(
            {FILE: DATA, "tiny-Q8_0.gguf": DATA[::-1], "mmproj-F16.gguf": b"eyes", "README.md": b"#"}
        )
        yield Place(hub, tmp_path / "hf")


def test_pull_puts_a_file_where_the_hubs_client_finds_it(place: Place) -> None:
    answer = place.pull()
    path = Path(str(answer["path"]))
    assert path.name == FILE and path.read_bytes() == DATA
    assert (answer["bytes"], answer["downloaded"], answer["current"]) == (len(DATA), len(DATA), True)
    assert place.kept() == [SUM]
    code = f"import huggingface_hub as h; print(h.hf_hub_download({REPO!r}, {FILE!r}))"
    environment = place.environment(HF_HUB_OFFLINE="1")
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == str(path)


def test_what_is_here_is_checked_and_not_downloaded_again(place: Place) -> None:
    place.pull()
    assert place.pull()["downloaded"] == 0 and len(place.hub.contents()) == 1
    blob = place.blobs / SUM
    blob.write_bytes(b"x" + DATA[1:])
    assert place.pull()["downloaded"] == len(DATA)
    assert blob.read_bytes() == DATA


def test_a_new_version_is_pulled(place: Place) -> None:
    place.pull()
    place.hub.repos[REPO] = Repo({FILE: DATA * 2}, commit="f" * 40)
    assert Path(str(place.pull()["path"])).read_bytes() == DATA * 2
    code = f"from gemlet.hub.names import find_model; print(find_model('{REPO}'))"
    assert "/ffffffffff" in place.gemlet(code=code).stdout


def test_commands_take_the_name_then_offline_and_without_the_client(
    place: Place, tiny_gguf: Path, tmp_path: Path
) -> None:
    place.hub.repos[REPO].files[FILE] = tiny_gguf.read_bytes()
    online = place.gemlet("inspect", f"hf:{REPO}:Q4_K_M", "--json")
    assert json.loads(online.stdout)["layers"] == 5, online.stderr
    asked = len(place.hub.requests)
    (tmp_path / "huggingface_hub.py").write_text("raise ModuleNotFoundError('no', name='huggingface_hub')\n")
    path = os.pathsep.join((str(tmp_path), place.environment()["PYTHONPATH"]))
    for name in (f"hf:{REPO}:q4_k_m", f"hf:{REPO}", REPO, f"{REPO}:Q4_K_M", f"{REPO}/{FILE}"):
        again = place.gemlet("run", name, "the cat", "--raw", "-n", 3, "--seed", 1, "--json", PYTHONPATH=path)
        assert len(json.loads(again.stdout)["tokens"]) == 3, again.stderr
    assert len(place.hub.requests) == asked


def test_without_the_client_the_extra_is_named(place: Place, tmp_path: Path) -> None:
    (tmp_path / "huggingface_hub.py").write_text("raise ModuleNotFoundError('no', name='huggingface_hub')\n")
    path = os.pathsep.join((str(tmp_path), place.environment()["PYTHONPATH"]))
    expected = "the Hugging Face hub needs huggingface_hub: pip install 'gemlet[hub]'"
    assert place.fail("pull", REPO, PYTHONPATH=path) == expected
    assert place.fail("run", f"hf:{REPO}", "x", PYTHONPATH=path) == expected


def test_a_cut_connection_is_taken_up_where_it_ended(place: Place) -> None:
    place.hub.cuts = [CUT, 100_000, 0]
    answer = place.pull()
    assert Path(str(answer["path"])).read_bytes() == DATA and answer["downloaded"] == len(DATA)
    ranges = [request.range for request in place.hub.contents()]
    assert ranges == [None, f"bytes={CUT}-", f"bytes={CUT + 100_000}-", f"bytes={CUT + 100_000}-"]


def test_an_interrupted_program_goes_on_where_it_ended(place: Place) -> None:
    place.hub.cuts = [CUT]
    place.hub.content_status = [500]
    assert "the hub answers with an error (500)" in place.fail("pull", REPO)
    assert place.kept() == [f"{SUM}.gemlet.incomplete"]
    assert "no such model" in place.fail("run", REPO, "x")
    answer = place.pull()
    assert answer["downloaded"] == len(DATA) - CUT
    assert Path(str(answer["path"])).read_bytes() == DATA
    assert place.hub.contents()[-1].range == f"bytes={CUT}-" and place.kept() == [SUM]


def test_a_server_without_ranges_sends_all_again(place: Place) -> None:
    place.hub.cuts = [CUT]
    place.hub.ignores_range = True
    answer = place.pull()
    assert Path(str(answer["path"])).read_bytes() == DATA and answer["downloaded"] == len(DATA) + CUT


def test_a_connection_that_brings_nothing_is_given_up(place: Place) -> None:
    place.hub.cuts = [0] * 20
    error = place.fail("pull", REPO, code=NO_WAITS)
    assert f"{place.hub.endpoint} cannot be reached" in error
    assert len(place.hub.contents()) == 5


@pytest.mark.parametrize("leftover", [b"", DATA[:CUT], b"z" * 5000, DATA + b"more"])
def test_what_an_interrupted_program_left_is_trusted_only_with_its_sum(place: Place, leftover: bytes) -> None:
    place.blobs.mkdir(parents=True)
    (place.blobs / f"{SUM}.gemlet.incomplete").write_bytes(leftover)
    if leftover.startswith(b"z"):
        assert "damaged and was removed" in place.fail("pull", REPO)
        assert place.kept() == []
    assert Path(str(place.pull()["path"])).read_bytes() == DATA


@pytest.mark.parametrize("link", ["incomplete", "lock"])
def test_no_link_is_followed_in_the_cache(place: Place, tmp_path: Path, link: str) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    place.blobs.mkdir(parents=True)
    name = f"{SUM}.gemlet.incomplete" if link == "incomplete" else f".{SUM}.lock"
    (place.blobs / name).symlink_to(precious)
    assert "symbolic link" in place.fail("pull", REPO)
    assert precious.read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: b"x" + data[1:], f"damaged and was removed: expected the sum {SUM}, found "),
        (lambda data: data + b"x", f"expected {len(DATA)} bytes, and the hub sends more"),
    ],
)
def test_wrong_contents_are_refused(place: Place, change: object, message: str) -> None:
    place.hub.change = change  # type: ignore[assignment]
    assert message in place.fail("pull", REPO)
    assert place.kept() == []
    assert "damaged" in (error := place.fail("run", f"hf:{REPO}", "x")) or "sends more" in error


def test_a_small_file_is_checked_by_its_sum_in_git(place: Place) -> None:
    place.hub.repos[REPO] = Repo({FILE: b"GGUF small"}, small={FILE})
    assert Path(str(place.pull()["path"])).read_bytes() == b"GGUF small"
    place.hub.repos[REPO] = Repo({FILE: b"GGUF other"}, small={FILE}, commit="e" * 40)
    place.hub.change = lambda data: data.upper()
    assert "damaged and was removed" in place.fail("pull", REPO)


def test_a_gated_repository_is_explained(place: Place) -> None:
    place.hub.repos[REPO].gated = True
    page = f"{place.hub.endpoint}/{REPO}"
    assert place.fail("pull", REPO) == (
        f"{REPO}: is gated: accept its terms at {page}, then log in with 'hf auth login', or set HF_TOKEN"
    )
    error = place.fail("pull", REPO, HF_TOKEN="other")
    assert f"the account of your token may not read it: accept its terms at {page}" in error
    place.pull(HF_TOKEN="granted")
    error = place.fail("pull", REPO, HF_TOKEN="invalid")
    assert "the hub refuses the token (401)" in error and page in error


def test_the_token_goes_to_the_hub_only(place: Place) -> None:
    place.pull(HF_TOKEN="granted")
    assert {request.token for request in place.hub.listings()} == {"granted"}
    [contents] = place.hub.contents()
    assert contents.host.startswith("localhost") and contents.token is None


def test_a_repository_that_is_not_there(place: Place) -> None:
    error = place.fail("pull", "owner/nothing")
    assert error == (
        f"owner/nothing: no such repository at {place.hub.endpoint}, or it is private: log in with 'hf auth login', "
        "or set HF_TOKEN"
    )


@pytest.mark.parametrize(
    ("name", "message", "status"),
    [
        (f"{REPO}:Q5_K_M", f"{REPO}: has no Q5_K_M; there are Q4_K_M, Q8_0", 2),
        (f"{REPO}/other.gguf", f"{REPO}: has no text model other.gguf; there are Q4_K_M, Q8_0", 2),
        (f"{REPO}/mmproj-F16.gguf", f"{REPO}: has no text model mmproj-F16.gguf; there are Q4_K_M, Q8_0", 2),
        ("no name", "'no name': expected OWNER/REPO, OWNER/REPO:QUANT or OWNER/REPO/FILE.gguf", 2),
        ("../../etc", "'../../etc': expected OWNER/REPO, OWNER/REPO:QUANT or OWNER/REPO/FILE.gguf", 2),
    ],
)
def test_wrong_names(place: Place, name: str, message: str, status: int) -> None:
    assert place.fail("pull", name, status=status) == message


def test_a_checkpoint_is_sent_to_the_converter(place: Place) -> None:
    place.hub.repos["owner/ck"] = Repo({"model.safetensors": b"x", "config.json": b"{}"})
    error = place.fail("pull", "owner/ck")
    assert "hf download owner/ck --local-dir ck" in error and "gemlet convert ck -o ck.gguf" in error
    place.hub.repos["owner/none"] = Repo({"mmproj-x.gguf": b"x"})
    assert place.fail("pull", "owner/none") == "owner/none: has no GGUF file of a text model"


def test_all_parts_of_a_split_model(place: Place) -> None:
    parts = {f"BF16/big-BF16-{i:05}-of-00003.gguf": DATA[i:] for i in (1, 2, 3)}
    place.hub.repos[REPO] = Repo(parts)
    answer = place.pull(f"{REPO}:bf16")
    path = Path(str(answer["path"]))
    assert path.name == "big-BF16-00001-of-00003.gguf" and answer["bytes"] == sum(map(len, parts.values()))
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == {
        name.removeprefix("BF16/"): data for name, data in parts.items()
    }
    offline = place.pull(f"{REPO}:bf16", HF_HUB_OFFLINE="1")
    assert (offline["path"], offline["bytes"]) == (answer["path"], answer["bytes"])
    del place.hub.repos[REPO].files["BF16/big-BF16-00002-of-00003.gguf"]
    assert "BF16/big-BF16-00002-of-00003.gguf is missing" in place.fail("pull", REPO)


def test_offline(place: Place) -> None:
    error = place.fail("pull", REPO, HF_HUB_OFFLINE="1")
    assert error == f"{REPO}: is not in the cache, and HF_HUB_OFFLINE forbids downloading it"
    assert place.hub.requests == []
    place.pull()
    done = place.gemlet("pull", REPO, "--json", HF_HUB_OFFLINE="1")
    assert json.loads(done.stdout)["current"] is False and "this one was pulled before" in done.stderr


def test_a_hub_that_does_not_answer(place: Place) -> None:
    place.pull()
    nobody = "http://127.0.0.1:9"
    assert f"{nobody} cannot be reached (ConnectError)" in place.fail("pull", f"{REPO}:Q8_0", HF_ENDPOINT=nobody)
    assert json.loads(place.gemlet("pull", REPO, "--json", HF_ENDPOINT=nobody).stdout)["current"] is False


def test_programs_that_pull_at_once_download_once(place: Place) -> None:
    """The contents are held back until both have asked what there is."""
    both = threading.Event()

    def note(answer: dict[str, object]) -> dict[str, object]:
        if len(place.hub.listings()) == 2:
            both.set()
        return answer

    place.hub.answer = note
    place.hub.before_contents = lambda: both.wait(60)
    processes = [place.start("pull", REPO, "--json") for _ in range(2)]
    answers = [json.loads(process.communicate(timeout=120)[0]) for process in processes]
    assert sorted(answer["downloaded"] for answer in answers) == [0, len(DATA)]
    assert len(place.hub.contents()) == 1 and place.kept() == [SUM]


def test_a_killed_pull_leaves_no_lock(place: Place) -> None:
    reached, killed = threading.Event(), threading.Event()

    def hold() -> None:
        reached.set()
        killed.wait(60)

    place.hub.before_contents = hold
    process = place.start("pull", REPO)
    assert reached.wait(60)
    process.kill()
    process.communicate()
    killed.set()
    assert place.pull()["bytes"] == len(DATA)


def test_a_user_without_a_home(place: Place) -> None:
    error = place.fail("pull", REPO, code=NO_HOME, HOME="unset", HF_HOME="unset", XDG_CACHE_HOME="unset")
    assert error == "no folder for the Hugging Face cache: this user has no home; set HF_HOME"
    error = place.fail("run", REPO, "x", code=NO_HOME, HOME="unset", HF_HOME="unset", XDG_CACHE_HOME="unset")
    assert "no such model" in error and "none: this user has no home" in error
    done = place.gemlet("pull", REPO, "--json", code=NO_HOME, HOME="unset", XDG_CACHE_HOME="unset")
    assert json.loads(done.stdout)["downloaded"] == len(DATA), done.stderr


def test_a_full_disk_leaves_nothing(place: Place) -> None:
    error = place.fail("pull", REPO, code=FULL_DISK)
    assert "File too large; nothing was kept" in error
    assert place.kept() == []


def test_names_that_lead_out_of_the_cache_are_left_out(place: Place) -> None:
    place.hub.repos[REPO] = Repo({"../../../evil-Q4_K_M.gguf": b"evil", "a\x1b[2J-Q4_0.gguf": b"evil", FILE: DATA})
    assert Path(str(place.pull()["path"])).name == FILE
    assert not list(place.home.rglob("*evil*"))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"<html>", "the hub's answer is not what its client expects"),
        (b"[]", "the hub's answer is not what its client expects"),
        ({"sha": "../../main"}, "commit: expected 40 hexadecimal digits, found '../../main'"),
        ({"siblings": [{"rfilename": FILE}]}, "expected a size and a sum from the hub"),
        (
            {"siblings": [{"rfilename": FILE, "lfs": {"sha256": "../x", "size": 1, "pointerSize": 1}}]},
            "expected a size and a sum from the hub",
        ),
    ],
)
def test_answers_that_a_hub_would_not_give(place: Place, answer: object, message: str) -> None:
    place.hub.answer = lambda real: answer if isinstance(answer, bytes) else real | answer  # type: ignore[operator]
    assert message in place.fail("pull", REPO)
