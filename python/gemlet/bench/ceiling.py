"""The ceilings of this machine, in bandwidth and arithmetic, and how near the products of weights come to them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from gemlet import _core
from gemlet.errors import ArgumentError

BUFFER_BYTES = 512 << 20
"""Far more than any cache holds."""

_FLOATS = ("F32", "F16", "BF16")
_HALF_BYTES = ("Q4_0", "Q4_K")


@dataclass(frozen=True)
class Machine:
    """Rates per second with so many threads, the best of several passes."""

    kernels: str
    threads: int
    read_bandwidth: float
    """Bytes read from memory."""
    bytes: float
    """Multiply-adds of 8-bit codes, each sum in 32 bits, with the instructions of the kernel table."""
    half_bytes: float
    """Multiply-adds of 4-bit codes: where the instruction set adds products in 16 bits, eight fit one sum."""
    floats: float
    """Multiply-adds of float32."""

    def multiply_adds(self, type: str) -> float:
        """The rate that bounds products of weights of this type."""
        if type in _FLOATS:
            return self.floats
        return self.half_bytes if type in _HALF_BYTES else self.bytes


@dataclass(frozen=True)
class Product:
    """Rates per second of products of one type of weights, beside what the machine could do."""

    kernels: str
    threads: int
    type: str
    one_token: float
    """Bytes of weights streamed from memory for one token."""
    one_token_share: float
    """Share of the machine's read bandwidth."""
    many_tokens: float
    """Multiply-adds with 128 tokens."""
    many_tokens_share: float
    """Share of the machine's multiply-adds."""


COMMON_TYPES: Final = ("F32", "F16", "BF16", "Q4_0", "Q8_0", "Q4_K", "Q5_K", "Q6_K")
"""The weight types that converters write most; there are some thirty."""


def measure(
    threads: int,
    kernels: str = "",
    types: Sequence[str] | None = None,
    advance: Callable[[int, int], object] = lambda done, total: None,
) -> tuple[Machine, list[Product]]:
    """Measure the machine, then a product of each type.

    Args:
        threads: 0 for one on each physical core.
        kernels: the instruction set whose kernels compute; empty for the best that this CPU runs.
        types: weight types as GGUF names them; by default those that converters write most, none for the machine alone.
        advance: gets how many measurements are done, of how many.

    Raises:
        ArgumentError: a table or type that is not there, or too many threads.
        OutOfMemoryError: no room for the buffer.
    """
    core = _core.Ceiling(kernels, threads, BUFFER_BYTES)
    if unknown := set(types or ()) - set(core.types):
        raise ArgumentError(f"types: expected some of {', '.join(core.types)}, found {', '.join(sorted(unknown))}")
    wanted = COMMON_TYPES if types is None else types
    total = 4 + 2 * len(wanted)
    rates: list[float] = []

    def add(rate: float) -> float:
        rates.append(rate)
        advance(len(rates), total)
        return rate

    machine = Machine(
        kernels=core.kernels,
        threads=core.threads,
        read_bandwidth=add(core.read_bandwidth()),
        bytes=add(core.multiply_adds_of_bytes()),
        half_bytes=add(core.multiply_adds_of_half_bytes()),
        floats=add(core.multiply_adds_of_floats()),
    )
    products: list[Product] = []
    for type in wanted:
        one, many = add(core.one_token(type)), add(core.many_tokens(type))
        products.append(
            Product(
                kernels=machine.kernels,
                threads=machine.threads,
                type=type,
                one_token=one,
                one_token_share=one / machine.read_bandwidth,
                many_tokens=many,
                many_tokens_share=many / machine.multiply_adds(type),
            )
        )
    return machine, products
