"""What a frozen network's steering was at the noise levels and conditions it has met."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from ..fields.condition import Condition
from ..fields.plain import plain

BYTES = 2**26  # of steering kept
KEY_BYTES = 2**20  # of a level and a condition, above which nothing is looked up


class Memory:
    """The steering at each (noise level, condition), by their values, computed once.

    weights: of the steering; where one of them was changed since, all is forgotten. Rows that are
    all alike are computed as one. Where gradients, tangents or batched transforms pass through the
    level or the condition, and on other devices than the CPU (reading values there would wait for
    the device), it is computed afresh.
    """

    def __init__(self, weights: Sequence[Tensor]) -> None:
        self.weights = list(weights)
        self.forget()

    def forget(self) -> None:
        """Start anew, with the weights as they are now."""
        self.kept: dict[Any, Any] = {}
        self.bytes, self.stamp = 0, self._stamp()

    def _stamp(self) -> list[tuple[int, int]]:
        return [(w.data_ptr(), w._version) for w in self.weights]

    def recall(
        self,
        steering: Callable[[Tensor, Condition | None], Any],
        noise_level: Tensor,
        condition: Condition | None,
    ) -> Any:
        """steering(noise_level, condition), of one row where all rows are alike."""
        given = {"": noise_level}
        if condition is not None:
            given |= _flat(condition.values) | _flat(condition.keep, "keep.")
        if not all(map(plain, given.values())):
            return steering(noise_level, condition)
        if sum(tensor.numel() * tensor.element_size() for tensor in given.values()) > KEY_BYTES:
            return steering(noise_level, condition)
        key = tuple((name, t.dtype, tuple(t.shape), _bytes(t)) for name, t in given.items())
        if self.stamp != self._stamp():
            self.forget()
        if key in self.kept:
            return self.kept[key]
        if all(bool((tensor == tensor[:1]).all()) for tensor in given.values()):
            noise_level, condition = noise_level[:1], None if condition is None else condition[:1]
        with torch.inference_mode(False), torch.no_grad():  # stored for any later call
            made = steering(noise_level, condition)
        leaves = tree_leaves(made)
        if not all(isinstance(leaf, Tensor) for leaf in leaves):
            return made  # of unknown size
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
