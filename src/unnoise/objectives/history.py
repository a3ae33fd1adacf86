"""A history of losses, by which steps are drawn (Nichol & Dhariwal 2021, sec. 3.3)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import DataError, InvalidArgument, need_count
from ..randomness import Streams


class LossHistory:
    """A distribution of steps: step n of T has p_n ∝ √E[L_n²], its loss the weight 1/(T·p_n).

    The mean is over the last `keep` losses of each step; until every step has as many, steps are
    drawn evenly. A share `uniform` of the draws stays even, so that every step is drawn at times.
    Holds state: draws depend on the losses recorded before, which `state` and `load_state` save and
    restore exactly. Raises InvalidArgument for impossible settings.
    """

    def __init__(self, keep: int = 10, uniform: float = 0.001) -> None:
        if not 0 < uniform <= 1:
            raise InvalidArgument(f"uniform is {uniform!r}; give a share above 0, at most 1")
        self.keep, self.uniform = need_count("keep", keep), uniform
        self.losses = torch.zeros(0, self.keep, dtype=torch.float64)
        self.counts = torch.zeros(0, dtype=torch.int64)

    def __repr__(self) -> str:
        return f"LossHistory(keep={self.keep}, uniform={self.uniform})"

    def _size(self, count: int) -> None:
        if not len(self.counts):
            self.losses = torch.zeros(count, self.keep, dtype=torch.float64)
            self.counts = torch.zeros(count, dtype=torch.int64)
        if len(self.counts) != count:
            raise InvalidArgument(
                f"a history of {len(self.counts)} steps for a bound of {count}; start a new one"
            )

    @property
    def warm(self) -> bool:
        """True if `keep` losses of every step are recorded."""
        return bool(len(self.counts)) and int(self.counts.min()) >= self.keep

    def probabilities(self, count: int) -> Tensor:
        """Return p_1 … p_T, float64, T = `count`."""
        self._size(count)
        even = torch.full((count,), 1 / count, dtype=torch.float64)
        size = self.losses.square().mean(1).sqrt()
        if not self.warm or not bool(size.sum() > 0):
            return even
        return (1 - self.uniform) * size / size.sum() + self.uniform * even

    def draw(self, count: int, noise: Streams) -> tuple[Tensor, Tensor]:
        """Draw the step, (batch,) int64 of 1..T, and its loss's weight, (batch,) float64."""
        chance = self.probabilities(count)
        edges = chance.cumsum(0)
        u = noise.uniform().double() * edges[-1]
        index = torch.searchsorted(edges, u, right=True).clamp(max=count - 1)
        return index + 1, 1 / (count * chance[index])

    def note(self, steps: Tensor, losses: Tensor) -> None:
        """Record the unweighted losses (batch,) of steps (batch,) of 1..T, row by row.

        Losses that are not finite are left out: they would make every later draw impossible.
        """
        for step, loss in zip(steps.tolist(), losses.detach().double().tolist(), strict=True):
            if not math.isfinite(loss):
                continue
            self.losses[step - 1, int(self.counts[step - 1]) % self.keep] = loss
            self.counts[step - 1] += 1

    def state(self) -> dict[str, Tensor]:
        """Return all tensors on which later draws depend."""
        return {"losses": self.losses.clone(), "counts": self.counts.clone()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` returned; raises DataError for the state of another history."""
        losses, counts = state.get("losses"), state.get("counts")
        if losses is None or counts is None or losses.shape != (len(counts), self.keep):
            raise DataError(
                f"the saved state is no loss history of {self.keep} losses a step; go on with the "
                "recipe that wrote it, or start a new run"
            )
        self.losses, self.counts = losses.double().clone(), counts.long().clone()
