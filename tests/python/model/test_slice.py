"""MatFormer slices: a part of a model, used where it lies, is the model that is cut out by hand."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import gemlet
import numpy as np
import pytest
from gemlet import Slice
from gemlet.conversion import convert

from conftest import Cli
from oracle_models import NESTED, NESTED_TOKENS
from tiny import Array, Tiny, write_checkpoint


@dataclasses.dataclass(frozen=True)
class Cut(Tiny):
    """What is left of a model, by what it is defined to be: the first so many rows of gate and up and columns of down,
    and of the per-layer tables the parts of the layers that stay."""

    whole: Tiny = NESTED
    kept: tuple[int, ...] = ()

    @classmethod
    def of(cls, whole: Tiny, widths: tuple[int, ...], dropped: tuple[int, ...] = ()) -> Cut:
        kept = tuple(i for i in range(len(whole.layers)) if i not in dropped)
        fields = {field.name: getattr(whole, field.name) for field in dataclasses.fields(Tiny)}
        fields["layers"] = "".join(whole.layers[i] for i in kept)
        fields["shared"] = sum(i >= whole.own_kv for i in kept)
        fields["sparsity"] = tuple(whole.per_layer(whole.sparsity)[i] for i in kept)
        return cls(**{**fields, "ffn": widths}, whole=whole, kept=kept)

    def weights(self) -> dict[str, Array]:
        whole = self.whole.weights()
        parts = [slice(i * self.ple, (i + 1) * self.ple) for i in self.kept]
        table, projection = whole["embed_tokens_per_layer.weight"], whole["per_layer_model_projection.weight"]
        cut = {name: value for name, value in whole.items() if not name.startswith("layers.")}
        cut["embed_tokens_per_layer.weight"] = np.concatenate([table[:, part] for part in parts], axis=1)
        cut["per_layer_model_projection.weight"] = np.concatenate([projection[part] for part in parts])
        for new, (old, width) in enumerate(zip(self.kept, self.per_layer(self.ffn), strict=True)):
            prefix = f"layers.{old}."
            layer = {name.removeprefix(prefix): value for name, value in whole.items() if name.startswith(prefix)}
            layer["mlp.gate_proj.weight"] = layer["mlp.gate_proj.weight"][:width]
            layer["mlp.up_proj.weight"] = layer["mlp.up_proj.weight"][:width]
            layer["mlp.down_proj.weight"] = layer["mlp.down_proj.weight"][:, :width]
            cut |= {f"layers.{new}.{name}": value for name, value in layer.items()}
        return cut


SLICES = {
    "one width": (Slice(ffn_widths=(64,)), Cut.of(NESTED, (64,))),
    "a width each": (
        Slice(ffn_widths=(32, 96, 64, 128, 160, 96, 32, 64)),
        Cut.of(NESTED, (32, 96, 64, 128, 160, 96, 32, 64)),
    ),
    "shared layers dropped": (
        Slice(dropped_layers=(4, 5)),
        Cut.of(NESTED, (128, 96, 128, 128, 64, 128), (4, 5)),
    ),
    "own layers dropped": (
        Slice(ffn_widths=(64,), dropped_layers=(0, 2, 6)),
        Cut.of(NESTED, (64,), (0, 2, 6)),
    ),
    "all shared layers dropped": (
        Slice(ffn_widths=(96, 32, 64, 64), dropped_layers=(4, 5, 6, 7)),
        Cut.of(NESTED, (96, 32, 64, 64), (4, 5, 6, 7)),
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("slice")


def converted(folder: Path, name: str, tiny: Tiny, quant: str, **options: Any) -> Path:
    path = folder / f"{name}-{quant}.gguf"
    if not path.exists():
        checkpoint = folder / name
        if not checkpoint.exists():
            write_checkpoint(checkpoint, tiny)
        convert(checkpoint, path, quant, **options)
    return path


def assert_equal_models(model: gemlet.Model, expected: gemlet.Model) -> None:
    """The same bits: of a prompt in chunks, of single steps after it, and of what they generate."""
    np.testing.assert_array_equal(model.logits(NESTED_TOKENS), expected.logits(NESTED_TOKENS))
    ours, theirs = model.session(), expected.session()
    np.testing.assert_array_equal(ours.prefill(NESTED_TOKENS[:20]), theirs.prefill(NESTED_TOKENS[:20]))
    for token in NESTED_TOKENS[20:]:
        np.testing.assert_array_equal(ours.step(token), theirs.step(token))
    answers = [each.generate(NESTED_TOKENS[:9], max_tokens=40, seed=3).tokens for each in (model, expected)]
    assert answers[0] == answers[1]


@pytest.mark.parametrize("kernels", [None, "scalar"])
@pytest.mark.parametrize("quant", ["f32", "bf16", "q8_0", "q4_0"])
@pytest.mark.parametrize("name", SLICES)
def test_a_slice_is_the_model_cut_by_hand(folder: Path, name: str, quant: str, kernels: str | None) -> None:
    slice, cut = SLICES[name]
    part = gemlet.load(converted(folder, "whole", NESTED, quant), slice=slice, chunk=7, threads=2, kernels=kernels)
    by_hand = gemlet.load(converted(folder, name.replace(" ", "-"), cut, quant), chunk=7, threads=1, kernels=kernels)
    assert [x.intermediate_size for x in part.info.layer_info] == [x.intermediate_size for x in by_hand.info.layer_info]
    assert_equal_models(part, by_hand)


def test_odd_widths_where_the_type_has_no_blocks(folder: Path) -> None:
    tiny = Tiny(layers="sFssF", ffn=(116, 90, 77, 116, 115))
    cut = Cut.of(tiny, (53, 90, 77, 1), (3,))
    part = gemlet.load(converted(folder, "odd", tiny, "f32"), slice=Slice(ffn_widths=cut.ffn, dropped_layers=(3,)))
    assert_equal_models(part, gemlet.load(converted(folder, "odd-cut", cut, "f32")))


@pytest.mark.parametrize("quant", ["f32", "q8_0", "q4_0"])
def test_convert_writes_the_slice(folder: Path, quant: str) -> None:
    for name, (slice, cut) in SLICES.items():
        stem = name.replace(" ", "-")
        written = convert(folder / "whole", folder / f"{stem}-written.gguf", quant, slice=slice).path
        by_hand = converted(folder, stem, cut, quant)
        ours, theirs = gemlet.load(written).info, gemlet.load(by_hand).info
        assert ours.tensors == theirs.tensors and ours.hyperparameters == theirs.hyperparameters
        assert_equal_models(gemlet.load(written), gemlet.load(by_hand))
        assert_equal_models(gemlet.load(written), gemlet.load(converted(folder, "whole", NESTED, quant), slice=slice))


def test_e2b_is_half_the_width_without_the_first_block_of_shared_layers(folder: Path) -> None:
    """E4B's proportions: 35 layers, every fifth global, the last 15 share."""
    e4b = Tiny(layers="ssssF" * 7, shared=15, ffn=(8,), sparsity=(0.95,) * 10 + (0.0,) * 25, hidden=16, ple=4)
    e2b = Cut.of(e4b, (4,), (20, 21, 22, 23, 24))
    path = converted(folder, "e4b", e4b, "f32")
    part = gemlet.load(path, slice="e2b")
    assert (part.info.layers, part.info.file_layers) == (30, 35)
    assert part.info.hyperparameters["num_kv_shared_layers"] == 10
    assert [layer.index for layer in part.info.layer_info] == [*range(20), *range(25, 35)]
    assert_equal_models(part, gemlet.load(converted(folder, "e2b", e2b, "f32")))
    assert_equal_models(part, gemlet.load(path, slice=Slice(ffn_widths=(4,) * 30, dropped_layers=(20, 21, 22, 23, 24))))
    with pytest.raises(gemlet.ArgumentError, match="of a model of 35 layers, this one has 30"):
        gemlet.load(converted(folder, "e2b", e2b, "f32"), slice="e2b")


