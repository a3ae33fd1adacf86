"""SA-Solver: stochastic Adams steps with a corrector (Xue et al. 2023)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ...errors import InvalidArgument, need_count, need_known
from ...paths import GaussianPath, VPLinear
from ..registry import preset
from ..solver import Solver
from .direction import X0
from .moves import Levels, Move, MultistepSolver, Shares
from .weights import step_weights

SA_RULES = ("published", "exact")
_ANY = VPLinear()  # weights in log-SNR do not depend on the path


@dataclass(frozen=True)
class SaSolver(MultistepSolver):
    """The reverse SDE whose noise is τ times that of the full one, by Adams steps on x0.

    x₁ = (σ₁/σ₀)·e^{−τ²h}·x + α₁·(1+τ²)·∫ e^{(1+τ²)(λ−λ₁)}·x0(λ) dλ + σ₁·√(1 − e^{−2τ²h})·ξ,
    x0(λ) the polynomial through the last `points` ones; the corrector (eq. 17) redoes the step
    with the same ξ and the x0 at its end among `corrector` nodes (0: none). τ is constant in a
    step: `tau` where the step starts at a time in `interval`, 0 elsewhere. rule "published" rounds
    the slope of two nodes to half of its leading term, as the authors' code does; "exact" does not.
    lower_last: a step never uses more points than steps remain, as diffusers does.

    Orders: τ = 0, min(points + 1, corrector), or points without a corrector; weak order 2 at
    most (on linear fields 3 with a corrector of 3 nodes or more).
    Raises InvalidArgument for impossible settings.
    """

    points: int = 2
    corrector: int = 2
    tau: float = 1.0
    interval: tuple[float, float] = (0.0, 1.0)
    rule: str = "published"
    lower_last: bool = False

    def __post_init__(self) -> None:
        need_count("points", self.points)
        need_count("corrector", self.corrector, 0)
        if self.corrector > self.points + 1:
            raise InvalidArgument(
                f"a corrector of {self.corrector} nodes, and {self.points} points are kept: give "
                f"at most {self.points + 1}"
            )
        if not 0 <= self.tau < math.inf:
            raise InvalidArgument(f"tau is {self.tau!r}; give a number ≥ 0")
        low, high = self.interval
        if not 0 <= low < high <= 1:
            raise InvalidArgument(f"interval is {self.interval!r}; need 0 ≤ low < high ≤ 1")
        if self.tau == 0 and self.interval != (0.0, 1.0):
            raise InvalidArgument(f"interval={self.interval!r} changes nothing where tau is 0")
        need_known("rule of SA-Solver", self.rule, SA_RULES)

    @property
    def stochastic(self) -> bool:  # type: ignore[override]
        return self.tau > 0

    @property
    def order(self) -> int:  # type: ignore[override]
        reached = min(self.points + 1, self.corrector) if self.corrector else self.points
        return min(reached, 2) if self.tau else reached

    def moves(self, path: GaussianPath, times: tuple[float, ...], levels: Levels) -> Iterator[Move]:
        lam, steps = levels.lam, len(times) - 1
        for k in range(steps):
            tau = self.tau if self.interval[0] <= times[k] <= self.interval[1] else 0.0
            grown = tau**2 * (lam[k + 1] - lam[k]) if tau else 0.0
            aim = levels.sigma[k + 1] * math.exp(-grown)
            noise = levels.sigma[k + 1] * math.sqrt(-math.expm1(-2 * grown))

            def step(nodes: list[int], k=k, tau=tau, aim=aim) -> tuple[float, Shares]:
                return levels.step(X0, k, nodes, self._weights(lam, k, nodes, tau), aim)

            points = min(self.points, steps - k) if self.lower_last else self.points
            correct = None
            # a corrector needs the evaluation at the end, and an end with a finite log-SNR
            if self.corrector and k + 1 < steps:
                count = min(self.corrector, steps - k + 1) if self.lower_last else self.corrector
                correct = step([k + 1, *range(k, max(k + 1 - count, -1), -1)])
            yield Move(*step(list(range(k, max(k - points, -1), -1))), noise, correct)

    def _weights(self, lam: list[float], k: int, nodes: list[int], tau: float) -> tuple[float, ...]:
        """Return ŵ in the order of `nodes`, with that of the step's start found first."""
        if k not in nodes:  # a corrector of one node: the end alone
            return (1.0,)
        order, stretch = sorted(nodes, key=lambda j: j != k), 1 + tau**2
        places = [lam[j] for j in order]
        if (
            self.rule == "published"
            and len(nodes) == 2
            and all(map(math.isfinite, [*places, lam[k + 1]]))
        ):
            h = lam[k + 1] - lam[k]
            share = 0.5 * stretch * h / -math.expm1(-stretch * h) / ((places[1] - places[0]) / h)
            values = [1 - share, share]
        else:
            values = step_weights(_ANY, "log_snr", places, lam[k + 1], X0, "exact", stretch)
        found = dict(zip(order, values, strict=True))
        return tuple(found[j] for j in nodes)


@preset
def sa_solver(
    points: int = 2,
    corrector: int = 2,
    tau: float = 1.0,
    rule: str = "published",
    first: float = 0.0,
    last: float = 1.0,
    lower_last: bool = False,
) -> Solver:
    """SA-Solver (Xue et al. 2023): points, nodes of the corrector, τ between two times."""
    return SaSolver(points, corrector, tau, (first, last), rule, lower_last)
