"""Loading, tokens, logits and sessions."""

import os
from pathlib import Path

import gemlet
import numpy as np
import pytest

TEXT = "the cat in the hat ate an ant and the bath"


def test_info(model: gemlet.Model, tiny_gguf: Path) -> None:
    info = model.info
    assert (info.architecture, info.layers, info.hidden_size) == ("gemma3n", 5, 36)
    assert [layer.window > 0 for layer in info.layer_info] == [True, False, True, True, False]
    assert [layer.kv_source for layer in info.layer_info] == [0, 1, 2, 2, 1]
    assert info.hyperparameters["num_kv_shared_layers"] == 2
    assert (info.context, info.trained_context) == (512, 512)
    assert info.file_bytes == tiny_gguf.stat().st_size
    assert info.tensor_type == "F32"
    assert [tensor.name for tensor in info.tensors if tensor.on_flash] == ["per_layer_token_embd.weight"]
    assert info.parameters == sum(int(np.prod(tensor.shape)) for tensor in info.tensors)


def test_settings_reach_the_core(tiny_gguf: Path) -> None:
    model = gemlet.load(str(tiny_gguf), threads=1, context=100, cache="f32", chunk=7, kernels="scalar")
    assert (model.info.threads, model.context, model.info.kernels) == (1, 100, "scalar")
    with pytest.raises(gemlet.ArgumentError, match="cache"):
        gemlet.load(tiny_gguf, cache="f64")  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "the cat", "caf\u00e9 \U0001f600 \u0e01\u0e33", "a\x00b", "  two  spaces\n\n"])
def test_text_survives_tokens(model: gemlet.Model, text: str) -> None:
    assert model.detokenize(model.tokenize(text)) == text


def test_special_tokens(model: gemlet.Model) -> None:
    assert model.tokenize("x", bos=True)[0] == model.bos
    assert model.tokenize("<bos>") == [model.bos]
    assert model.bos not in model.tokenize("<bos>", special=False)
    assert model.detokenize([model.bos]) == ""
    assert model.detokenize([model.bos], special=True) == model.piece(model.bos) == "<bos>"
    assert model.is_end(model.tokenize("<end_of_turn>")[0])


def test_broken_utf8(model: gemlet.Model) -> None:
    raw = b"a\xff\xc3(\xed\xa0\x80"
    assert model.tokenize(raw.decode("utf-8", "surrogateescape")) == model.tokenize(raw)
    assert model.detokenize(model.tokenize(raw)) == raw.decode("utf-8", "replace")
    with pytest.raises(gemlet.ArgumentError, match=r"character 1 is the lone surrogate U\+D800"):
        model.tokenize("a\ud800")


def test_logits_of_the_whole_prompt_are_those_of_single_steps(model: gemlet.Model) -> None:
    tokens = (model.tokenize(TEXT, bos=True) * 5)[:130]
    logits = model.logits(tokens)
    assert logits.shape == (130, model.info.vocabulary) and logits.dtype == np.float32
    session = model.session()
    steps = np.stack([session.step(token) for token in tokens])
    np.testing.assert_array_equal(logits, steps)


def test_wrong_tokens(model: gemlet.Model) -> None:
    for bad in ([], [-1], [model.info.vocabulary]):
        with pytest.raises(gemlet.ArgumentError):
            model.logits(bad)
        with pytest.raises(gemlet.ArgumentError):
            model.session().prefill(bad)
    with pytest.raises(gemlet.ArgumentError, match=str(model.info.vocabulary)):
        model.detokenize([model.info.vocabulary])


def test_too_many_tokens_says_both_lengths(model: gemlet.Model) -> None:
    with pytest.raises(gemlet.ContextError, match=r"600\b.*\b512\b"):
        model.logits([5] * 600)
    with pytest.raises(gemlet.ContextError, match=r"600\b.*\b512\b"):
        model.generate([5] * 600)
    session = model.session(context=20)
    session.prefill([5] * 15)
    with pytest.raises(gemlet.ContextError, match=r"20\b"):
        session.prefill([5] * 6)
    assert session.position == 15


def test_rewind_and_fork(model: gemlet.Model) -> None:
    tokens = model.tokenize(TEXT, bos=True)
    expected = model.logits(tokens)
    session = model.session()
    session.prefill(tokens[:10])
    fork = session.fork()
    session.prefill(tokens[3:9])
    session.rewind(10)
    assert session.position == fork.position == 10
    for timeline in (session, fork):
        np.testing.assert_array_equal(timeline.prefill_all(tokens[10:]), expected[10:])
    assert session.tokens == tokens