def test_a_share_a_text_and_a_slice_are_the_same(folder: Path) -> None:
    path = converted(folder, "whole", NESTED, "f32")
    half = (64, 48, 64, 64, 80, 64, 32, 64)
    prints = {
        gemlet.load(path, slice=slice).info.fingerprint
        for slice in (
            0.5,
            "0.5",
            "ffn=0.5",
            Slice(ffn_share=0.5),
            Slice(ffn_widths=half),
            f"ffn={str(half)[1:-1]}".replace(" ", ""),
        )
    }
    assert len(prints) == 1
    assert gemlet.load(path, slice=1.0).info == gemlet.load(path).info


@pytest.mark.parametrize(
    ("slice", "message"),
    [
        (
            0.4,
            r"layer 0: a feed-forward width of 51.2 was asked for, expected a multiple of 32 .* 128, such as 32 or 64",
        ),
        (Slice(ffn_widths=(48,)), "a feed-forward width of 48 was asked for, expected a multiple of 32"),
        (Slice(ffn_widths=(128,)), "layer 1: a feed-forward width of 128 .* the whole width of 96"),
        (Slice(ffn_widths=(32, 32)), "2 feed-forward widths, expected one, or 8"),
        (Slice(dropped_layers=(3,)), "layer 3 cannot be dropped: layer 5 reads its keys and values"),
        (Slice(dropped_layers=(8,)), "layer 8 is to be dropped, the model has layers 0 to 7"),
        (0.0, "more than 0 and at most 1"),
        ("e2b", "of a model of 35 layers, this one has 8"),
        ("half", 'found "half", expected'),
    ],
)
def test_bad_slices(folder: Path, slice: Slice | float | str, message: str) -> None:
    path = converted(folder, "whole", NESTED, "q4_0")
    with pytest.raises(gemlet.ArgumentError, match=f"^slice: .*{message}"):
        gemlet.load(path, slice=slice)
    with pytest.raises(gemlet.ArgumentError, match=f"^slice: .*{message}"):
        convert(folder / "whole", folder / "bad.gguf", "q4_0", slice=slice)
    assert not (folder / "bad.gguf").exists()


