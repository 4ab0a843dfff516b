"""Taking a checkpoint's tensors one by one, in the order of a forward pass, which tells the shape of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gemlet.conversion.checkpoint import StoredTensor, describe_shape
from gemlet.conversion.planned import PlannedTensor, Role

Size = int | None
"""The length of an axis; None where it is what the tensor says, or that of a tensor that is missing."""


class Taken:
    """The planned tensors of encoders, each with its role, and what is wrong with the checkpoint's."""

    def __init__(self, stored: dict[str, StoredTensor]) -> None:
        self.stored = stored
        self.planned: list[tuple[PlannedTensor, Role]] = []
        self.problems: list[str] = []
        self._left = set(stored)

    def vector(self, name: str, source: str, size: Size, shift: float = 0.0) -> Size:
        """A norm, a bias or another scale, to which `shift` is added. Returns its size."""
        return self._as_it_is(name, source, (size,), Role.VECTOR, shift)

    def channels(self, name: str, source: str, size: Size) -> Size:
        """A value for each channel of a map, which llama.cpp's graph adds or multiplies as [1, channels, 1, 1]."""
        found = self._find(source, (size,))
        if found is None:
            return size
        return self._plan(
            PlannedTensor(name, found.shape, (source,), found.shape), Role.VECTOR, (1, *found.shape, 1, 1)
        )

    def zero_channels(self, name: str, size: Size) -> None:
        """The same for values that the checkpoint does not have."""
        if size is not None:
            self._plan(PlannedTensor(name, (size,), (), ()), Role.VECTOR, (1, size, 1, 1))

    def matrix(self, name: str, source: str, rows: Size, cols: Size, role: Role = Role.LAYER) -> Size:
        """The weight of a linear layer, or a table. Returns the rows."""
        return self._as_it_is(name, source, (rows, cols), role)

    def pointwise(self, name: str, source: str, outputs: Size, inputs: Size, role: Role = Role.LAYER) -> Size:
        """A 1x1 convolution, which is a matrix. Returns the output channels."""
        found = self._find(source, (outputs, inputs, 1, 1))
        if found is None:
            return outputs
        matrix = found.shape[:2]
        return self._plan(PlannedTensor(name, matrix, (source,), matrix), role, found.shape)

    def convolution(self, name: str, source: str, shape: Sequence[Size], role: Role = Role.KERNEL) -> Size:
        """Another convolution. Returns the output channels."""
        return self._as_it_is(name, source, shape, role)

    def leave(self, beginning: str) -> None:
        """Tensors whose names begin so may be there and are not used."""
        self._left = {source for source in self._left if not source.startswith(beginning)}

    def complain_of_the_rest(self) -> None:
        """Note every tensor that was not taken."""
        for source in self._left:
            found = self.stored[source]
            self.problems.append(f"extra: {found.name} {list(found.shape)}")

    def _find(self, source: str, shape: Sequence[Size]) -> StoredTensor | None:
        """The tensor, if it is there and fits."""
        self._left.discard(source)
        found = self.stored.get(source)
        problem = f"missing: {source} {describe_shape(shape)}" if found is None else found.misfit(shape)
        if problem is None:
            return found
        self.problems.append(problem)
        return None

    def _as_it_is(self, name: str, source: str, shape: Sequence[Size], role: Role, shift: float = 0.0) -> Size:
        found = self._find(source, shape)
        if found is None:
            return shape[0]
        return self._plan(PlannedTensor(name, found.shape, (source,), found.shape, shift=shift), role)

    def _plan(self, tensor: PlannedTensor, role: Role, header_shape: tuple[int, ...] = ()) -> int:
        self.planned.append((replace(tensor, header_shape=header_shape), role))
        return tensor.shape[0]
