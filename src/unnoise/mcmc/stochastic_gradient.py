"""Stochastic-gradient Langevin dynamics: a posterior's score from a few data at a time."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ..errors import InvalidArgument, need_count
from ..randomness import Streams


class MinibatchScore:
    """Estimate without bias ∇log p(x) + Σ_i ∇log p(y_i|x): N/n times that of n of the N data.

    prior(x): ∇log p(x), (batch, *event); likelihood(x, y): Σ_j ∇_x log p(y_j|x) for y (batch, n,
    *datum), (batch, *event); data: (N, *datum). Each chain draws its own n data at every call, with
    replacement, from its own stream. With a falling step,
    `langevin(MinibatchScore(…), x, steps, polynomial_decay(…), noise)` is Welling & Teh's (2011)
    stochastic-gradient Langevin dynamics (eq. 4, ε = 2h): the error of the estimate falls as h²,
    under the noise it adds, 2h. Raises InvalidArgument for empty data and a size below 1.
    """

    def __init__(
        self,
        prior: Callable[[Tensor], Tensor],
        likelihood: Callable[[Tensor, Tensor], Tensor],
        data: Tensor,
        size: int,
        noise: Streams,
    ) -> None:
        need_count("size of a minibatch", size)
        if len(data) == 0:
            raise InvalidArgument("a posterior of no data; give (N, *datum) with N at least 1")
        self.prior, self.likelihood, self.data, self.size = prior, likelihood, data, size
        self._noise = noise.purpose("minibatches")

    def __call__(self, x: Tensor) -> Tensor:
        chosen = self._noise.integers(len(self.data), self.size).to(self.data.device)
        scale = len(self.data) / self.size
        return self.prior(x) + scale * self.likelihood(x, self.data[chosen])


def polynomial_decay(
    first: float, last: float, steps: int, power: float = 0.55
) -> Callable[[int], float]:
    """Return h_k = a(b + k)^(−power) from `first` at step 0 to `last` at step `steps` − 1.

    The schedule of Welling & Teh (2011): a power in (0.5, 1] makes Σh infinite and Σh² finite.
    Raises InvalidArgument for other powers, and unless 0 < last < first and steps ≥ 2.
    """
    if not 0.5 < power <= 1:
        raise InvalidArgument(f"power is {power!r}; give a number in (0.5, 1]")
    if not 0 < last < first:
        raise InvalidArgument(f"steps from {first!r} to {last!r}; need 0 < last < first")
    need_count("steps", steps, 2)
    grown = (first / last) ** (1 / power)
    b = (steps - 1) / (grown - 1)
    return lambda k: first * (1 + k / b) ** -power
