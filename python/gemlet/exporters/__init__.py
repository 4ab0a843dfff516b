"""From a checkpoint or a GGUF file to files that other runtimes run, each checked by running it."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gemlet._core import usable_cores
from gemlet.conversion import convert
from gemlet.errors import ArgumentError
from gemlet.exported import manifest
from gemlet.exported.manifest import TOKENIZER, Manifest
from gemlet.files import check_space, check_target, place, replacing_folder, scratch, to_path
from gemlet.hub.names import find_model
from gemlet.memory import peak_memory
from gemlet.model import Model

from . import architectures, litertlm, litertlm_check, media, onnx, tflite
from .check import Comparison, Reference, begin_core, begin_exported, length, load_core, require
from .companions import add_companions
from .encoders.source import EncoderSource
from .errors import ExportError
from .media import EncoderComparison
from .onnx.file import OnnxFile
from .progress import Progress
from .quants import QUANTS, Quant, find_quant, positive_scales
from .requantise import matches, requantise
from .source import Source
from .tflite import bundle
from .tflite.file import TfliteFile

__all__ = ["FORMATS", "QUANTS", "RUNTIMES", "Export", "ExportError", "export"]

FORMATS: Final = ("onnx", "tflite", "litertlm")
RUNTIMES: Final = ("litert", "tflite-runtime")

REPORT: Final = "report.json"

_BUNDLE_ENDING: Final = ".litertlm"

_DEFAULT_CONTEXT: Final = {"onnx": 8192, "tflite": 1024}
_ELSEWHERE: Final = {"tensors", "chat_template", "fingerprint"}
"""Fields of a model's description that its metadata leaves out, or has under another key."""


@dataclass(frozen=True)
class Export:
    """Result of an export: the files and how they compare with the core."""

    path: Path
    format: str
    quant: str
    runtime: str
    """Name and version of the runtime that the check ran in."""
    files: dict[str, int]
    """Sizes of the files in bytes."""
    same_weights: Comparison
    """Compared with the core on exactly the weights that the file holds: the check that has to pass."""
    rounding: Comparison
    """The core compared with itself, its KV cache in half precision: how much small differences grow in this model."""
    source: Comparison | None
    """Compared with the core on the given file, if its weights are stored otherwise: the cost of the quantisation."""
    media: dict[str, EncoderComparison]
    """The encoders beside the core's on the same weights, by what they encode; empty for a text model."""
    media_source: dict[str, EncoderComparison] | None
    """The same on the given file, if its weights are stored otherwise."""
    seconds: dict[str, float]
    """prepare, write, check."""
    peak_memory: dict[str, int]
    """Resident bytes of the process at the end of each step, pages of mapped files included: the check maps the source
    and the result."""

    @property
    def bytes(self) -> int:
        return sum(self.files.values())


