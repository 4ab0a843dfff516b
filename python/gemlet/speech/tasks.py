"""What a model is asked to do with each clip of a recording.

The words stand before the clip, as in the tests of transformers.
"""

from dataclasses import dataclass

from gemlet.options import GenerateOptions
from gemlet.speech.languages import language_name


@dataclass(frozen=True)
class Task:
    """A request, and how it is answered."""

    prompt: str
    language: str | None
    """The name of the language that the text is in, if it is known."""
    options: GenerateOptions


def transcription(language: str | None, options: GenerateOptions) -> Task:
    """To write down what is said. Raises ArgumentError for an unknown language."""
    if language is None:
        return Task("Transcribe the following speech segment.", None, options)
    name = language_name(language)
    return Task(f"Transcribe the following speech segment in {name}:", name, options)


def translation(to: str, source: str | None, options: GenerateOptions) -> Task:
    """To say in one language what is said in another. Raises ArgumentError for an unknown one."""
    target = language_name(to, "to")
    if source is None:
        return Task(f"Translate the following speech segment into {target}.", target, options)
    spoken = language_name(source, "source")
    return Task(f"Translate the following speech segment from {spoken} into {target}:", target, options)
