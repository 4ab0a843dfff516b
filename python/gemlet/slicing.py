"""Parts of a MatFormer model that are smaller models."""

from dataclasses import dataclass

from gemlet import _core


@dataclass(frozen=True)
class Slice:
    """The first so many units of each feed-forward layer of a model, without some of its layers.

    MatFormer models (arXiv:2310.07707) are trained so that such a part works by itself; of Gemma 3n, E4B is one. Google
    publishes slices of it (google/gemma3n-slicing-configs on Hugging Face), which can be written down here as they are
    there; ``"e2b"`` stands for the one that is E2B.

    >>> e2b = Slice(ffn_widths=(8192,) * 30, dropped_layers=(20, 21, 22, 23, 24))

    A width has to be whole blocks of the type that the file stores ``ffn_down`` in: a multiple of 256 for K-quants and
    of 32 for Q8_0 and Q4_0. A layer whose keys and values a later layer reads cannot be dropped.
    """

    ffn_share: float = 1.0
    """Share of each layer's feed-forward width: more than 0, at most 1."""
    ffn_widths: tuple[int, ...] = ()
    """Instead: one width for all layers, or one for each layer that is kept."""
    dropped_layers: tuple[int, ...] = ()
    """By their numbers in the file, from 0."""
    of_layers: int = 0
    """Only for a model that has just so many layers; 0: for any."""


SliceLike = Slice | str | float
"""A share of the feed-forward width, a text as on the command line ("e2b", "ffn=8192:drop=20-24"), or a Slice."""


def to_core(slice: SliceLike | None) -> _core.Slice:
    """Raises ArgumentError for a text that is no slice."""
    if slice is None:
        return _core.Slice()
    if isinstance(slice, str):
        return _core.Slice.parse(slice)
    if isinstance(slice, Slice):
        return _core.Slice(
            ffn_share=slice.ffn_share,
            ffn_widths=slice.ffn_widths,
            dropped_layers=slice.dropped_layers,
            of_layers=slice.of_layers,
        )
    return _core.Slice(ffn_share=slice)
