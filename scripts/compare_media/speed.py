#!/usr/bin/env python3
"""Measures how fast pictures and sounds are encoded beside transformers (PyTorch, float32) and ONNX Runtime (int8), in
one run, with the same random weights of Gemma 3n's published sizes. Prints a table and writes
docs/results/media_speed.json.

    python scripts/compare_media/speed.py build/media-speed             # a quiet machine, 12 GB of disk, half an hour
    python scripts/compare_media/speed.py build/media-speed --quick     # a small picture and a short sound, one round

Needs the [live] extra, with timm and torchvision beside it. The files in the folder are made once. Each measurement has
a process of its own: a run to warm up, then the one that counts. The rivals take turns, and the medians of the rounds
are compared. Memory is what a process has at most beside the pages of its files; torch keeps its weights there.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "python"), str(Path(__file__).parent)]

INPUTS: Final = {
    False: (("picture", 256), ("picture", 512), ("picture", 768), ("sound", 30)),
    True: (("picture", 256), ("sound", 5)),
}
RIVALS: Final = ("transformers", "onnx int8", "gemlet f16", "gemlet q8_0")


def prepare(folder: Path, threads: int) -> None:
    """Writes the checkpoint, two files of encoders and the export, unless they are there."""
    import gemlet
    from quantised_towers import HIDDEN, TOWERS

    from tiny import Tiny, write_checkpoint

    if not (folder / "checkpoint" / "config.json").exists():
        towers = [TOWERS[name](True) for name in ("mobilenetv5", "usm")]
        weights = {f"model.{name}": value for tower in towers for name, value in tower.weights().items()}
        write_checkpoint(
            folder / "checkpoint", Tiny(hidden=HIDDEN, heads=4), prefix="model.language_model.", extra=weights
        )
        path = folder / "checkpoint" / "config.json"
        config = json.loads(path.read_text())
        for tower in towers:
            config |= {
                name: value for name, value in tower.config.items() if name.endswith(("vision_config", "audio_config"))
            }
        path.write_text(json.dumps(config))
    for quant in ("f16", "q8_0"):
        if not (folder / f"{quant}.gguf").exists():
            gemlet.convert(
                folder / "checkpoint", folder / f"{quant}.gguf", "q8_0", threads=threads, media=True, media_quant=quant
            )
    if not (folder / "onnx").exists():
        gemlet.export(folder / "q8_0.gguf", folder / "onnx", "onnx", "int8", threads=threads)


def encoder(rival: str, folder: Path, kind: str, amount: int, threads: int) -> Callable[[], object]:
    """What encodes the input once."""
    from media_inputs import picture, sound

    pixels = picture(amount, amount) if kind == "picture" else None
    samples = sound(16000 * amount) if kind == "sound" else np.zeros(0, np.float32)
    if rival == "transformers":
        return _torch_encoder(folder, pixels, samples, threads)
    import gemlet

    path = folder / ("onnx" if rival.startswith("onnx") else f"{rival.split()[1]}.gguf")
    encoders = gemlet.load(path, threads=threads)._media.encoders

    def encode() -> object:  # the last medium is let go before, so that it is encoded again
        begun = encoders.encode(pixels, amount) if pixels is not None else encoders.encode_sound(samples)
        return begun.finish().count

    return encode


def _torch_encoder(folder: Path, pixels: Any, samples: Any, threads: int) -> Callable[[], object]:
    from torchvision_operators import complete_torchvision

    complete_torchvision()
    import timm
    import torch
    from safetensors import safe_open
    from transformers import Gemma3nAudioConfig, Gemma3nAudioEncoder
    from transformers.models.gemma3n.feature_extraction_gemma3n import Gemma3nAudioFeatureExtractor

    torch.set_num_threads(threads)
    prefix = "model.vision_tower.timm_model." if pixels is not None else "model.audio_tower."
    tower: Any = (
        timm.create_model("mobilenetv5_300m_enc", num_classes=0)
        if pixels is not None
        else Gemma3nAudioEncoder(Gemma3nAudioConfig())
    )
    with safe_open(folder / "checkpoint" / "model.safetensors", "pt") as stored:
        names = [name for name in stored.keys() if name.startswith(prefix)]  # noqa: SIM118  it is no mapping
        tower.load_state_dict({name.removeprefix(prefix): stored.get_tensor(name) for name in names})
    tower.eval()

    def encode() -> object:
        with torch.no_grad():
            if pixels is not None:
                return tower.forward_features(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255)
            mel = Gemma3nAudioFeatureExtractor()([samples], return_tensors="pt")["input_features"]
            return tower(mel, torch.zeros(mel.shape[:2], dtype=torch.bool))

    return encode


def measure(rival: str, folder: Path, kind: str, amount: int, threads: int) -> dict[str, float]:
    """In this process: seconds of the second run, and the megabytes at most beside the pages of files."""
    encode = encoder(rival, folder, kind, amount, threads)
    encode()
    start = time.perf_counter()
    encode()
    seconds = time.perf_counter() - start
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak, files = (int(status[name].split()[0]) for name in ("VmHWM", "RssFile"))
    return {"seconds": seconds, "megabytes": (peak - files) / 1000}


def compare(folder: Path, quick: bool, rounds: int, threads: int) -> list[dict[str, Any]]:
    """Takes the rivals in turn, each in a process of its own."""
    results = []
    for kind, amount in INPUTS[quick]:
        found: dict[str, list[dict[str, float]]] = {rival: [] for rival in RIVALS}
        for _ in range(rounds):
            for rival in RIVALS:
                command = [
                    sys.executable,
                    __file__,
                    str(folder),
                    "--threads",
                    str(threads),
                    "--one",
                    rival,
                    kind,
                    str(amount),
                ]
                found[rival].append(json.loads(subprocess.check_output(command).splitlines()[-1]))
        reference = statistics.median(run["seconds"] for run in found["transformers"])
        for rival in RIVALS:
            seconds = statistics.median(run["seconds"] for run in found[rival])
            results.append(
                {
                    "input": f"{kind} of {amount} {'px' if kind == 'picture' else 's'}",
                    "rival": rival,
                    "seconds": round(seconds, 3),
                    "share_of_transformers": round(seconds / reference, 3),
                    "megabytes": round(max(run["megabytes"] for run in found[rival])),
                }
            )
            print(" ".join(f"{value!s:>20}" for value in results[-1].values()), flush=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "media_speed.json")
    parser.add_argument("--one", nargs=3, metavar=("RIVAL", "KIND", "AMOUNT"), help="measure once, in this process")
    arguments = parser.parse_args()
    if arguments.one:
        rival, kind, amount = arguments.one
        print(json.dumps(measure(rival, arguments.folder, kind, int(amount), arguments.threads)))
        return
    prepare(arguments.folder, arguments.threads)
    rounds = 1 if arguments.quick else arguments.rounds
    results = compare(arguments.folder, arguments.quick, rounds, arguments.threads)
    if not arguments.quick:
        arguments.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
