"""Writing files and folders: whole or not at all, and never over what is not one's own."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from gemlet import files
from gemlet.errors import ArgumentError, FileError

from conftest import cli_environment


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def child(code: str, *arguments: object, **settings: object) -> "subprocess.Popen[str]":
    """A Python program with this code."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, text=True, env=cli_environment(), **(streams | settings))  # type: ignore[call-overload, no-any-return]


def expect(process: "subprocess.Popen[str]", line: str) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == f"{line}\n", process.communicate()[1]


# --- files ---


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "a"
    target.write_text("old")
    target.chmod(0o600)
    with pytest.raises(RuntimeError), files.replacing(target) as file:
        file.write(b"half")
        raise RuntimeError
    assert target.read_text() == "old" and names(tmp_path) == ["a"]
    with files.replacing(target) as file:
        file.write(b"new")
        [room] = [path for path in tmp_path.iterdir() if path != target]
        assert room.stat().st_mode & 0o777 == 0o700
    assert target.read_text() == "new" and names(tmp_path) == ["a"]
    assert target.stat().st_mode & 0o777 == 0o600, "a private file stays private"
    mask = os.umask(0o027)
    try:
        with files.replacing(tmp_path / "b") as file:
            file.write(b"b")
    finally:
        os.umask(mask)
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o640


def test_what_comes_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    with pytest.raises(FileError, match="is a symbolic link"), files.replacing(tmp_path / "a") as file:
        file.write(b"x")
        (tmp_path / "a").symlink_to(precious)
    assert precious.read_text() == "mine" and names(tmp_path) == ["a", "precious"]


@pytest.mark.parametrize("name", ["a\0b", "a\ud800b", ""])
def test_what_no_file_can_be_called(name: str) -> None:
    with pytest.raises(ArgumentError, match="expected the name of a file"):
        files.to_path(name)


def test_a_disk_that_fails_is_explained(tmp_path: Path) -> None:
    for number in (errno.ENOSPC, errno.EIO):
        message = f"a: {os.strerror(number)}; nothing was kept"
        with pytest.raises(FileError, match=message), files.replacing(tmp_path / "a") as file:
            file.write(b"half")
            raise OSError(number, os.strerror(number))
    with pytest.raises(BrokenPipeError), files.replacing(tmp_path / "a"):  # not the disk's
        raise BrokenPipeError
    assert names(tmp_path) == []
    with pytest.raises(FileError, match="there is no directory"), files.replacing(tmp_path / "none" / "a"):
        pass


