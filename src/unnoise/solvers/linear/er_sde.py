"""ER-SDE-Solver: reverse SDEs with any noise scale (Cui et al. 2023)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ...errors import need_count, need_known
from ...paths import GaussianPath
from ..registry import preset
from ..solver import Solver
from .direction import X0
from .moves import Levels, Move, MultistepSolver
from .weights import lagrange

ER_RULES = ("published", "exact")
# log(φ(s)/s) of the noise scale φ, s = σ/α: increasing in s; constant for the probability flow
SCALES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "er_sde": lambda s: np.logaddexp(s**0.3, math.log(10)),
    "sde": lambda s: np.log(s),
    "ode": lambda s: np.zeros_like(s),
}
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(40)


@dataclass(frozen=True)
class ErSde(MultistepSolver):
    """The SDE of noise scale φ(s), s = σ/α, by steps on x0 that are polynomials in s.

    With r = φ(s₁)/φ(s₀): x₁/α₁ = r·x/α₀ + φ(s₁)·∫ x0(s) d(−1/φ(s)) + √(s₁² − r²·s₀²)·ξ (eq. 13).
    scale: "er_sde" φ = s·(e^{s^0.3} + 10), the authors' choice; "sde" φ = s², the reverse SDE;
    "ode" φ = s, the probability flow, without noise. rule "published": with three points x0(s) is
    x0 + D·(s − s₀) + U/2·(s − s₀)² with D the last divided difference and U the second (alg. 3),
    which is not the parabola through them; "exact" takes that.

    Order: points, 2 at most where published or with noise (weak). Raises InvalidArgument.
    """

    points: int = 3
    scale: str = "er_sde"
    rule: str = "published"
    corrector = True  # nothing is redone: x0 itself is stored first and then combined

    def __post_init__(self) -> None:
        need_count("points", self.points)
        need_known("noise scale", self.scale, SCALES)
        need_known("rule of ER-SDE", self.rule, ER_RULES)

    @property
    def stochastic(self) -> bool:  # type: ignore[override]
        return self.scale != "ode"

    @property
    def order(self) -> int:  # type: ignore[override]
        exact = self.rule == "exact" and not self.stochastic
        return self.points if exact else min(self.points, 2)

    def moves(self, path: GaussianPath, times: tuple[float, ...], levels: Levels) -> Iterator[Move]:
        with np.errstate(over="ignore", divide="ignore"):
            place = np.exp(-np.array(levels.lam))
        for k, sigma in enumerate(levels.sigma[1:]):
            # kept = (r·s₀)/s₁: the part of the end's deviation that is not fresh noise
            kept = self._kept(place[k + 1], place[k])
            known = list(range(k, max(k - self.points, -1), -1))
            step = levels.step(X0, k, known, self._weights(place, k, known), sigma * kept)
            yield Move(*step, sigma * math.sqrt(max(1 - kept**2, 0.0)))

    def _kept(self, end: float, start: float) -> float:
        if self.scale == "ode":
            return 1.0
        if not 0 < end < math.inf or math.isinf(start):
            return 0.0
        log_share = SCALES[self.scale]
        return math.exp(float(log_share(np.array(end)) - log_share(np.array(start))))

    def _weights(self, place: np.ndarray, k: int, known: list[int]) -> tuple[float, ...]:
        first = (1.0, *[0.0] * (len(known) - 1))
        if not (np.isfinite(place[k]) and place[k + 1] > 0):
            return first
        nodes = [j for j in known if np.isfinite(place[j])]
        # d(−1/φ) = (s·φ'/φ)·d log s/φ, in log s; normalised, so any factor of φ drops out
        low, high = math.log(place[k + 1]), math.log(place[k])
        at = np.exp(low + (high - low) * (1 + _NODES) / 2)
        scale = SCALES[self.scale](at) + np.log(at)
        slope = {
            "er_sde": lambda s: 1 + 0.3 * s**0.3 / (1 + 10 * np.exp(-(s**0.3))),
            "sde": lambda s: 2 + 0 * s,
            "ode": lambda s: 1 + 0 * s,
        }[self.scale](at)
        share = _WEIGHTS * slope * np.exp(scale.min() - scale)
        share = share / share.sum()
        s = place[nodes]
        if self.rule == "published" and len(nodes) == 3:
            gap = at - s[0]
            divided = np.array([1 / (s[0] - s[1]), -1 / (s[0] - s[1]), 0])
            before = np.array([0, 1 / (s[1] - s[2]), -1 / (s[1] - s[2])])
            second = 2 * (divided - before) / (s[0] - s[2])
            values = np.array([1.0, 0, 0]) + gap @ share * divided + gap**2 @ share / 2 * second
        else:
            values = lagrange(s, at) @ share
        return (*values.tolist(), *[0.0] * (len(known) - len(nodes)))


@preset
def er_sde(points: int = 3, scale: str = "er_sde", rule: str = "published") -> Solver:
    """ER-SDE-Solver-1, -2, -3 (Cui et al. 2023)."""
    return ErSde(points, scale, rule)
