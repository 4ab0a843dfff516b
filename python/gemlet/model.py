"""A loaded model."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

from gemlet import _core
from gemlet.arguments import Large, checked, checked_methods, show_whole
from gemlet.errors import ArgumentError, ContextError, FileError
from gemlet.files import to_path
from gemlet.forked import importing
from gemlet.hub.names import find_model
from gemlet.info import ModelInfo, Work
from gemlet.media.encoding import MediaEncoder
from gemlet.options import GenerateOptions, to_core
from gemlet.result import GenerateResult
from gemlet.session import Session
from gemlet.slicing import SliceLike
from gemlet.slicing import to_core as slice_to_core
from gemlet.stream import Stream
from gemlet.text import require_room, to_bytes, to_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gemlet.chat.conversation import Chat
    from gemlet.chat.messages import MessageLike
    from gemlet.chat.overflow import Overflow
    from gemlet.scheduler import Scheduler
    from gemlet.speech import Transcript
    from gemlet.speech.listening import Listener

Prompt = str | bytes | Sequence[int]
"""Text, or tokens that are taken as they are."""

_LOGIT_ROWS = 64  # rows of logits that the core holds at a time: 64 MB for a vocabulary of 262144


@checked_methods
class Model:
    """A loaded model: immutable, and shared by any number of threads. Get one from ``gemlet.load``."""

    def __init__(self, engine: _core.Engine, path: Path, media: MediaEncoder | None = None) -> None:
        """Wrap a loaded engine, the core's or an exported model, and its encoders of pictures and sound."""
        self._engine = engine
        self._media = media or MediaEncoder()
        self.path = path
        self.info = ModelInfo.of(engine)
        self._scheduler: Scheduler | None = None  # shared_scheduler

    def __repr__(self) -> str:
        """Name, file and size."""
        return f"<gemlet.Model {self.info.name or self.info.architecture} from {self.path}>"

    @property
    def work(self) -> Work:
        """The amount of computation of all sessions of this model so far."""
        return Work(**self._engine.work())

    @property
    def context(self) -> int:
        """Tokens that a session holds unless told otherwise."""
        return self.info.context

    @property
    def bos(self) -> int:
        """The token that begins every prompt."""
        return self._engine.bos

    def special_tokens(self) -> list[int]:
        """The control tokens and the unknown token."""
        return self._engine.special_tokens()

    def is_end(self, token: int) -> bool:
        """Whether the token ends the text or a turn."""
        return self._engine.is_end(token)

    def tokenize(self, text: str | bytes, *, bos: bool = False, special: bool = True) -> list[int]:
        """Turn text into tokens.

        Args:
            text: malformed UTF-8 counts as U+FFFD, as it does for the sentencepiece library.
            bos: put the begin-of-sequence token first.
            special: text like ``<start_of_turn>`` becomes its control token; otherwise it is plain text.
        """
        return self._engine.tokenize(to_bytes(text), bos=bos, special=special)

    def detokenize(self, tokens: Sequence[int], *, special: bool = False) -> str:
        """Turn tokens into text; control tokens are left out unless ``special``. Malformed bytes become U+FFFD.

        Raises ArgumentError for an id outside the vocabulary.
        """
        return to_text(self.detokenize_bytes(tokens, special=special))

    def detokenize_bytes(self, tokens: Sequence[int], *, special: bool = False) -> bytes:
        """Turn tokens into the bytes that they stand for."""
        return self._engine.detokenize(tokens, special=special)

    def piece(self, token: int) -> str:
        """One token, as the file stores it: ``▁the``, ``<0x0A>``."""
        return to_text(self._engine.piece(token))

    def logits(self, tokens: Sequence[int]) -> "NDArray[np.float32]":
        """The logits after each token of a prompt, shape (len(tokens), vocabulary).

        That is a megabyte a token for a vocabulary of 262144.

        Raises:
            ContextError: more tokens than the context holds.
            ArgumentError: no tokens, or an id outside the vocabulary.
        """
        with importing:
            import numpy as np

        if len(tokens) == 0:
            raise ArgumentError("tokens: expected at least one, found none")
        self._check_length(len(tokens))
        session = self.session()
        out = np.empty((len(tokens), self.info.vocabulary), np.float32)
        for start in range(0, len(tokens), _LOGIT_ROWS):
            piece = tokens[start : start + _LOGIT_ROWS]
            out[start : start + len(piece)] = session.prefill_all(piece)
        return out

    def generate(
        self, prompt: Prompt, *, on_text: Callable[[str], object] | None = None, **options: Unpack[GenerateOptions]
    ) -> GenerateResult:
        """Complete a text as it is, without a chat template. See GenerateOptions for the options.

        Args:
            prompt: text gets the begin-of-sequence token in front, unless it brings it, and control tokens in it count
                as such; tokens are taken as they are.
            on_text: gets each piece as it comes; what it raises stops the computation and goes on to the caller.

        Raises:
            ContextError: the prompt is longer than the context; the message gives both lengths.
            ArgumentError: an empty prompt, or an option out of range.
        """
        return self.stream(prompt, **options).finish(on_text)

    def stream(self, prompt: Prompt, **options: Unpack[GenerateOptions]) -> Stream:
        """Like ``generate``, piece by piece. Closing the iterator stops the computation."""
        return self.session().stream(self._prompt_tokens(prompt), **options)

    def generate_batch(
        self,
        prompts: Sequence[Prompt],
        *,
        on_text: Callable[[int, str], object] | None = None,
        **options: Unpack[GenerateOptions],
    ) -> list[GenerateResult]:
        """Complete several prompts as a batch: faster than one after the other.

        Each result equals what ``generate`` gives for that prompt alone. ``on_text`` gets the index of the prompt and
        a piece of its completion.
        """
        core = to_core(options, self.context)
        tokens = [self._prompt_tokens(prompt) for prompt in prompts]
        generation = self._engine.generate_batch(tokens, [core] * len(tokens))
        try:
            while (piece := generation.next()) is not None:
                if on_text is not None:
                    on_text(*piece)
        finally:
            generation.close()
        return [GenerateResult.of(raw, core.sampling.seed) for raw in generation.results()]

    async def agenerate(
        self, prompt: Prompt, *, on_text: Callable[[str], object] | None = None, **options: Unpack[GenerateOptions]
    ) -> GenerateResult:
        """``generate`` for asyncio: completions that are awaited at the same time are batched by one scheduler.

        Cancelling the task ends the computation. ``on_text`` is called in the event loop.
        """
        return await self.shared_scheduler().agenerate(self._prompt_tokens(prompt), on_text=on_text, **options)

    def shared_scheduler(self) -> "Scheduler":
        """The scheduler of everything that is awaited and brings none of its own; made when it is first needed."""
        if self._scheduler is None:
            made = self.scheduler()  # without a lock, which a signal handler or a forked child might find held
            if self._scheduler is None:
                self._scheduler = made
        return self._scheduler

    def scheduler(
        self,
        *,
        sequences: int = 16,
        prompt_rows: int = 32,
        max_waiting: int = 0,
        prefixes: int = 0,
        prefix_bytes: Large = 0,
    ) -> "Scheduler":
        """Continuous batching, as a server needs it; an exported model computes one request after the other.

        Args:
            sequences: completions under way at the same time; other requests wait for their turn.
            prompt_rows: tokens of prompts that a pass computes while completions are under way: more lets new requests
                begin sooner, fewer lets the others go on faster.
            max_waiting: requests that may wait; further ones raise OverloadError. 0: any number.
            prefixes: prompt caching across requests: so many sessions are kept when their completions have ended, the
                most recently used ones. A request without a session goes on from the one that shares the longest prefix
                with its prompt: the same completion for less work (``stats.reused_tokens``). 0: none.
            prefix_bytes: memory that their keys and values may take. 0: any number.
        """
        with importing:
            from gemlet.scheduler import Scheduler

        if not 0 <= prefix_bytes < 2**64:
            raise ArgumentError(f"prefix_bytes: expected 0 to 2**64 - 1, found {show_whole(prefix_bytes)}")
        make_core = partial(
            self._engine.scheduler,
            sequences=sequences,
            prompt_rows=prompt_rows,
            max_waiting=max_waiting,
            prefixes=prefixes,
            prefix_bytes=prefix_bytes,
        )
        return Scheduler(make_core, self.context)

    def session(self, context: int | None = None) -> Session:
        """A new session, empty, that can hold ``context`` tokens."""
        return Session(self._engine.session(context or 0))

    def restore(self, path: str | os.PathLike[str], context: int | None = None) -> Session:
        """A session that ``Session.save`` wrote. Its keys and values are read where they lie in the file, as a model's
        weights are; it reuses of a prompt what the saved session would have.

        Raises:
            FileError: the file cannot be opened or mapped.
            FormatError: a damaged file.
            UnsupportedError: a file of another model or another version of gemlet.
        """
        return Session(self._engine.restore(to_path(path), context or 0))

    def chat(
        self,
        system: str | None = None,
        *,
        history: "Iterable[MessageLike]" = (),
        template: str | None = None,
        template_variables: Mapping[str, Any] | None = None,
        tools: Sequence[object] | None = None,
        context: int | None = None,
        overflow: "Overflow" = "error",
        scheduler: "Scheduler | None" = None,
        **options: Unpack[GenerateOptions],
    ) -> "Chat":
        """Start a conversation.

        Args:
            system: the system prompt.
            history: earlier messages, Message objects or mappings such as ``{"role": "user", "content": "Hi"}``; tool
                calls and results of tools too. A system message that begins them is the system prompt.
            template: Jinja source; by default the file's own, or Gemma's turn format if it has none. One that Google
                published for Gemma 1 to 3n is written by the core; any other one is rendered in a process of its own,
                within limits of time and memory, and a prompt that lacks what was said is refused.
            template_variables: for the template, such as ``{"enable_thinking": False}``; one that the template does not
                use is refused.
            tools: handed to the template, for templates that describe tools to the model; others refuse them.
            context: tokens that the conversation may have.
            overflow: "error" raises ContextError when the conversation does not fit any more. "drop_oldest" leaves the
                oldest turns out of the prompt, with all that belongs to them, so that ``max_tokens`` (or a quarter of
                the context) are free for the reply; never the system prompt or the newest question. The result's
                ``dropped_messages`` tells, and the prompt is computed anew from the first turn that stays.
            scheduler: generates the replies of this conversation in one batch with its other requests.
            options: for every turn, unless ``send`` or ``stream`` gets others.
        """
        with importing:
            from gemlet.chat.conversation import Chat

        return Chat(
            self,
            system,
            history=history,
            template=template,
            template_variables=template_variables,
            tools=tools,
            context=context,
            overflow=overflow,
            scheduler=scheduler,
            **options,
        )

    def transcribe(
        self,
        audio: Any,
        *,
        language: str | None = None,
        timestamps: bool = False,
        on_text: Callable[[str], object] | None = None,
        progress: Callable[[float, float], object] | None = None,
        **options: Unpack[GenerateOptions],
    ) -> "Transcript":
        """Write down what is said in a recording of any length.

        It is cut in the pauses of speech into clips of at most 30 seconds, which the model was trained on. Where there
        is no pause, clips overlap, and the words that both have are said once. Silent clips are left out.

        Args:
            audio: an Audio, or the path of a file, which is decoded as it is transcribed and may have many hours; or
                bytes or a ``data:`` URL as Audio takes them.
            language: the language that is spoken, by its name or its code: ``Hungarian``, ``hu``. None: any.
            timestamps: cut into clips of 3 to 10 seconds, for subtitles: each segment has the times between two pauses.
                Less context makes for more mistakes.
            on_text: gets the text piece by piece; no piece is taken back.
            progress: gets the seconds that are done and all seconds, as the file claims them.
            options: as for ``generate``, but greedy (``temperature=0``), and with ``max_tokens`` for each clip, by
                default what fast speakers need and more.

        Raises:
            UnsupportedError: the model does not hear; or a library is missing that decodes the file.
            ArgumentError: an unknown language; the message lists those that are known.
            GemletError: what making an Audio raises.
        """
        with importing:
            from gemlet.speech.tasks import transcription
            from gemlet.speech.transcribing import write_down

        task = transcription(language, options)
        return write_down(self, audio, task, timestamps=timestamps, on_text=on_text, progress=progress)

    def translate(
        self,
        audio: Any,
        *,
        to: str,
        source: str | None = None,
        timestamps: bool = False,
        on_text: Callable[[str], object] | None = None,
        progress: Callable[[float, float], object] | None = None,
        **options: Unpack[GenerateOptions],
    ) -> "Transcript":
        """Translate what is said in a recording of any length, clip by clip.

        Args:
            audio: as for ``transcribe``, and so are the arguments that are not named here.
            to: the language to translate into, by its name or its code.
            source: the language that is spoken. None: any.

        Raises what ``transcribe`` does.
        """
        with importing:
            from gemlet.speech.tasks import translation
            from gemlet.speech.transcribing import write_down

        task = translation(to, source, options)
        return write_down(self, audio, task, timestamps=timestamps, on_text=on_text, progress=progress)

    def listen(
        self,
        *,
        language: str | None = None,
        on_text: Callable[[str], object] | None = None,
        **options: Unpack[GenerateOptions],
    ) -> "Listener":
        """Transcribe while it is recorded.

        >>> with model.listen(language="es") as ear:  # doctest: +SKIP
        ...     for block in microphone:
        ...         ear.feed(block)  # float32, one channel, 16 kHz
        ...     print(ear.text())

        The sound is encoded as it comes, and transcribed clip by clip, as ``transcribe`` does, whose arguments these
        are. Memory is bounded, however long it takes.
        """
        with importing:
            from gemlet.speech.listening import Listener
            from gemlet.speech.tasks import transcription

        return Listener(self, transcription(language, options), on_text)

    def _files(self) -> list[Path]:
        """The files that the model is made of: nothing that is written may replace them."""
        exported = self.path.iterdir() if self.path.is_dir() else ()
        return [*self._engine.files(), *self._media.files, *exported]

    def _prompt_tokens(self, prompt: Prompt) -> Sequence[int]:
        if len(prompt) == 0:
            raise ArgumentError("the prompt is empty; [model.bos] is the prompt for a completion from scratch")
        if not isinstance(prompt, (str, bytes)):
            return prompt
        data = to_bytes(prompt)
        require_room(self._engine, len(data), self.context)
        tokens = self._engine.tokenize(data, bos=True, special=True)
        return tokens[1:] if tokens[1:2] == [self.bos] else tokens

    def _check_length(self, length: int) -> None:
        if length > self.context:
            raise ContextError(f"{length} tokens do not fit into the context of {self.context}")