def test_advance_to_keeps_the_common_prefix(model: gemlet.Model) -> None:
    tokens = model.tokenize(TEXT, bos=True)
    session = model.session()
    assert session.advance_to(tokens[:9]) == 0
    assert session.advance_to(tokens) == 9
    np.testing.assert_array_equal(session.logits(), model.logits(tokens)[-1])


def test_saved_sessions(model: gemlet.Model, other_gguf: Path, tmp_path: Path) -> None:
    tokens = model.tokenize(TEXT, bos=True)
    session = model.session()
    session.prefill(tokens[:12])
    session.save(tmp_path / "session")
    restored = model.restore(tmp_path / "session")
    assert restored.tokens == tokens[:12]
    np.testing.assert_array_equal(restored.prefill(tokens[12:]), session.prefill(tokens[12:]))

    other = gemlet.load(other_gguf)
    with pytest.raises(
        gemlet.UnsupportedError, match=rf"{model.info.fingerprint:x}.*{other.info.fingerprint:x}|of another"
    ):
        other.restore(tmp_path / "session")
    data = (tmp_path / "session").read_bytes()
    (tmp_path / "session").write_bytes(data[: len(data) // 2])
    with pytest.raises(gemlet.FormatError):
        model.restore(tmp_path / "session")
    with pytest.raises(gemlet.FileError):
        model.restore(tmp_path / "none")
    with pytest.raises(gemlet.FileError):
        session.save(tmp_path / "no folder" / "session")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(gemlet.FileError, match="pipe: is a FIFO, expected a file name"):
        session.save(tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()


def test_step_batch(model: gemlet.Model) -> None:
    sessions = [model.session() for _ in range(3)]
    for i, session in enumerate(sessions):
        session.prefill([model.bos] * (i + 1))
    singles = [session.fork().step(270 + i) for i, session in enumerate(sessions)]
    gemlet.step_batch(sessions, [270, 271, 272])
    for session, single in zip(sessions, singles, strict=True):
        np.testing.assert_array_equal(session.logits(), single)
    with pytest.raises(gemlet.ArgumentError, match="twice"):
        gemlet.step_batch([sessions[0], sessions[0]], [270, 271])
    sessions[0].step(270)  # and it is not left busy


def test_perplexity_is_what_its_definition_says(model: gemlet.Model) -> None:
    text = TEXT * 9
    tokens = model.tokenize(text, bos=True, special=False)
    window = 48
    terms: list[float] = []
    for start in range(0, len(tokens) - window + 1, window):
        part = [model.bos, *tokens[start + 1 : start + window]]
        logits = model.logits(part).astype(np.float64)
        for i in range(window // 2, window - 1):
            terms.append(np.log(np.exp(logits[i]).sum()) - logits[i, part[i + 1]])
    assert len(terms) > 100
    assert gemlet.perplexity(model, text, window=window) == pytest.approx(np.exp(np.mean(terms)), rel=1e-6)


def test_perplexity_with_a_stride_scores_each_token_once(model: gemlet.Model) -> None:
    from gemlet.scoring import scores

    counts = [len(score.nll) for score in scores(model, TEXT * 9, window=40, stride=10)]
    assert counts == [19, *[10] * (len(counts) - 1)] and len(counts) > 5
    [whole] = scores(model, TEXT, window=512)
    assert len(whole.nll) == len(model.tokenize(TEXT, bos=True)) - len(model.tokenize(TEXT, bos=True)) // 2 - 1


@pytest.mark.parametrize("settings", [{"window": 3}, {"window": 513}, {"stride": 0}, {"window": 8, "stride": 9}])
def test_perplexity_out_of_range(model: gemlet.Model, settings: dict[str, int]) -> None:
    with pytest.raises(gemlet.ArgumentError, match=r"window|stride"):
        gemlet.perplexity(model, TEXT, **settings)
    with pytest.raises(gemlet.ArgumentError, match="at least 4"):
        gemlet.perplexity(model, "a")


def test_layers_of_a_call_are_those_of_its_own_tokens(tiny_gguf: Path) -> None:
    """What a rewind left to be computed again is not among them."""
    model = gemlet.load(tiny_gguf, chunk=4)
    tokens = [2, *range(20, 260)]
    session = model.session()
    session.prefill(tokens)
    session.rewind(100)  # further than the rings of the sliding layers reach
    layers = session._core.prefill_layers([30, 31, 32])
    fresh = model.session()
    fresh.prefill(tokens[:100])
    assert [layer.shape[1] for layer in layers] == [3] * model.info.layers
    for ours, theirs in zip(layers, fresh._core.prefill_layers([30, 31, 32]), strict=True):
        np.testing.assert_array_equal(ours, theirs)
