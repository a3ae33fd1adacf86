"""ParaDiGMS: many steps of a walk at once, by Picard iteration (Shih et al. 2023)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InvalidArgument, need_count
from ..fields.field import Field
from ..fields.lenses import conversion
from ..paths import GaussianPath, expand
from .multistep import Multistep
from .solver import Noise, OnStep, Solution, Solver, Times

X0, EPS = "x0", "eps"


@dataclass(frozen=True)
class ParallelSolution(Solution):
    """`passes` counts what a sample's network passes cost in all, `rounds` how many of them had to
    wait for others: with enough devices the time is that of `rounds`. The largest of the batch."""

    rounds: int


@dataclass(frozen=True)
class Parallel(Solver):
    """DDIM or ancestral steps x₊ = Φₗ(x) + ςₗ·ξₗ, `window` of them a round (alg. 1).

    With x₀ … x_w a guess of the window's states, every drift Φₗ(xₗ) + ςₗξₗ − xₗ is found at once,
    and x_{j+1} = x₀ + Σ_{l≤j} drift_l. The noise of every step is drawn beforehand, as the
    sequential walk draws it. A window moves on past every state that changed by no more than
    the tolerance, ‖Δx_j‖²/D ≤ tolerance²·ς_j², ς_j² the variance of q(x_j|x_{j−1}, x0), that
    of full noise whatever eta (the paper's σ_j²), and at least by one, which is exact. The fixed
    point is the sequential walk: tolerance=0 reaches it.

    Every sample has a window of its own, so that it does not depend on the batch; the field is
    asked with a time for each row. eta as for `Multistep`. on_step sees what each round asked, as
    step number the round's. Raises InvalidArgument for impossible settings.
    """

    window: int = 16
    tolerance: float = 0.1
    eta: float = 0.0

    def __post_init__(self) -> None:
        need_count("window", self.window)
        if not 0 <= self.tolerance < math.inf:
            raise InvalidArgument(f"tolerance is {self.tolerance!r}; give a number ≥ 0")
        if not 0 <= self.eta <= 1:
            raise InvalidArgument(f"eta is {self.eta!r}; give a number from 0 to 1")

    @property
    def order(self) -> int:  # type: ignore[override]
        return 1

    @property
    def stochastic(self) -> bool:  # type: ignore[override]
        return self.eta > 0

    def refusal(self, path: GaussianPath, start: float, end: float) -> str | None:
        return Multistep(1, eta=self.eta).refusal(path, start, end)

    def walk(
        self, field: Field, x: Tensor, times: Times, noise: Noise | None, on_step: OnStep | None
    ) -> ParallelSolution:
        table, batch, total = _Table.of(self, field.path, times), len(x), times.steps
        every = torch.tensor(times.floats, dtype=torch.float64, device=x.device)
        states = x.expand(total + 1, *x.shape).clone()
        added = [torch.zeros_like(x)] * total
        if self.stochastic and noise is not None:
            added = [
                noise.normal(*x.shape[1:]).to(device=x.device, dtype=x.dtype) * spread
                for spread in table.spread
            ]
        begun = [0] * batch  # where each sample's window begins: all states up to it are final
        rounds, nfe = [0] * batch, [0] * batch
        count = 0
        while any(at < total for at in begun):
            rows = [
                (k, i)
                for i, at in enumerate(begun)
                for k in range(at, min(at + self.window, total))
            ]
            steps, samples = (
                torch.tensor(part, device=x.device) for part in zip(*rows, strict=True)
            )
            prediction = field(states[steps, samples], every[steps])
            if on_step is not None and on_step(count, prediction) is False:
                at = min(begun)
                cost = max(p + prediction.nfe for p in nfe)
                return ParallelSolution(
                    torch.stack([states[b, i] for i, b in enumerate(begun)]),
                    times.floats[at], at, cost, False, count + 1,
                )  # fmt: skip
            count += 1
            on_x, on_value = table.rows(field.path, prediction.lens, times, x.device)
            moved = expand(on_x[steps], prediction.x_t) * prediction.x_t
            moved = moved + expand(on_value[steps], prediction.x_t) * prediction.value
            at = 0
            for i in range(batch):
                width = min(self.window, total - begun[i])
                if width == 0:
                    continue
                mine = slice(at, at + width)
                at += width
                rounds[i] += 1
                nfe[i] += width * prediction.nfe
                begun[i] += self._settle(states, added, moved[mine], i, begun[i], width, table)
        return ParallelSolution(states[total], times.floats[-1], total, max(nfe), True, max(rounds))

    def _settle(
        self,
        states: Tensor,
        added: list[Tensor],
        moved: Tensor,
        i: int,
        first: int,
        width: int,
        table: _Table,
    ) -> int:
        """One sample's new states of its window; how far the window moves on."""
        old = states[first + 1 : first + width + 1, i].clone()
        steps = range(first, first + width)
        ends = torch.stack([moved[k - first] + added[k][i] for k in steps])
        new = states[first, i] + (ends - states[first : first + width, i]).cumsum(0)
        new[0] = ends[0]  # exact: its start is final
        states[first + 1 : first + width + 1, i] = new
        change = (new - old).flatten(1).square().mean(1).tolist()
        far = 1
        while far < width and change[far] <= self.tolerance**2 * table.limit[first + far]:
            far += 1
        if first + far < len(states) - 1:  # the states that enter the window begin as its last
            states[first + width + 1 : first + width + far + 1, i] = new[-1]
        return far


@dataclass(frozen=True)
class _Table:
    """aim and ς of every step, and the variance that its end's change is compared with."""

    aim: tuple[float, ...]
    spread: tuple[float, ...]
    limit: tuple[float, ...]

    @staticmethod
    def of(solver: Parallel, path: GaussianPath, times: Times) -> _Table:
        t = torch.tensor(times.floats, dtype=torch.float64)
        sigma, lam = path.sigma(t).tolist(), path.log_snr(t).tolist()
        aim, spread, limit = [], [], []
        for k in range(times.steps):
            h = lam[k + 1] - lam[k]
            full = sigma[k + 1] * math.sqrt(-math.expm1(-2 * h))
            spread.append(solver.eta * full)
            limit.append(full**2)
            aim.append(
                sigma[k + 1] * math.exp(-h)
                if solver.eta == 1
                else math.sqrt(max(sigma[k + 1] ** 2 - spread[-1] ** 2, 0.0))
            )
        return _Table(tuple(aim), tuple(spread), tuple(limit))

    def rows(
        self, path: GaussianPath, lens: str, times: Times, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """(on x, on the network's value) of every step: α₁·x0 + aim·ε."""
        t = torch.tensor(times.floats, dtype=torch.float64)
        alpha, aim = path.alpha(t[1:]), torch.tensor(self.aim, dtype=torch.float64)
        x0, eps = (conversion(path, lens, name, t[:-1]) for name in (X0, EPS))
        parts = (alpha * a + aim * b for a, b in zip(x0, eps, strict=True))
        on_x, on_value = (part.to(device) for part in parts)
        return on_x, on_value
