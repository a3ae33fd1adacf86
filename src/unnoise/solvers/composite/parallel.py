"""ParaDiGMS: many steps of a walk at once, by Picard iteration (Shih et al. 2023)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from ...errors import InvalidArgument, need_count
from ...paths import GaussianPath, expand
from ..linear.direction import no_start
from ..linear.one_step import DDIM, noise_added
from ..solver import Noise, Outcome, Solution, Solver, Steps, TimeGrid, draw


@dataclass(frozen=True)
class ParallelSolution(Solution):
    """A Solution with its `rounds`: how many evaluations had to wait for one another.

    With enough devices the time is that of `rounds`; `nfe` is that of the most expensive sample
    (where on_step interrupts, in the rounds before).
    """

    rounds: int


@dataclass(frozen=True)
class Parallel(Solver):
    """Take DDIM or ancestral steps x₊ = Φₗ(x) + ςₗ·ξₗ, `window` of them a round (alg. 1).

    With x₀ … x_w a guess of the window's states, every drift Φₗ(xₗ) + ςₗξₗ − xₗ is found at once,
    and x_{j+1} = x₀ + Σ_{l≤j} drift_l. The noise of every step is drawn beforehand, in the order
    of the sequential solver. A window moves on past every state that changed by ‖Δx_j‖²/D ≤
    tolerance²·ς_j², ς_j² the variance of q(x_j|x_{j−1}, x0) whatever eta (the paper's σ_j²), and
    at least by one, which is exact. The fixed point, at tolerance=0, is the sequential trajectory.

    Every sample has its own window and does not depend on the batch: the field is evaluated on
    (rows, *event), a time for each row, and a condition bound to it must broadcast over rows. eta
    as for the preset ddim. on_step receives each round's Prediction, numbered by rounds; where it
    interrupts, x is the latest state that is final for all. Raises InvalidArgument for impossible
    settings.
    """

    window: int = 16
    tolerance: float = 0.1
    eta: float = 0.0
    order = 1

    def __post_init__(self) -> None:
        need_count("window", self.window)
        if not 0 <= self.tolerance < math.inf:
            raise InvalidArgument(f"tolerance is {self.tolerance!r}; give a number ≥ 0")
        if not 0 <= self.eta <= 1:
            raise InvalidArgument(f"eta is {self.eta!r}; give a number from 0 to 1")

    @property
    def stochastic(self) -> bool:  # type: ignore[override]
        return self.eta > 0

    def why_unsupported(self, path: GaussianPath, start: float, end: float) -> str | None:
        return no_start((1.0, 0.0), path, start)

    def steps(self, path: GaussianPath, x: Tensor, grid: TimeGrid, noise: Noise | None) -> Steps:
        batch, total = len(x), grid.steps
        every = torch.tensor(grid.floats, dtype=torch.float64, device=x.device)
        full = [_full_noise(path, *ends) for ends in pairwise(grid.floats)]
        states = x.expand(total + 1, *x.shape).clone()
        added = [torch.zeros_like(x)] * total
        if self.stochastic:
            added = [draw(noise, x) * (self.eta * spread) for spread in full]
        begun = [0] * batch  # where each sample's window begins: all states up to it are final
        nfe, rounds, moves = [0] * batch, 0, torch.empty(0)
        while min(begun, default=total) < total:
            windows = [range(at, min(at + self.window, total)) for at in begun]
            rows = [(k, i) for i, window in enumerate(windows) for k in window]
            steps, samples = torch.tensor(rows, device=x.device).unbind(1)
            try:
                prediction = yield states[steps, samples], every[steps], rounds
            except GeneratorExit:
                at = min(begun)
                report = {"t": grid.floats[at], "steps": at, "nfe": max(nfe), "rounds": rounds + 1}
                return Outcome(states[at], ParallelSolution, report)
            if not rounds:
                one = partial(DDIM(self.eta).transition, path, prediction.lens)
                moves = torch.tensor(
                    [one(*ends)[:2] for ends in pairwise(grid.floats)], dtype=torch.float64
                ).to(x.device)
            rounds += 1
            on_x, on_value = (expand(part, prediction.x_t) for part in moves[steps].unbind(1))
            moved = on_x * prediction.x_t + on_value * prediction.value
            for i, window in enumerate(windows):
                mine, moved = moved[: len(window)], moved[len(window) :]
                if window:
                    nfe[i] += len(window) * prediction.nfe
                    begun[i] += self._settle(states, added, mine, i, window, full)
        return Outcome(states[total], ParallelSolution, {"nfe": max(nfe), "rounds": rounds})

    def _settle(
        self,
        states: Tensor,
        added: list[Tensor],
        moved: Tensor,
        i: int,
        window: range,
        full: list[float],
    ) -> int:
        """Write the new states of one sample's window; return how far the window moves on."""
        first, last = window.start, window.stop
        old = states[first + 1 : last + 1, i].clone()
        ends = torch.stack([moved[k - first] + added[k][i] for k in window])
        new = states[first, i] + (ends - states[first:last, i]).cumsum(0)
        new[0] = ends[0]  # exact: its start is final
        states[first + 1 : last + 1, i] = new
        change = (new - old).flatten(1).square().mean(1).tolist()
        far = 1
        while far < len(window) and change[far] <= (self.tolerance * full[first + far]) ** 2:
            far += 1
        # the states that enter the window begin as its last
        states[last + 1 : last + far + 1, i] = new[-1]
        return far


def _full_noise(path: GaussianPath, t: float, s: float) -> float:
    """Return the deviation of q(x_s|x_t, x0), the noise that an ancestral step adds."""
    h = float(path.log_snr(s)) - float(path.log_snr(t))
    return noise_added(1.0, float(path.sigma(s)), h)[1]