def export(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    format: str,
    quant: str = "int4",
    progress: Callable[[int, int], None] | None = None,
    *,
    context: int | None = None,
    prefill: Sequence[int] = (32, 256),
    threads: int | None = None,
    runtime: str = "litert",
    media: str | os.PathLike[str] | None = None,
) -> Export:
    """Writes the folder `out`, which other runtimes and `gemlet.load` run, and checks it by running it.

    Args:
        source: a GGUF file, a model's name, or the folder of a Hugging Face checkpoint.
        out: a new or empty folder, or one that holds an earlier export and nothing else; for a bundle, a file. It
            appears whole, once its check has passed, or not at all; what an earlier export left stays until then.
        format: "onnx", "tflite", or "litertlm": one file for LiteRT-LM, which is run in it too if it is installed.
        quant: "int4", "int8", "fp16" or "fp32". Weights that the source stores in the same type keep their codes.
        progress: called with the bytes written so far, and in all.
        context: most tokens of a timeline; by default the smaller of 8192 (TFLite: 1024) and what the model was
            trained for. TFLite reserves room for all of them.
        prefill: lengths of the TFLite file's prompt signatures.
        threads: of the quantiser and of the check.
        runtime: of TFLite files: "litert" for ai-edge-litert; "tflite-runtime" for the last release of that (2.14,
            2023), which runs fp32 only, and files of at most 2 GB.
        media: the encoders of pictures and sound to export too: an mmproj file, or the folder of a multimodal
            checkpoint. A GGUF file that holds its encoders needs no other.

    Raises:
        ExportError: a setting that cannot be, or a file that does not pass its check.
        ConvertError: a checkpoint that does not fit its configuration; lists every tensor at fault.
        FileError: the place is taken, the disk is full, or the source is not there.
        FormatError, UnsupportedError: a source that the core does not load, or a runtime that is missing.
    """
    if format not in FORMATS:
        raise ArgumentError(f"format is {format!r}, expected one of {', '.join(FORMATS)}")
    if runtime not in RUNTIMES:
        raise ArgumentError(f"runtime is {runtime!r}, expected one of {', '.join(RUNTIMES)}")
    if runtime != "litert" and format != "tflite":
        raise ArgumentError(f"runtime is {runtime!r}, which runs the format tflite, found {format}")
    if runtime != "litert" and media is not None:
        raise ArgumentError(f"runtime is {runtime!r}, which runs no encoders, found media {os.fspath(media)}")
    origin = find_model(source)
    task = _Task(
        origin,
        _media_of(origin, media, runtime),
        to_path(out),
        format,
        find_quant(quant),
        context,
        prefill,
        threads,
        runtime,
        Progress(progress),
    )
    manifest.require_runtime("tflite" if format == "litertlm" else format)
    if runtime == "tflite-runtime":
        tflite.require_old_runtime(quant)
    if format == "litertlm":
        return _bundle(task)
    with replacing_folder(task.target, _written, task.origin) as folder, scratch(task.target) as work:
        done, _ = _write(task, folder, work)
        _write_report(done, folder / REPORT)
    return done


def _written(folder: Path) -> set[str]:
    """The files that an earlier export wrote into a folder and nobody has changed; none if it holds no export."""
    files = manifest.unchanged_files(folder)
    return {*files, manifest.NAME, REPORT} if files else set()


@dataclass(frozen=True)
class _Task:
    """Arguments of one export."""

    origin: Path
    media: Path | None
    """The file or checkpoint with the encoders, if they are exported."""
    target: Path
    """The final path, which errors name. The files are made in a temporary place."""
    format: str
    quant: Quant
    context: int | None
    prefill: Sequence[int]
    threads: int | None
    runtime: str
    steps: Progress


@dataclass(frozen=True)
class _Parts:
    """What an export was made of."""

    weights: Source
    encoders: _Encoders | None
    room: int
    """The tokens that the KV cache holds."""
    prefill: tuple[int, ...]


def _write(task: _Task, folder: Path, work: Path, *, room_for_padding: bool = False) -> tuple[Export, _Parts]:
    """Fills the empty folder and checks it. `room_for_padding`: a prompt that ends with the context may be padded to
    the length of a TFLite signature."""
    format, quant, steps, target = task.format, task.quant, task.steps, task.target
    seconds: dict[str, float] = {}
    peak: dict[str, int] = {}
    with _measured(seconds, peak, "prepare"):
        given = _as_gguf(task.origin, quant, format, work, steps, task.threads)
        architecture = architectures.by_name(given.architecture)
        weights = _with_types(given, quant, format, work, steps)
        encoders = _prepare_encoders(task, weights, work)
    held = room = _context(task.context, weights.config.max_position_embeddings, format)
    core = load_core(weights.path, _check_context(held, weights), task.threads)
    lengths = _lengths(task.prefill, held)
    with _measured(seconds, peak, "write"):
        if format == "onnx":
            file: OnnxFile | TfliteFile = onnx.build(weights, embedder=encoders is not None)
        else:
            room = held + (lengths[0] - 1 if room_for_padding else 0)
            file = tflite.build(weights, room, lengths, embedder=encoders is not None)
        if task.runtime == "tflite-runtime":
            tflite.require_old_runtime(quant.name, file.weight_bytes)
        encoder_files = [] if encoders is None else media.build(encoders.used, format)
        total = sum(each.weight_bytes for each in (file, *encoder_files))
        check_space(folder, total, target)
        steps.expect(total)
        file.write(folder, _metadata(core, quant), steps)
        for encoder_file in encoder_files:
            encoder_file.write(folder, {"gemlet.quant": quant.name}, steps)
        add_companions(folder, task.origin, weights, architecture, core.info)
    of_encoders = {} if encoders is None else media.describe(encoders.used)
    described = Manifest.of_folder(folder, format, quant.name, held, core.info, of_encoders)
    with _measured(seconds, peak, "check"):
        runner = described.open(folder, held, core.info.threads)
        exported = begin_exported(runner)
        reference = Reference(core, core.context, media=encoders is not None)
        same = reference.compare(exported)
        rounding = reference.compare(begin_core(load_core(weights.path, core.context, task.threads, exact_cache=False)))
        require(same, rounding, format, quant.name, str(target))
        other = None
        if given.path != weights.path:
            given_core = load_core(given.path, core.context, task.threads)
            other = Reference(given_core, core.context, media=encoders is not None).compare(exported)
        seen = _check_encoders(task, encoders, described, folder)
    described.write(folder)
    done = Export(
        target, format, quant.name, runner.runtime, described.files, same, rounding, other, *seen, seconds, peak
    )
    return done, _Parts(weights, encoders, room, lengths)


