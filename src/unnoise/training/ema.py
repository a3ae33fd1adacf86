"""The exponential moving average of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..errors import InvalidArgument, need_count


class Ema:
    """A float32 average of parameters only: m ← m + (1 − d)·(w − m).

    With `gamma`, d = (1 − 1/k)^(γ+1) at update k = 1, 2, …: a power-function average, whose length
    is a constant share of the run so far (Karras et al. 2024, eq. 121). With `decay` instead,
    d = min(decay, k/(warmup + k − 1)), so that early weights lose their share quickly. `warm` is
    whether the warm-up is over.

    With `every` n only each nth update is averaged, with the product of the decays of all n: the
    length of the average is the same, each averaged set of weights stands for the n − 1 before it,
    and `averages` is up to n − 1 updates old; see `current`. Raises InvalidArgument unless exactly
    one of gamma and decay is given, in its range.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        gamma: float | None = None,
        decay: float | None = None,
        warmup: float = 10.0,
        every: int = 1,
    ) -> None:
        self.every = need_count("every", every)
        if (gamma is None) == (decay is None):
            raise InvalidArgument(f"EMA gamma {gamma!r}, decay {decay!r}; give one of the two")
        if gamma is not None and not 0 < gamma < float("inf"):
            raise InvalidArgument(f"EMA gamma is {gamma!r}; give a positive number")
        if decay is not None and (not 0 <= decay < 1 or not warmup >= 1):
            raise InvalidArgument(
                f"EMA decay {decay!r} with warmup {warmup!r}; give 0 ≤ decay < 1, warmup ≥ 1"
            )
        self.parameters = list(parameters)
        self.gamma, self.decay, self.warmup, self.updates = gamma, decay, warmup, 0
        self.averages = [p.detach().float().clone() for p in self.parameters]

    def rate(self) -> float:
        """Return the decay of the next update."""
        return self._decay(self.updates + 1)

    def _decay(self, k: int) -> float:
        if self.gamma is not None:
            return (1 - 1 / k) ** (self.gamma + 1)
        assert self.decay is not None
        return min(self.decay, k / (self.warmup + k - 1))

    @property
    def warm(self) -> bool:
        """Whether the warm-up is over: for `gamma`, whether it spans a hundred updates."""
        if self.gamma is not None:
            return self.updates >= 100 * (self.gamma + 1)
        return self.updates > 0 and self.rate() == self.decay

    def update(self) -> None:
        """Count an update, and average the present parameters if it is an nth one."""
        self.updates += 1
        if self.updates % self.every == 0:
            self._take(self.every, self.averages)

    def current(self) -> list[Tensor]:
        """Return copies of the averages, with the parameters since the last averaged update."""
        averages = [average.clone() for average in self.averages]
        if left := self.updates % self.every:
            self._take(left, averages)
        return averages

    @torch.no_grad()
    def _take(self, count: int, averages: list[Tensor]) -> None:
        decay = math.prod(self._decay(k) for k in range(self.updates - count + 1, self.updates + 1))
        now: list[Tensor] = [p.detach() for p in self.parameters]
        if any(p.dtype != torch.float32 for p in now):
            now = [p.float() for p in now]
        torch._foreach_lerp_(averages, now, 1 - decay)

    @contextmanager
    @torch.no_grad()
    def applied(self) -> Iterator[None]:
        """Set the parameters to the averages inside the context, and restore them afterwards."""
        kept = [p.detach().clone() for p in self.parameters]
        for p, average in zip(self.parameters, self.averages, strict=True):
            p.copy_(average)
        try:
            yield
        finally:
            for p, old in zip(self.parameters, kept, strict=True):
                p.copy_(old)
