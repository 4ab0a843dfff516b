"""The chat templates of the Gemma family that the core's turns implement, so that they need no Jinja."""

import hashlib

_TAKES_SYSTEM_TEXT = {
    # SHA-256 of the text without white space at its ends.
    "ecd6ae513fe103f0eb62e8ab5bfa8d0fe45c1074fa398b089c93a7e70c15cfd6": False,  # Gemma 1 and 2
    "8d9e3a3c114fb2053ec500184677af4f7e5f8ec2582443cd535834e68b3ade29": True,  # Gemma 3
    "9cae32b35b45454e9bd3673b4011701b77d38843622ab9b6e3f930bc503cf28a": True,  # Gemma 3n
    "83a8dfee15855cd6a8d6892eaf666504baff165d26c4600afeb986c2d1222cc1": True,  # nano, the sample model
}


def takes_system_text(source: str) -> bool | None:
    """Whether a published template takes a system message; None for another template."""
    return _TAKES_SYSTEM_TEXT.get(hashlib.sha256(source.strip().encode("utf-8", "replace")).hexdigest())
