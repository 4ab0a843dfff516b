"""What a model is asked to do with a clip of a recording. The words stand before the clip, as in the tests of
transformers; others say less often what Google's pages do."""


def transcribe(language: str | None) -> str:
    """To write down what is said, in a language by its name."""
    if language is None:
        return "Transcribe the following speech segment."
    return f"Transcribe the following speech segment in {language}:"


def translate(target: str, source: str | None) -> str:
    """To say in one language what is said in another."""
    if source is None:
        return f"Translate the following speech segment into {target}."
    return f"Translate the following speech segment from {source} into {target}:"