def test_wrong_types(folder: Path) -> None:
    path = converted(folder, "whole", NESTED, "f32")
    for wrong in ([0.5], object(), Slice(ffn_widths=("a",))):  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            gemlet.load(path, slice=wrong)  # type: ignore[arg-type]


def test_a_session_of_another_slice_is_refused(folder: Path, tmp_path: Path) -> None:
    path = converted(folder, "whole", NESTED, "f32")
    session = gemlet.load(path, slice=0.5).session()
    session.prefill(NESTED_TOKENS)
    session.save(tmp_path / "saved")
    restored = gemlet.load(path, slice=Slice(ffn_share=0.5)).restore(tmp_path / "saved")
    np.testing.assert_array_equal(restored.step(5), session.step(5))
    for slice in (None, Slice(ffn_share=0.5, dropped_layers=(5,))):
        with pytest.raises(gemlet.UnsupportedError, match="saved with model"):
            gemlet.load(path, slice=slice).restore(tmp_path / "saved")


def test_on_the_command_line(folder: Path, cli: Cli) -> None:
    path = converted(folder, "whole", NESTED, "q8_0")
    slice = "ffn=64:drop=4,5"
    model = gemlet.load(path, slice=slice)
    done = json.loads(cli("inspect", path, "--slice", slice, "--json").stdout)
    assert (done["layers"], done["file_layers"], done["fingerprint"]) == (6, 8, f"{model.info.fingerprint:016x}")
    assert done["parameters"] == model.info.parameters < gemlet.load(path).info.parameters
    text = cli("inspect", path, "--slice", slice).stdout
    assert "6 of 8" in text and "of layer 3" in text
    answer = json.loads(cli("run", path, "the cat", "--raw", "-n", 12, "--seed", 1, "--json", "--slice", slice).stdout)
    assert answer["tokens"] == model.generate("the cat", max_tokens=12, seed=1).tokens
    rows = json.loads(cli("bench", path, "-p", 8, "-n", 0, "-r", 1, "--json", "--slice", slice).stdout)
    assert rows[0]["bytes"] == model.info.bytes < gemlet.load(path).info.bytes
    text_file = folder / "text"
    text_file.write_text("the cat in the hat " * 8)
    scored = json.loads(cli("perplexity", path, text_file, "--json", "--slice", slice).stdout)
    assert scored["perplexity"] == pytest.approx(gemlet.perplexity(model, text_file.read_text()))
    assert cli("chat", path, "-n", 2, "--slice", "0.3", input="hi\n").returncode == 2
    out = folder / "cli.gguf"
    assert cli("convert", folder / "whole", "-o", out, "-q", "q8_0", "--slice", slice).returncode == 0
    assert_equal_models(gemlet.load(out), model)
    failed = cli("convert", folder / "whole", "-o", out, "--slice", "half")
    assert failed.returncode == 2 and 'slice: found "half"' in failed.stderr