@dataclass(frozen=True)
class _Encoders:
    """The encoders of an export."""

    given: EncoderSource
    used: EncoderSource
    """With their weights in the types of the export."""


def _media_of(origin: Path, given: str | os.PathLike[str] | None, runtime: str) -> Path | None:
    """Where the encoders are: in the file that was named, or in the model's own."""
    if given is not None:
        return find_model(given)
    is_whole = runtime == "litert" and origin.is_file() and media.holds_encoders(origin)
    return origin if is_whole else None


def _prepare_encoders(task: _Task, weights: Source, work: Path) -> _Encoders | None:
    if task.media is None:
        return None
    found = media.prepare(task.media, task.quant, task.format, work, task.steps, task.threads)
    encoders = _Encoders(*found)
    if encoders.used.hidden_size != weights.config.hidden_size:
        raise ExportError(
            f"{task.media}: its soft tokens have {encoders.used.hidden_size} values, expected "
            f"{weights.config.hidden_size}, the hidden size of {task.origin}"
        )
    return encoders


def _check_encoders(
    task: _Task, encoders: _Encoders | None, described: Manifest, folder: Path
) -> tuple[dict[str, EncoderComparison], dict[str, EncoderComparison] | None]:
    """The encoders beside the core's on the same weights, and on those that were given if they are others."""
    if encoders is None:
        return {}, None
    threads = task.threads or usable_cores()
    exported = described.open_encoders(folder, threads)
    same = media.compare(encoders.used, exported, threads)
    media.require(same, task.format, task.quant.name, str(task.target))
    given = encoders.given
    return same, None if given is encoders.used else media.compare(given, exported, threads)


def _bundle(task: _Task) -> Export:
    """A TFLite export in one file with its tokenizer. LiteRT-LM has to answer as LiteRT does."""
    target = task.target
    described = target.with_name(f"{target.name}.{REPORT}")
    sources = _files_of(task.origin)
    for path in (target, described):
        check_target(path, sources)
    if target.suffix != _BUNDLE_ENDING:
        raise ArgumentError(
            f"{target}: expected a name that ends in {_BUNDLE_ENDING}, by which LiteRT-LM knows its files"
        )
    with scratch(target) as work:
        folder = work / "model"
        folder.mkdir()
        # LiteRT-LM refuses a prompt whose padding does not fit, although it is overwritten later.
        task = dataclasses.replace(task, format="tflite")
        done, parts = _write(task, folder, work, room_for_padding=True)
        path = work / f"model{_BUNDLE_ENDING}"
        with _measured(done.seconds, done.peak_memory, "bundle"):
            check_space(work, done.bytes, target)
            litertlm.write(folder, path, target, _sections(task, parts, work / "sections"))
        runtime = f"{done.runtime}; not in LiteRT-LM, which is not installed: pip install 'gemlet[litertlm]'"
        with _measured(done.seconds, done.peak_memory, "LiteRT-LM"):
            count = task.threads or usable_cores()
            exported = Manifest.read(folder)
            asked = litertlm_check.questions_for(exported)
            answers = litertlm_check.answers_in_litert_lm(path, asked, work, exported.context, count, target)
            if answers is not None:
                litertlm_check.compare(target, asked, answers, litertlm_check.answers_in_litert(folder, asked, count))
                runtime = f"{done.runtime}, litert-lm {importlib.metadata.version('litert-lm')}"
        whole = dataclasses.replace(done, format="litertlm", runtime=runtime, files={target.name: path.stat().st_size})
        report = work / described.name
        _write_report(whole, report)
        place(path, target, sources)
        place(report, described, sources)
    return whole