def test_a_file_that_is_mounted_by_itself_is_refused_at_once(tmp_path: Path) -> None:
    """As containers mount single files. Nothing can take its place."""
    namespace = ["unshare", "--map-root-user", "--mount"]
    if subprocess.run([*namespace, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("this system lets nobody mount")
    target = tmp_path / "model.gguf"
    target.write_text("old")
    code = "import sys; from pathlib import Path; from gemlet import files; files.check_target(Path(sys.argv[1]))"
    script = 'mount --bind "$1" "$1" && exec "$2" -c "$3" "$1"'
    command = [*namespace, "sh", "-c", script, "sh", str(target), sys.executable, code]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=cli_environment())
    assert "model.gguf: is a mount point, which cannot be replaced" in done.stderr
    files.check_target(target)


# --- folders ---


def listed(folder: Path) -> set[str]:
    """What an earlier export wrote, as the test's own list says."""
    marker = folder / "list"
    return {"list", *marker.read_text().split()} if marker.exists() else set()


def export(target: Path, text: str, source: Path = Path("/none"), meanwhile: Callable[[], object] = int) -> None:
    with files.replacing_folder(target, listed, source) as folder:
        (folder / "model").write_text(text)
        (folder / "list").write_text("model")
        meanwhile()


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(out, "one")
    with (out / "model").open() as kept:
        export(out, "two")
        assert kept.read() == "one", "what is in use stays readable"
    assert (out / "model").read_text() == "two" and names(tmp_path) == ["out"]
    assert out.stat().st_mode & 0o777 == 0o777 & ~files_umask()
    with pytest.raises(KeyboardInterrupt), files.replacing_folder(out, listed, Path("/none")):
        raise KeyboardInterrupt
    assert (out / "model").read_text() == "two" and names(tmp_path) == ["out"]


def files_umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def put_file(out: Path) -> None:
    (out / "notes.txt").write_text("mine")


def put_folder_with_a_name_of_ours(out: Path) -> None:
    (out / "model").unlink()
    (out / "model").mkdir()
    (out / "model" / "notes.txt").write_text("mine")


@pytest.mark.parametrize("put", [put_file, put_folder_with_a_name_of_ours])
@pytest.mark.parametrize("moment", ["before", "meanwhile"])
def test_what_is_anothers_is_kept(tmp_path: Path, put: Callable[[Path], None], moment: str) -> None:
    out = tmp_path / "out"
    export(out, "one")
    if moment == "before":
        put(out)
    with pytest.raises(FileError, match=r"out: holds (notes\.txt|model), which no earlier export wrote so"):
        export(out, "two", meanwhile=(lambda: put(out)) if moment == "meanwhile" else int)
    assert [path.read_text() for path in out.rglob("notes.txt")] == ["mine"] and names(tmp_path) == ["out"]


def test_what_comes_at_the_last_moment_is_kept_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody whose working directory it is writes into the folder that has been moved away already."""
    out = tmp_path / "out"
    export(out, "one")
    handle = os.open(out, os.O_RDONLY)
    rename = Path.rename

    def late(self: Path, target: Path) -> Path:
        if target == out:
            os.close(os.open("notes.txt", os.O_WRONLY | os.O_CREAT, dir_fd=handle))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", late)
    export(out, "two")
    os.close(handle)
    assert names(out) == ["list", "model"]
    [kept] = [path for path in tmp_path.iterdir() if path != out]
    assert kept.name.startswith("out.") and names(kept) == ["notes.txt"]


def test_a_source_is_not_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(out, "one")
    (tmp_path / "link").symlink_to(out / "model")
    for source in (out, out / "model", tmp_path / "link"):
        with pytest.raises(FileError, match=r"would replace .*, which is to be exported"):
            export(out, "two", source)
    assert (out / "model").read_text() == "one"


def test_places_where_no_folder_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path / "real")
    (tmp_path / "real" / "letter").write_text("mine")
    for place, message in (
        (tmp_path / "file", "is a file, expected a folder"),
        (tmp_path / "link", "is a symbolic link to real; name that folder itself"),
        (tmp_path / "none" / "out", "there is no directory"),
        (Path(), "real: holds letter"),
        (Path(".."), "holds file, link, real"),
        (Path("/"), "is a mount point, which cannot be replaced; name a folder inside it"),
    ):
        with pytest.raises(FileError, match=message):
            export(place, "one")
    assert names(tmp_path) == ["file", "link", "real"] and names(tmp_path / "real") == ["letter"]


def test_a_failed_swap_brings_the_old_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    export(out, "one")
    rename = Path.rename

    def stop(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", stop)
    with pytest.raises(KeyboardInterrupt):
        export(out, "two")
    assert (out / "model").read_text() == "one" and names(tmp_path) == ["out"]


# --- locks ---


def test_a_lock_follows_nothing_and_deletes_nothing(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (tmp_path / "link").symlink_to(precious)
    (tmp_path / "loose").symlink_to(tmp_path / "made")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    before = names(tmp_path)
    for name in ("link", "loose", "fifo", "folder", "precious"):
        with pytest.raises(FileError, match=f"{name}: cannot be locked"), files.locked(tmp_path / name):
            pass
    assert precious.read_text() == "mine" and names(tmp_path) == before


def test_a_lock_is_held_by_one_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with files.locked(path):
        with pytest.raises(FileError, match="somebody writes"), files.locked(path, "somebody writes"):
            pass
        code = "import sys; from pathlib import Path; from gemlet import files\nprint('waits', flush=True)\n"
        waiter = child(code + "with files.locked(Path(sys.argv[1])): print('has it', flush=True)", path)
        expect(waiter, "waits")
        assert path.exists()
    expect(waiter, "has it")
    waiter.communicate(timeout=60)
    assert names(tmp_path) == []


# --- what is unfinished ---

HALF = """
    import os, signal, sys
    from pathlib import Path
    from gemlet import files
    from gemlet.cli import process
    process.end_by_exception()
    with files.locked(Path(sys.argv[1] + ".lock")), files.replacing(Path(sys.argv[1])) as file:
        file.write(b"half")
        print("half", flush=True)
        while True:
            signal.pause()
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_leaves_nothing(tmp_path: Path, number: signal.Signals, code: int) -> None:
    (tmp_path / "a").write_text("old")
    process = child(HALF, tmp_path / "a")
    expect(process, "half")
    assert len(names(tmp_path)) == 3
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == code
    assert names(tmp_path) == ["a"] and (tmp_path / "a").read_text() == "old"


def test_a_second_signal_leaves_nothing(tmp_path: Path) -> None:
    """It comes while the first one's cleaning is under way."""
    slow = """
        import shutil
        remove = shutil.rmtree
        def rmtree(*a, **k):
            shutil.rmtree = remove
            print("cleaning", flush=True)
            signal.pause()
        shutil.rmtree = rmtree
    """
    code = textwrap.dedent(HALF).replace("process.end", textwrap.dedent(slow) + "process.end", 1)
    process = child(code, tmp_path / "a")
    expect(process, "half")
    process.send_signal(signal.SIGTERM)
    expect(process, "cleaning")
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=60)
    assert names(tmp_path) == []


