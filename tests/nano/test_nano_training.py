"""nano's lean training forward equals transformers', with pictures and sounds and with dialogues that begin alike."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "nano"))

pytestmark = pytest.mark.live

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
if importlib.util.find_spec("timm") is None:
    pytest.skip("needs timm", allow_module_level=True)

WIDTH = 64


class Letters:
    """Stands for a tokenizer: one token for each letter."""

    def encode(self, text: str) -> list[int]:
        return [9 + ord(letter) % 2000 for letter in text]


def text_model() -> Any:
    from architecture import initialise, nano_config
    from transformers import Gemma3nForCausalLM

    torch.manual_seed(0)
    model = Gemma3nForCausalLM(nano_config(width=WIDTH, layers=6, ffn=128)).eval()
    initialise(model)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "coefs" in name or "norm" in name:
                weight.add_(torch.randn_like(weight) * 0.1)
    return model


def half_width(model: Any) -> Any:
    """A copy with the first half of every feed-forward layer."""
    from architecture import nano_config
    from transformers import Gemma3nForCausalLM

    state = {}
    for name, weight in model.state_dict().items():
        if "mlp.gate_proj" in name or "mlp.up_proj" in name:
            weight = weight[: weight.shape[0] // 2]
        elif "mlp.down_proj" in name:
            weight = weight[:, : weight.shape[1] // 2]
        state[name] = weight
    small = Gemma3nForCausalLM(nano_config(WIDTH, layers=6, ffn=64))
    small.load_state_dict(state)
    return small


@pytest.mark.parametrize("half", [False, True])
def test_lean_forward_equals_transformers(half: bool) -> None:
    from fast import Fast

    model = text_model()
    ids = torch.randint(4, 2048, (2, 100))
    order = torch.arange(100)
    distance = order[:, None] - order[None, :]
    full = (distance >= 0).expand(2, 1, -1, -1)
    sliding = ((distance >= 0) & (distance < 64)).expand(2, 1, -1, -1)
    wanted = torch.stack([torch.arange(0, 100, 3), torch.arange(66, 100)])
    with torch.no_grad():
        lean = Fast(model)(ids, order.expand(2, -1), full, sliding, wanted, half)
        whole = (half_width(model).eval() if half else model)(input_ids=ids).logits
    expected = torch.stack([whole[row, places] for row, places in enumerate(wanted)])
    assert torch.allclose(lean.view_as(expected), expected, atol=1e-4)


def test_dialogues_that_begin_alike_are_what_they_are_alone() -> None:
    from fast import Fast
    from media_tasks import Branch, Shown
    from packing import Encoding, Item, Shape, pack

    encoding = Encoding(Letters(), lambda said: np.zeros((9, 64), np.float32))
    branches = [Branch(("one question?",), "an answer"), Branch(("another, longer question",), "yes")]
    shared = ("what all of them begin with, at some length so that the window is left behind by the last of it",)

    def logits(item: Item) -> Any:
        shape = Shape(1, len(item.ids), 0.5)
        packed = pack([[item]], shape, window=64)
        rows = Fast(model)(packed.ids, packed.positions, packed.full, packed.sliding, packed.chosen, False)
        return rows[packed.targets >= 0]

    model = text_model()
    with torch.no_grad():
        together = logits(encoding.shown(Shown("", shared, tuple(branches))))
        alone = torch.cat([logits(encoding.shown(Shown("", shared, (branch,)))) for branch in branches])
    assert len(together) == len(alone) > 12
    assert torch.allclose(together, alone, atol=1e-4)


def test_pictures_and_sounds_enter_as_in_transformers(tmp_path: Path) -> None:
    import architecture  # noqa: F401  completes torchvision
    from checkpoint import save
    from dialogue import Source
    from fast import Fast
    from media_tasks import Branch, Said, Shown
    from packing import Encoding, Shape, pack
    from scenes import any_scene, draw
    from soft import Soft
    from towers import Audio, Vision
    from transformers import Gemma3nForConditionalGeneration
    from voices import MEL

    text = text_model()
    modules = torch.nn.ModuleDict({"text": text, "vision": Vision(text.config), "audio": Audio(text.config)}).eval()
    scene = any_scene(Source(Random(1), held_out=False))
    mel = np.random.default_rng(1).normal(size=(140, MEL)).astype(np.float32)
    encoding = Encoding(Letters(), lambda said: mel)
    said: Any = object.__new__(Said)
    item = encoding.shown(Shown("", (scene, "and"), (Branch((said, "what?"), "an answer"),)))
    shape = Shape(1, len(item.ids), 0.5)
    packed = pack([[item]], shape, window=64)
    lean = Fast(text)(
        *(packed.ids, packed.positions, packed.full, packed.sliding, packed.chosen, False), *Soft(modules)(packed)
    )

    (tmp_path / "tokenizer").mkdir()
    save(modules, tmp_path / "checkpoint", tmp_path / "tokenizer")
    whole = Gemma3nForConditionalGeneration.from_pretrained(tmp_path / "checkpoint").eval()
    ids = packed.ids.clone()
    for medium, soft_id, end in zip(item.media, (2049, 2177), (2048, 2176), strict=True):
        ids[0, medium.at : medium.at + medium.tokens] = soft_id
        ids[0, medium.at + medium.tokens] = end
    whole.config.audio_soft_tokens_per_image = whole.model.config.audio_soft_tokens_per_image = item.media[1].tokens
    with torch.no_grad():
        logits = whole(
            input_ids=ids,
            pixel_values=torch.from_numpy(draw(scene).pixels).permute(2, 0, 1)[None].float() / 255,
            input_features=torch.from_numpy(mel)[None],
            input_features_mask=torch.ones(1, len(mel), dtype=torch.bool),
        ).logits[0]
    used = packed.targets >= 0
    assert torch.allclose(lean[used], logits[packed.chosen[0]][used], atol=1e-3)


def test_gemlet_puts_pictures_and_sounds_where_training_does(tmp_path: Path) -> None:
    """Random weights, whose first tokens differ with every detail of a prompt: order, markers, line ends, sizes."""
    import architecture  # noqa: F401  completes torchvision

    for module in ("sentencepiece", "tokenizers"):
        pytest.importorskip(module)
    import gemlet
    import sentencepiece
    import tokenizer
    from checkpoint import save
    from evaluate import given
    from fast import Fast
    from media_tasks import MEDIA_TASKS, Branch, Shown, held_out_media
    from packing import Encoding, Shape, pack
    from score import heard
    from soft import Soft
    from towers import Audio, Vision

    text = text_model()
    modules = torch.nn.ModuleDict({"text": text, "vision": Vision(text.config), "audio": Audio(text.config)}).eval()
    tokenizer.train(tmp_path / "tokenizer")
    save(modules, tmp_path / "checkpoint", tmp_path / "tokenizer")
    gemlet.convert(tmp_path / "checkpoint", tmp_path / "text.gguf", "f32")
    gemlet.convert_mmproj(tmp_path / "checkpoint", tmp_path / "mmproj.gguf", "f32")
    model = gemlet.load(tmp_path / "text.gguf", media=tmp_path / "mmproj.gguf", cache="f32")
    processor = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer" / "tokenizer.model"))
    encoding = Encoding(processor, heard)
    asked = held_out_media(2)
    assert len(asked) == 2 * len(MEDIA_TASKS)
    for shown in asked:
        parts = shown.branches[0].parts
        item = encoding.shown(Shown("", shown.shared, (Branch(parts, "x"),)))
        packed = pack([[item]], Shape(1, len(item.ids), 0.5), window=64)
        with torch.no_grad():
            logits = Fast(text)(
                *(packed.ids, packed.positions, packed.full, packed.sliding, packed.chosen, False),
                *Soft(modules)(packed),
            )
        result = model.chat(temperature=0.0, max_tokens=1).send([given(part) for part in (*shown.shared, *parts)])
        assert result.tokens == [int(logits[0].argmax())]