def _sections(task: _Task, parts: _Parts, folder: Path) -> dict[str, Path] | None:
    """Writes the models that a bundle holds where it sees or hears; None for a text model, which the folder has."""
    if parts.encoders is None:
        return None
    folder.mkdir()
    used = parts.encoders.used
    files = bundle.build_text(parts.weights, parts.room, parts.prefill) | bundle.build_encoders(
        used, media.describe(used)
    )
    check_space(folder, sum(file.weight_bytes for file in files.values()), task.target)
    return bundle.write(files, folder, task.steps)


def _files_of(origin: Path) -> list[Path]:
    """The files of a checkpoint, or all parts of a GGUF file."""
    if origin.is_dir():
        return list(origin.iterdir())
    return sorted({Path(stored["file"]) for stored in Source(origin).tensors.values()})


def _write_report(done: Export, path: Path) -> None:
    report = {**dataclasses.asdict(done), "path": done.path.name}
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _lengths(prefill: Sequence[int], context: int) -> tuple[int, ...]:
    """Lengths of the prompt signatures, none longer than the context."""
    if any(length < 1 for length in prefill):
        raise ArgumentError(f"prefill: expected lengths of 1 or more, found {list(prefill)}")
    return tuple(sorted({min(length, context) for length in prefill}))


def _as_gguf(origin: Path, quant: Quant, format: str, work: Path, steps: Progress, threads: int | None) -> Source:
    """The file that was given, or what the converter makes of a checkpoint."""
    if not origin.is_dir():
        return Source(origin)
    before = 0

    def advance(done: int, total: int) -> None:
        nonlocal before
        if before == 0:
            steps.expect(total)
        steps.add(done - before)
        before = done

    path = work / "weights.gguf"
    if positive_scales(quant, format):  # quantised once, by _with_types
        convert(origin, path, "bf16", advance, threads=threads)
    else:
        convert(origin, path, quant.recipe_name, advance, head=quant.head, threads=threads)
    return Source(path)


def _with_types(given: Source, quant: Quant, format: str, work: Path, steps: Progress) -> Source:
    """The same model with its weights in the types of `quant`."""
    positive = positive_scales(quant, format)
    if matches(given, quant.recipe) and not positive:
        return given
    path = work / "requantised.gguf"
    requantise(given, quant.recipe, path, steps, positive=positive)
    return Source(path)


def _context(asked: int | None, trained: int, format: str) -> int:
    if asked is None:
        return min(_DEFAULT_CONTEXT[format], trained)
    if not 1 <= asked <= trained:
        raise ArgumentError(f"context: expected 1 to {trained} (what the model was trained for), found {asked}")
    return asked


def _check_context(held: int, weights: Source) -> int:
    return min(held, length(weights.config.window, weights.config.max_position_embeddings))


def _metadata(core: Model, quant: Quant) -> dict[str, str]:
    """Metadata for other programs, stored inside the model file."""
    config = {name: value for name, value in manifest.info_of(core.info).items() if name not in _ELSEWHERE}
    special = {"bos": core.bos, "ends": [token for token in range(core.info.vocabulary) if core.is_end(token)]}
    return {
        "gemlet.config": json.dumps(config),
        "gemlet.quant": quant.name,
        "gemlet.tokenizer": json.dumps({"file": TOKENIZER, "vocabulary": core.info.vocabulary, **special}),
        "gemlet.chat_template": core.info.chat_template,
    }


@contextlib.contextmanager
def _measured(seconds: dict[str, float], peak: dict[str, int], step: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[step] = round(time.perf_counter() - start, 2)
    peak[step] = peak_memory()
