"""The embedder of an encoder (transformers' Gemma 3n, MultimodalEmbedder): from what the encoder gives to embeddings of
the text model, and the table of the hard tokens around them."""

from __future__ import annotations

from gemlet.conversion.planned import Role

from .taken import Size, Taken


def take_soft_tokens(taken: Taken, source: str, name: str, *, vocabulary: int, width: Size, hidden: int) -> None:
    """`source` and `name` are what the tensors' names begin with, in the checkpoint and in the file."""
    taken.matrix(f"{name}embedding.weight", f"{source}embedding.weight", vocabulary, width, Role.TABLE)
    taken.vector(f"{name}hard_emb_norm.weight", f"{source}hard_embedding_norm.weight", width)
    taken.vector(f"{name}soft_emb_norm.weight", f"{source}soft_embedding_norm.weight", width)
    projection = "embedding_projection.weight"
    taken.matrix(f"{name}input_projection.weight", f"{source}{projection}", hidden, width, Role.GLUE)
