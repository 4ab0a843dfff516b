"""Chats with a model in LiteRT, without gemlet.

    gemlet export tflite nano -o nano-tflite
    pip install numpy ai-edge-litert tokenizers
    python examples/litert/chat.py nano-tflite

The folder's tokenizer.json, generation_config.json and model.tflite are all that is read. Each line of input is a turn.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from ai_edge_litert.compiled_model import CompiledModel
from tokenizers import Tokenizer

USER, MODEL, END = "<start_of_turn>user\n", "<start_of_turn>model\n", "<end_of_turn>\n"


class Conversation:
    """A timeline of tokens. LiteRT writes their keys and values into buffers that all signatures share."""

    def __init__(self, folder: Path) -> None:
        self.model = CompiledModel.from_file(str(folder / "model.tflite"))
        # The lengths of the prompt signatures prefill_N, longest first, and what decodes a single token.
        names = [name for name in self.model.get_signature_list() if name.startswith("prefill_")]
        self.prefills = sorted((int(name.removeprefix("prefill_")) for name in names), reverse=True)
        details = self.model.get_input_tensor_details("decode")
        shapes = {name: tuple(tensor["shape"]) for name, tensor in details.items() if name.startswith("kv_cache_")}
        self.cache = {name: self.model.create_input_buffer_by_name("decode", name) for name in shapes}
        for name, shape in shapes.items():
            self.cache[name].write(np.zeros(shape, np.float32))
        self.capacity = next(iter(shapes.values()))[2]  # [1, kv_heads, positions, head_dim]
        self.vocabulary = self.model.get_output_tensor_details("decode")["logits"]["shape"][2]
        self.length = 0

    def append(self, tokens: list[int]) -> np.ndarray:
        """Adds tokens; returns the logits after the last one, [vocabulary]. What fills up a prompt signature is
        overwritten by the tokens that follow."""
        if self.length + len(tokens) > self.capacity:
            raise SystemExit(f"the conversation is longer than the {self.capacity} tokens that the file has room for")
        while len(tokens) > 1:
            left, room = len(tokens) - 1, self.capacity - self.length
            size = next((size for size in self.prefills if size <= room and 2 * left >= size), 1)
            self.run("decode" if size == 1 else f"prefill_{size}", tokens[: min(size, left)], size)
            tokens = tokens[min(size, left) :]
        return self.run("decode", tokens, 1)

    def run(self, signature: str, tokens: list[int], size: int) -> np.ndarray:
        padded = np.zeros((1, size), np.int32)
        padded[0, : len(tokens)] = tokens
        ids = self.model.create_input_buffer_by_name(signature, "tokens")
        positions = self.model.create_input_buffer_by_name(signature, "input_pos")
        ids.write(padded)
        positions.write(np.arange(self.length, self.length + size, dtype=np.int32))
        outputs = dict(self.cache)
        if signature == "decode":
            outputs["logits"] = self.model.create_output_buffer_by_name("decode", "logits")
        self.model.run_by_name(signature, {"tokens": ids, "input_pos": positions, **self.cache}, outputs)
        self.length += len(tokens)
        return outputs["logits"].read(self.vocabulary, np.float32) if "logits" in outputs else np.empty(0)


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
