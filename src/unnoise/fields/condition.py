"""Conditions by name: tensors with a leading batch dimension, and a keep mask for each name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import InvalidArgument, unknown
from ..randomness import moved

Tree = dict[str, "Tensor | Tree"]


@dataclass(frozen=True)
class Condition:
    """Values that samples are conditioned on, by name; a sample has the null of a name where the
    mask of that name is False.

    values: name → tensor (batch, …), or a nested tree of them. keep: name → bool (batch,); one mask
    given alone holds for every name. A condition without names fits every batch. Raises
    InvalidArgument where values and masks have different names.
    """

    values: Tree
    keep: dict[str, Tensor]

    def __post_init__(self) -> None:
        if isinstance(self.keep, Tensor):
            object.__setattr__(self, "keep", dict.fromkeys(self.values, self.keep))
        elif self.keep.keys() != self.values.keys():
            raise InvalidArgument(
                f"keep masks for {sorted(self.keep)} and values for {sorted(self.values)}; give "
                "one mask for each name"
            )

    @staticmethod
    def of(given: Condition | Mapping[str, Any], batch: int) -> Condition:
        """Return a Condition for `batch` samples from plain numbers, lists or tensors.

        Every name is kept. A number, or a tensor with one row, is meant for every sample. Raises
        InvalidArgument where a leading dimension is neither 1 nor `batch`.
        """
        if isinstance(given, Condition):
            if given.keep and len(given) != batch:
                raise InvalidArgument(
                    f"a condition for {len(given)} samples, with a batch of {batch}"
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

        values = build(given, "")
        places = {name: next(_leaves({name: value})).device for name, value in values.items()}
        keep = {n: torch.ones(batch, dtype=torch.bool, device=on) for n, on in places.items()}
        return Condition(values, keep)

    def __len__(self) -> int:
        return len(next(iter(self.keep.values()), ()))

    def map(self, change: Callable[[Tensor], Tensor]) -> Condition:
        """Return the condition with a function applied to every tensor, the masks among them."""
        return Condition(
            _apply(self.values, change), {name: change(mask) for name, mask in self.keep.items()}
        )

    def __getitem__(self, rows: slice | Tensor) -> Condition:
        return self.map(lambda value: value[rows])

    def to(self, device: torch.device | str) -> Condition:
        """Return the same condition on another device."""
        device = torch.device(device)
        if all(tensor.device == device for tensor in (*self.keep.values(), *self.leaves())):
            return self
        return self.map(lambda value: moved(value, device))

    def leaves(self, *names: str) -> list[Tensor]:
        """Return every tensor of the values, or those of some names."""
        return list(_leaves({name: self.values[name] for name in names or self.values}))

    def null(self, name: str | None = None) -> Condition:
        """Return the same values, with one name, or by default every name, dropped everywhere."""
        gone = list(self.keep) if name is None else [self._known(name)]
        masks = {name: torch.zeros_like(self.keep[name]) for name in gone}
        return Condition(self.values, self.keep | masks)

    def only(self, name: str) -> Condition:
        """Return the same values, with all other names dropped everywhere."""
        return Condition(self.values, self.null().keep | {name: self.keep[self._known(name)]})

    def drop(self, dropped: Tensor | Mapping[str, Tensor]) -> Condition:
        """Return the condition with the samples of a mask (batch,) set to null.

        dropped: name → mask, or one mask for every name. Raises InvalidArgument for other names.
        """
        masks = _everywhere(self.keep, dropped) if isinstance(dropped, Tensor) else dropped
        gone = {self._known(name): self.keep[name] & ~mask for name, mask in masks.items()}
        return Condition(self.values, self.keep | gone)

    @staticmethod
    def cat(parts: Sequence[Condition]) -> Condition:
        """Return the batches of several conditions of the same names, one after the other."""
        return Condition(
            _join([part.values for part in parts]),
            {name: torch.cat([part.keep[name] for part in parts]) for name in parts[0].keep},
        )

    def _known(self, name: str) -> str:
        if name not in self.keep:
            raise unknown("condition", name, self.keep)
        return name


def _everywhere(names: Iterable[str], mask: Tensor) -> dict[str, Tensor]:
    return dict.fromkeys(names, mask)


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