@checked
def load(
    path: str | os.PathLike[str],
    *,
    media: str | os.PathLike[str] | None = None,
    threads: int | None = None,
    context: int | None = None,
    cache: Literal["f16", "f32", "int8"] = "f16",
    chunk: int | None = None,
    slice: SliceLike | None = None,
    kernels: str | None = None,
    backend: Literal["core", "onnx", "tflite"] | None = None,
) -> Model:
    """Load a GGUF file, a folder that ``gemlet.export`` wrote, or a model by its name: ``gemlet.load("nano")`` is the
    sample that comes with gemlet. See gemlet.hub.names.find_model for the names; ``hf:`` ones are downloaded once.

    Args:
        path: the file, or a name; the file is mapped, not read, and has to stay as it is while the model is in use.
            Replacing it by renaming another over it is fine. Calls on a model whose file was truncated or overwritten
            raise FileError; docs/c_api.md says what is noticed of it, and of the handler of SIGBUS.
        media: the file of the encoders, for a model that sees and hears, by its path or name: an mmproj, which
            ``gemlet convert --mmproj`` writes, or llama.cpp's. By default those that the model's file holds, or an
            exported folder, if any.
        threads: by default one for each physical core that this process may use, within its quota of processor time
            (a container's limit): two threads of one core share its arithmetic and its way to memory. A slower core
            takes fewer pieces of the work, so that none waits for it.
        context: tokens that a session holds; by default the smaller of 8192 and what the model was trained for.
        cache: type of the keys and values; "int8" takes half the memory of "f16", "f32" is for tests.
        chunk: prompt tokens computed at a time, 256 by default: more is faster and takes more memory.
        slice: the part of a MatFormer model to use: 0.5 for the first half of every feed-forward layer, "e2b" for the
            E2B inside an E4B file, or a Slice. The weights stay mapped as they are; less of them is read.
        kernels: the instruction set whose kernels compute ("scalar", "avx2", ...); by default the best that this CPU
            runs.
        backend: the runtime that computes: "core", gemlet's own, for a GGUF file; "onnx" or "tflite" for an exported
            folder. By default what the path is for. Exported models take threads and a context only.

    Raises:
        FileError: the file cannot be opened or mapped.
        FormatError: the file is malformed or damaged.
        UnsupportedError: another architecture or type.
        ArgumentError: a setting out of range, or a slice that the model does not have.
    """
    file = find_model(path)
    if file.is_dir():
        own: dict[str, object] = {
            "cache": cache if cache != "f16" else None,
            "chunk": chunk,
            "slice": slice,
            "kernels": kernels,
        }
        if media is not None:
            raise ArgumentError(f"media: only for GGUF files, and {file} is an exported model")
        return _load_folder(file, backend, threads, context, own)
    if backend not in (None, "core"):
        raise ArgumentError(
            f"backend is {backend!r}, but {file} is for gemlet's core: export it first, with gemlet export"
        )
    settings = {"threads": threads, "context": context, "chunk": chunk}
    given = {name: value for name, value in settings.items() if value is not None}
    engine = _core.Engine.load(file, cache=cache, slice=slice_to_core(slice), kernels=kernels or "", **given)

    def encoders(source: Path) -> _core.Encoders:
        found = _core.Encoders.load(source, threads or 0, kernels or "")
        if found.hidden_size != (expected := engine.info()["hidden_size"]):
            raise ArgumentError(
                f"media: {source} has encoders for models with a hidden size of {found.hidden_size}, expected "
                f"{expected}, that of {file}"
            )
        return found

    if media is not None:
        media_file = find_model(media)
        loaded = encoders(media_file)
        return Model(engine, file, MediaEncoder(lambda: loaded, [media_file]))
    if engine.info()["encoder_bytes"]:
        return Model(engine, file, MediaEncoder(partial(encoders, file)))
    return Model(engine, file)


def _load_folder(
    folder: Path, backend: str | None, threads: int | None, context: int | None, own: dict[str, object]
) -> Model:
    """``own``: settings that only the core knows."""
    with importing:
        from gemlet.exported.engine import load as load_exported
        from gemlet.exported.manifest import NAME

    if not (folder / NAME).exists():
        if (folder / "config.json").exists():
            raise ArgumentError(
                f"{folder} is a checkpoint: make a model file of it first, with gemlet convert or gemlet export"
            )
        raise FileError(f"{folder}: a directory without {NAME}, expected a GGUF file or an exported model")
    if given := [name for name, value in own.items() if value is not None]:
        raise ArgumentError(f"{', '.join(given)}: only for GGUF files, and {folder} is an exported model")
    engine, encoders = load_exported(folder, backend=backend, threads=threads, context=context)
    return Model(engine, folder, MediaEncoder(encoders))
