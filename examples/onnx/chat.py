"""Chats with a model in ONNX Runtime, without gemlet.

    gemlet export onnx nano -o nano-onnx
    pip install numpy onnxruntime tokenizers
    python examples/onnx/chat.py nano-onnx

The folder's tokenizer.json, generation_config.json and model.onnx are all that is read. Each line of input is a turn.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

USER, MODEL, END = "<start_of_turn>user\n", "<start_of_turn>model\n", "<end_of_turn>\n"


class Conversation:
    """A timeline of tokens, whose keys and values ONNX Runtime gives back at every step."""

    def __init__(self, folder: Path) -> None:
        self.session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
        past = [value for value in self.session.get_inputs() if value.name.startswith("past_key_values.")]
        # [1, kv_heads, positions, head_dim]
        self.cache = {v.name: np.zeros((1, v.shape[1], 0, v.shape[3]), np.float32) for v in past}
        self.length = 0

    def append(self, tokens: list[int]) -> np.ndarray:
        """Adds tokens; returns the logits after the last one, [vocabulary]."""
        positions = np.arange(self.length, self.length + len(tokens), dtype=np.int64)
        logits, *present = self.session.run(
            ["logits", *(name.replace("past_key_values", "present") for name in self.cache)],
            {
                "input_ids": np.array([tokens], np.int64),
                "position_ids": positions[None],
                "num_logits_to_keep": np.array(1, np.int64),
                **self.cache,
            },
        )
        self.cache = dict(zip(self.cache, present, strict=True))
        self.length += len(tokens)
        return logits[0, -1]


def sample(logits: np.ndarray, top_k: int, temperature: float, rng: np.random.Generator) -> int:
    """One of the top_k most likely tokens, by their probabilities; the most likely one for a temperature of 0."""
    if temperature == 0:
        return int(logits.argmax())
    best = np.argpartition(logits, -top_k)[-top_k:]
    weights = np.exp((logits[best] - logits[best].max()) / temperature)
    return int(rng.choice(best, p=weights / weights.sum()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--temperature", type=float, help="0: always the most likely token")
    parser.add_argument("--max-tokens", type=int, default=256)
    arguments = parser.parse_args()

    settings = json.loads((arguments.folder / "generation_config.json").read_text(encoding="utf-8"))
    temperature = settings.get("temperature", 1.0) if arguments.temperature is None else arguments.temperature
    ends = settings["eos_token_id"] if isinstance(settings["eos_token_id"], list) else [settings["eos_token_id"]]
    tokenizer = Tokenizer.from_file(str(arguments.folder / "tokenizer.json"))
    conversation = Conversation(arguments.folder)
    rng = np.random.default_rng()

    while True:
        try:
            text = input()
        except EOFError:
            return
        first = conversation.length == 0  # only then the begin-of-sequence token is added
        prompt = ("" if first else END) + USER + text.strip() + END + MODEL
        logits = conversation.append(tokenizer.encode(prompt, add_special_tokens=first).ids)
        answer: list[int] = []
        while len(answer) < arguments.max_tokens:
            token = sample(logits, settings.get("top_k", 64), temperature, rng)
            if token in ends:
                break
            answer.append(token)
            logits = conversation.append([token])
        print(tokenizer.decode(answer), flush=True)


if __name__ == "__main__":
    main()
