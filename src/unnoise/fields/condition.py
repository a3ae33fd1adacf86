"""Conditions: a tree of tensors with a leading batch dimension, and who keeps theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import InvalidArgument
from ..randomness import moved

Tree = dict[str, "Tensor | Tree"]


@dataclass(frozen=True)
class Condition:
    """What samples are conditioned on; where `keep` is False a sample has the null condition.

    values: name → tensor (batch, …), or a nested tree of them; keep: bool (batch,).
    """

    values: Tree
    keep: Tensor

    @staticmethod
    def of(given: Condition | Mapping[str, Any], batch: int) -> Condition:
        """A Condition for `batch` samples from plain numbers, lists or tensors.

        A number, or a tensor with one row, is meant for every sample. Raises
        InvalidArgument where a leading dimension is neither 1 nor `batch`.
        """
        if isinstance(given, Condition):
            if len(given.keep) != batch:
                raise InvalidArgument(
                    f"a condition for {len(given.keep)} samples, with a batch of {batch}"
                )
            return given

        def build(tree: Mapping[str, Any], where: str) -> Tree:
            out: Tree = {}
            for name, value in tree.items():
                if isinstance(value, Mapping):
                    out[name] = build(value, f"{where}{name}.")
                    continue
                try:
                    tensor = torch.as_tensor(value)
                except (TypeError, ValueError, RuntimeError) as error:
                    raise InvalidArgument(
                        f"condition {where}{name} is {value!r}; give numbers or a tensor"
                    ) from error
                if tensor.ndim == 0 or (len(tensor) == 1 and batch != 1):
                    tensor = tensor.reshape(1, *tensor.shape[1:]).expand(batch, *tensor.shape[1:])
                if len(tensor) != batch:
                    raise InvalidArgument(
                        f"condition {where}{name} has {len(tensor)} rows for {batch} samples; "
                        "give one value, or one per sample"
                    )
                out[name] = tensor
            return out

        return Condition(build(given, ""), torch.ones(batch, dtype=torch.bool))

    def __len__(self) -> int:
        return len(self.keep)

    def _map(self, change: Callable[[Tensor], Tensor]) -> Condition:
        return Condition(_apply(self.values, change), change(self.keep))

    def __getitem__(self, rows: slice | Tensor) -> Condition:
        return self._map(lambda value: value[rows])

    def to(self, device: torch.device | str) -> Condition:
        """The same condition on another device."""
        device = torch.device(device)
        if all(tensor.device == device for tensor in (self.keep, *_leaves(self.values))):
            return self
        return self._map(lambda value: moved(value, device))

    def leaves(self) -> list[Tensor]:
        """Every tensor of the tree."""
        return list(_leaves(self.values))

    def null(self) -> Condition:
        """The same values, every sample's condition dropped."""
        return Condition(self.values, torch.zeros_like(self.keep))

    def drop(self, dropped: Tensor) -> Condition:
        """The condition of the samples in the mask `dropped` (batch,) set to null."""
        return Condition(self.values, self.keep & ~dropped)

    @staticmethod
    def cat(parts: Sequence[Condition]) -> Condition:
        """The batches of several conditions, one after the other."""
        return Condition(
            _join([part.values for part in parts]), torch.cat([part.keep for part in parts])
        )


def _apply(tree: Tree, change: Callable[[Tensor], Tensor]) -> Tree:
    return {
        name: _apply(value, change) if isinstance(value, dict) else change(value)
        for name, value in tree.items()
    }


def _leaves(tree: Tree) -> Iterator[Tensor]:
    for value in tree.values():
        if isinstance(value, dict):
            yield from _leaves(value)
        else:
            yield value


def _join(trees: list[Tree]) -> Tree:
    def shape(tree: Tree) -> dict[str, bool]:
        return {name: isinstance(value, dict) for name, value in tree.items()}

    first = trees[0]
    if any(shape(tree) != shape(first) for tree in trees):
        raise InvalidArgument(
            f"conditions with different names: {[sorted(tree) for tree in trees]}; give trees of "
            "the same names"
        )
    return {
        name: _join([tree[name] for tree in trees])  # type: ignore[misc]
        if isinstance(first[name], dict)
        else torch.cat([tree[name] for tree in trees])  # type: ignore[misc]
        for name in first
    }
