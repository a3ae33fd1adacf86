"""One stream of random numbers per sample, the same on every device, batch and rank.

Sample i of seed s draws from a counter-based Philox generator with the 128-bit key (s, i), so
streams never collide and need no shared state; `purpose` selects a disjoint part of the counter
space, so that drawing labels does not shift the noise. Numbers are drawn on the CPU in float32
and then moved.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .errors import InvalidArgument

_LIMIT = 2**64


def moved(numbers: Tensor, device: torch.device) -> Tensor:
    """Return the numbers on a device, without waiting for a GPU's copy from pinned memory.

    Copies to Apple's GPUs are waited for: they may read memory that has been freed by then (pytorch
    issue 189690).
    """
    if device.type == "cuda" and numbers.device.type == "cpu":
        numbers = numbers.pin_memory()
    waits = numbers.device.type != "cpu" or device.type == "mps"
    return numbers.to(device, non_blocking=not waits)


class Streams:
    """Per-sample random streams: row k belongs to sample `indices[k]` of `seed`.

    Each draw continues every sample's own stream; what a sample receives depends on (seed, index,
    purpose) and on its own earlier draws only. Raises InvalidArgument for a seed or an index
    outside [0, 2⁶⁴).
    """

    __slots__ = ("_draws", "_generators", "_purpose", "indices", "seed")

    def __init__(self, seed: int, indices: Iterable[int], purpose: str = "") -> None:
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < _LIMIT:
            raise InvalidArgument(f"seed is {seed!r}; give a whole number from 0 to 2**64 - 1")
        self.seed = seed
        self.indices: Sequence[int] = (
            indices if isinstance(indices, range) else tuple(int(i) for i in indices)
        )
        if len(self.indices) and not (min(self.indices) >= 0 and max(self.indices) < _LIMIT):
            raise InvalidArgument(
                f"sample indices reach from {min(self.indices)} to {max(self.indices)}; "
                "each must lie in 0 to 2**64 - 1"
            )
        self._purpose = purpose
        self._generators: list[np.random.Generator] | None = None
        self._draws: list[tuple[str, tuple[int, ...], int]] = []

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, rows: slice) -> Streams:
        """Return the streams of some of the samples, from their beginning."""
        return Streams(self.seed, self.indices[rows], self._purpose)

    def purpose(self, name: str) -> Streams:
        """Return independent streams of the same samples, for another use."""
        return Streams(self.seed, self.indices, f"{self._purpose}/{name}")

    def mark(self) -> int:
        """Return the present position, to which `rewound` can return."""
        return len(self._draws)

    def rewound(self, mark: int = 0) -> Streams:
        """Return new streams of the same samples, at the position `mark` of these."""
        fresh = Streams(self.seed, self.indices, self._purpose)
        for kind, event, high in self._draws[:mark]:
            fresh._draw(kind, event, high)
        return fresh

    def normal(self, *event: int) -> Tensor:
        """Draw standard normal numbers, (n, *event), float32 on the CPU."""
        return self._draw("normal", event)

    def uniform(self, *event: int) -> Tensor:
        """Draw uniform numbers in [0, 1), (n, *event), float32 on the CPU."""
        return self._draw("uniform", event)

    def integers(self, high: int, *event: int) -> Tensor:
        """Draw whole numbers in [0, high), (n, *event), int64 on the CPU."""
        if not 1 <= high <= 2**63:
            raise InvalidArgument(f"whole numbers below {high!r}; give 1 to 2**63")
        return self._draw("integers", event, high)

    def _draw(self, kind: str, event: tuple[int, ...], high: int = 0) -> Tensor:
        self._draws.append((kind, event, high))
        if len(self._draws) == 1:  # mostly the only draw: one generator for all rows
            return torch.from_numpy(self._filled(self._one_after_another(), *self._draws[0]))
        if self._generators is None:
            self._generators = [np.random.Generator(self._philox(i)) for i in self.indices]
            for earlier in self._draws[:-1]:
                self._filled(self._generators, *earlier)
        return torch.from_numpy(self._filled(self._generators, kind, event, high))

    def _filled(
        self,
        generators: Iterable[np.random.Generator],
        kind: str,
        event: tuple[int, ...],
        high: int,
    ) -> np.ndarray:
        """Return the next numbers of each generator, a row each."""
        out = np.empty((len(self), *event), np.int64 if kind == "integers" else np.float32)
        if kind == "integers":
            for row, generator in enumerate(generators):
                out[row] = generator.integers(high, size=event)
        elif not event:
            for row, generator in enumerate(generators):
                normal = kind == "normal"
                out[row] = (generator.standard_normal if normal else generator.random)(
                    None, np.float32
                )
        else:
            for row, generator in zip(out, generators, strict=True):
                if kind == "normal":
                    generator.standard_normal(None, np.float32, row)
                else:
                    generator.random(None, np.float32, row)
        return out

    @property
    def _word(self) -> int:
        """The position of the purpose in the counter space."""
        if not self._purpose:
            return 0
        return int.from_bytes(hashlib.sha256(self._purpose.encode()).digest()[:8], "little")

    def _philox(self, index: int) -> np.random.Philox:
        return np.random.Philox(
            key=np.array([self.seed, index], np.uint64),
            counter=np.array([0, 0, 0, self._word], np.uint64),
        )

    def _one_after_another(self) -> Iterator[np.random.Generator]:
        """Yield the generator of each row at its beginning, valid until the next is requested.

        Setting the state of one generator costs a tenth of making another.
        """
        if not self.indices:
            return
        bits = self._philox(0)
        generator = np.random.Generator(bits)
        key = [self.seed, 0]
        state: Any = {
            **bits.state,
            "state": {"counter": [0, 0, 0, self._word], "key": key},
            "buffer": [0, 0, 0, 0],
        }
        for key[1] in self.indices:
            bits.state = state
            yield generator
