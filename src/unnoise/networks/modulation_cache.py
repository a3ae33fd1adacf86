"""A cache of a frozen network's modulation, by noise level and condition."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from ..fields.condition import Condition
from ..fields.plain import plain

BYTES = 2**26  # bytes of cached modulation
KEY_BYTES = 2**20  # bytes of a level and a condition, above which the cache is not used


class ModulationCache:
    """The modulation at each (noise level, condition), by their values, computed once.

    weights: those of the modulation; if one of them was changed, the cache is emptied. Rows that
    are all alike are computed as one. If gradients, tangents or batched transforms pass through the
    level or the condition, and on other devices than the CPU (where reading values would wait for
    the device), the modulation is computed anew.
    """

    def __init__(self, weights: Sequence[Tensor]) -> None:
        self.weights = list(weights)
        self.forget()

    def forget(self) -> None:
        """Empty the cache, and take the weights as they are now."""
        self.kept: dict[Any, Any] = {}
        self.bytes, self.stamp = 0, self._stamp()

    def _stamp(self) -> list[tuple[int, int]]:
        return [(w.data_ptr(), w._version) for w in self.weights]

    def recall(
        self,
        modulation: Callable[[Tensor, Condition | None], Any],
        noise_level: Tensor,
        condition: Condition | None,
    ) -> Any:
        """Return modulation(noise_level, condition), of one row if all rows are alike."""
        given = {"": noise_level}
        if condition is not None:
            given |= _flat(condition.values) | _flat(condition.keep, "keep.")
        if not all(map(plain, given.values())):
            return modulation(noise_level, condition)
        if sum(tensor.numel() * tensor.element_size() for tensor in given.values()) > KEY_BYTES:
            return modulation(noise_level, condition)
        key = tuple((name, t.dtype, tuple(t.shape), _bytes(t)) for name, t in given.items())
        if self.stamp != self._stamp():
            self.forget()
        if key in self.kept:
            return self.kept[key]
        if all(bool((tensor == tensor[:1]).all()) for tensor in given.values()):
            noise_level, condition = noise_level[:1], None if condition is None else condition[:1]
        with torch.inference_mode(False), torch.no_grad():  # so that later calls can use it
            made = modulation(noise_level, condition)
        leaves = tree_leaves(made)
        if not all(isinstance(leaf, Tensor) for leaf in leaves):
            return made  # its size is unknown
        size = sum(t.numel() * t.element_size() for t in leaves)
        if self.bytes + size > BYTES:
            self.forget()
        if size <= BYTES:
            self.kept[key], self.bytes = made, self.bytes + size
        return made


def _bytes(tensor: Tensor) -> bytes:
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy().tobytes()


def _flat(tree: dict[str, Any], where: str = "condition.") -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name, value in tree.items():
        at = f"{where}{name}"
        found |= _flat(value, f"{at}.") if isinstance(value, dict) else {at: value}
    return found