def test_a_signal_that_is_ignored_stays_so() -> None:
    code = "import signal; from gemlet.cli import process; process.end_by_exception(); print(signal.getsignal(1).name)"
    ignoring = child(code, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    assert "SIG_IGN" in ignoring.communicate(timeout=60)[0]


def test_a_child_leaves_its_parents_files(tmp_path: Path) -> None:
    code = """
        import os, sys
        from pathlib import Path
        from gemlet import files
        path = Path(sys.argv[1])
        with files.locked(path.with_name("lock")), files.replacing(path) as file:
            file.write(b"whole")
            file.flush()
            if os.fork() == 0:
                sys.exit(0)
            os.wait()
            assert path.with_name("lock").exists()
    """
    process = child(code, tmp_path / "a")
    process.communicate(timeout=60)
    assert process.returncode == 0 and (tmp_path / "a").read_text() == "whole"


def test_an_old_folder_is_not_lost_where_its_place_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody makes a folder of that name between the two renames."""
    target, rename = tmp_path / "out", Path.rename

    def rename_and_fill(self: Path, goal: Path) -> Path:
        done = rename(self, goal)
        if self == target:
            (target / "somebody").mkdir(parents=True)
        return done

    with files.replacing_folder(target, lambda _: (), tmp_path / "none") as new:
        (new / "old").write_text("old")
    monkeypatch.setattr(Path, "rename", rename_and_fill)
    with (
        pytest.raises(OSError, match="not empty"),
        files.replacing_folder(target, lambda _: ["old"], tmp_path / "none") as new,
    ):
        (new / "new").write_text("new")
    [kept] = tmp_path.glob("out.*.kept")
    assert (kept / "old").read_text() == "old" and (target / "somebody").is_dir()


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    process = child(HALF, tmp_path / "a")
    expect(process, "half")
    process.kill()
    process.communicate(timeout=60)
    [left] = [path for path in tmp_path.iterdir() if path.suffix == ".tmp"]
    others = tmp_path / ".gemlet-0123abcd-0123456789abcdef.tmp"
    shutil.copytree(left, others)
    (tmp_path / ".gemlet-mine.tmp").symlink_to(tmp_path)
    old = time.time() - 2 * files._ABANDONED_SECONDS
    with files.scratch(tmp_path / "b") as in_use:
        assert not left.exists()
        assert others.exists()  # another machine's, whose locks are not seen here
        for folder in (in_use, others):
            os.utime(folder, (old, old))
        files.remove_abandoned(tmp_path)
        assert in_use.is_dir() and not others.exists()
        assert (tmp_path / ".gemlet-mine.tmp").is_symlink()


def test_machines_that_have_no_name_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_kernel", str)
    left = tmp_path / ".gemlet-0123456789abcdef.tmp"
    left.mkdir()
    with files.scratch(tmp_path / "b") as in_use:
        assert len(in_use.name) == len(left.name) and left.exists()


def test_what_nfs_keeps_of_a_file_in_use_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS renames a file that is open elsewhere instead of removing it."""
    out, unlink = tmp_path / "out", Path.unlink

    def rename_instead(self: Path, missing_ok: bool = False) -> None:
        if self.name == "model":
            self.rename(self.with_name(".nfs0000000000000001"))
        else:
            unlink(self, missing_ok)

    export(out, "one")
    monkeypatch.setattr(Path, "unlink", rename_instead)
    export(out, "two")
    assert (out / "model").read_text() == "two" and names(tmp_path) == ["out"]


# --- reading ---


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    """And none of these waits, or ends never."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "text").write_text("12345")
    (tmp_path / "link").symlink_to("text")
    assert files.read_file(tmp_path / "link", 5) == b"12345"
    for path, message in (
        (tmp_path / "fifo", "expected a regular file"),
        (Path("/dev/zero"), "expected a regular file"),
        (tmp_path, "Is a directory"),
        (tmp_path / "none", "No such file"),
    ):
        with pytest.raises(FileError, match=message):
            files.read_file(path, 100)
    with pytest.raises(FileError, match="text: is larger than 4 bytes"):
        files.read_file(tmp_path / "text", 4)
