"""One way to write: gemlet.files, and in the core atomic_file.cpp. Whoever else makes, renames or deletes something is
listed here with what it is."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "python" / "gemlet"
CPP = ROOT / "cpp"

CALLS = frozenset(
    "write_text write_bytes touch unlink rename rmdir mkdir makedirs symlink_to hardlink_to link symlink remove rmtree "
    "mkstemp mkdtemp NamedTemporaryFile TemporaryDirectory copy copyfile copytree move truncate savez tofile".split()
)
ELSEWHERE = {
    # Files inside the folder that gemlet.files gave, and that it puts in its place.
    "conversion/writer.py": {"open"},
    "exported/manifest.py": {"write_text"},
    "exporters/__init__.py": {"mkdir", "write_text"},
    "exporters/companions.py": {"write_bytes"},
    "exporters/litertlm.py": {"open", "write_bytes"},
    "exporters/litertlm_check.py": {"write_bytes"},
    "exporters/onnx/file.py": {"open", "truncate", "write_bytes"},
    "exporters/requantise.py": {"open"},
    "exporters/tflite/file.py": {"open"},
    "exporters/tokenizer_json.py": {"write_text"},
    # Folders of caches, and what lies in them under gemlet's own names.
    "cache.py": {"mkdir"},
    "exported/weight_cache.py": {"unlink"},
    "hub/download.py": {"mkdir", "unlink"},
    "hub/fetch.py": {"truncate", "unlink"},
    "hub/hf_cache.py": {"mkdir"},
    "hub/installed.py": {"rmdir", "unlink"},
    "hub/package.py": {"mkdir", "unlink"},
    # The null device.
    "exported/tflite.py": {"open"},
}


def writes(source: str) -> set[str]:
    """The calls in a text that change what is on the disk."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        # dataclasses and texts have a `replace` too, but with two or no arguments.
        is_rename = name == "replace" and len(node.args) == 1 and not node.keywords
        is_copy = name in ("copy", "link", "remove", "move") and not (
            isinstance(function, ast.Attribute)
            and isinstance(function.value, ast.Name)
            and function.value.id in ("os", "shutil")
        )
        modes = [arg.value for arg in [*node.args, *(k.value for k in node.keywords)] if isinstance(arg, ast.Constant)]
        is_open = name == "open" and any(
            isinstance(mode, str) and re.fullmatch("[rwaxbt+]*[wax+][rwaxbt+]*", mode) for mode in modes
        )
        if is_rename or is_open or (name in CALLS and not is_copy):
            found.add(name)
    return found


def test_only_one_module_of_the_package_writes() -> None:
    found = {
        str(path.relative_to(PACKAGE)): writes(path.read_text(encoding="utf-8"))
        for path in sorted(PACKAGE.rglob("*.py"))
    }
    assert found.pop("files.py") >= {"open", "mkdir", "rename", "unlink", "rmtree"}
    assert {name: calls for name, calls in found.items() if calls} == ELSEWHERE


def test_a_write_is_found() -> None:
    assert writes("path.open('wb')") == writes("open(path, mode='a')") == writes("path.open('r+b')") == {"open"}
    assert writes("a.replace(b); shutil.copy(a, b); os.remove(a)") == {"replace", "copy", "remove"}
    assert writes("text.replace('a', 'b'); replace(x, y=1); path.open('rb'); value.copy(); items.remove(3)") == set()


def test_only_one_file_of_the_core_writes() -> None:
    pattern = re.compile(
        r"\bO_(?:WRONLY|RDWR|CREAT)\b|\bofstream\b|\bfopen\s*\(|(?:::|\b)(?:rename|unlink|remove_all|mkstemp|creat)\s*\("
        r"|filesystem::(?:remove|rename|copy|create_)"
    )
    found = {
        str(path.relative_to(CPP))
        for path in CPP.rglob("*")
        if path.suffix in {".c", ".h", ".cpp", ".hpp"} and pattern.search(path.read_text(encoding="utf-8"))
    }
    assert found == {"format/atomic_file.cpp"}
