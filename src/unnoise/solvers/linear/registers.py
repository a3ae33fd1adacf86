"""Names for the tensors that a plan combines."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

from torch import Tensor

from .executor import Combination, StepCoefficients


class Registers:
    """Indices by name of the tensors at one evaluation: those kept, "value", and the results."""

    def __init__(self, kept: Sequence[Hashable]) -> None:
        self._place = {name: i for i, name in enumerate(kept)} | {"value": len(kept)}
        self._results: list[Combination | None] = []
        self._first = len(kept) + 1

    def __getitem__(self, name: Hashable) -> int:
        return self._place[name]

    def push(self, name: Hashable, result: Combination | None) -> int:
        """Name the result of a combination (None: a draw) and return its index."""
        self._results.append(result)
        self._place[name] = self._first + len(self._results) - 1
        return self._place[name]

    def alias(self, name: Hashable, index: int) -> None:
        """Give a tensor one more name."""
        self._place[name] = index

    def coefficients(
        self, k: int, keep: Iterable[Hashable], t: Tensor | None = None
    ) -> StepCoefficients:
        """Return the record of this evaluation."""
        kept = tuple(self._place[name] for name in keep)
        return StepCoefficients(k, tuple(self._results), kept, t)
