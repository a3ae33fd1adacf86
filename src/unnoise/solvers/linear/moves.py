"""Steps of multistep solvers as shares of g, and the plan that carries them out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...paths import GaussianPath
from .direction import X0, Direction
from .executor import DRAW, Combination, LinearSolver, Plan
from .one_step import factor
from .registers import Registers

Shares = list[tuple[int, float]]  # (time, share of its g), newest first


@dataclass(frozen=True)
class Move:
    """Step k: base·x + Σ share·g + noise·ξ, g at times k, k − 1, …

    correct: (base, shares) of the same step redone with the same ξ and g at time k + 1 as well,
    which is the next step's evaluation; None: it is not redone.
    """

    base: float
    shares: Shares
    noise: float = 0.0
    correct: tuple[float, Shares] | None = None


@dataclass(frozen=True)
class Levels:
    """α, σ and log-SNR at the times of a grid."""

    alpha: list[float]
    sigma: list[float]
    lam: list[float]

    @staticmethod
    def of(path: GaussianPath, t: Tensor) -> Levels:
        return Levels(*(f(t).tolist() for f in (path.alpha, path.sigma, path.log_snr)))

    def step(
        self,
        direction: tuple[float, float],
        k: int,
        nodes: Sequence[int],
        weights: Sequence[float],
        aim: float,
    ) -> tuple[float, Shares]:
        """Return (base, shares) of the step to α₁ and σ = `aim`: see `weights` for the formula."""
        p, q = direction
        scale = p * self.sigma[k] + q * self.alpha[k]
        gain = aim * self.alpha[k] - self.alpha[k + 1] * self.sigma[k]
        shares = [(j, w * gain / scale) for j, w in zip(nodes, weights, strict=True)]
        return (p * aim + q * self.alpha[k + 1]) / scale, sorted(shares, reverse=True)


class MultistepSolver(LinearSolver):
    """A solver given by its moves in one direction, some of which are redone by a corrector."""

    direction: tuple[float, float] = X0
    corrector: bool | int = False

    @abstractmethod
    def moves(self, path: GaussianPath, times: tuple[float, ...], levels: Levels) -> Iterator[Move]:
        """Yield every step of a grid."""

    def plan(
        self,
        path: GaussianPath,
        lens: str,
        times: tuple[float, ...],
        dtype: torch.dtype,
        first: int = 0,
    ) -> Plan:
        t = torch.tensor(times, dtype=torch.float64)
        g = Direction.of(path, lens, self.direction, t[:-1])
        moves = list(self.moves(path, times, Levels.of(path, t)))
        return (corrector_plan if self.corrector else predictor_plan)(g, moves, dtype, first)


def predictor_plan(g: Direction, moves: Sequence[Move], dtype: torch.dtype, first: int = 0) -> Plan:
    """Return the plan of moves without correction, from step `first` on.

    Kept between steps: x, and the stored evaluations that are still needed, newest first.
    """
    plan, oldest = [], oldest_used(moves)
    held = list(range(first - 1, oldest[first] - 1, -1))
    for k in range(first, len(moves)):
        at, ahead = Registers(["x", *held]), oldest[k + 1]
        base, terms = moves[k].base, list[tuple[int, float]]()
        for j, share in moves[k].shares:
            if j == k:  # x is the state of this evaluation: the part of g on x joins the base
                base, part = base + share * g.on_x[k], (at["value"], share * g.on_value[k])
            else:
                part = (at[j], share * g.unit(j))
            terms += [part] if share else []
        spare = held[-1:] if held and held[-1] < ahead and g.on_x[held[-1]] else []
        if terms and [terms[-1][0]] == [at[j] for j in spare]:
            last, weight = terms.pop()  # not needed again: the sum takes its memory
            now = Combination(last, factor(weight, dtype), ((0, base), *terms), reuse=True)
        else:
            now = Combination(0, factor(base, dtype), tuple(terms))
        at.push("x", replace(now, noise=moves[k].noise))
        if ahead <= k:
            g.store(at, k, 0)
        held = [j for j in (k, *held) if j >= ahead]
        plan.append(at.coefficients(k, ["x", *held]))
    return tuple(plan)


def corrector_plan(g: Direction, moves: Sequence[Move], dtype: torch.dtype, first: int = 0) -> Plan:
    """Return the plan of moves some of which are redone, from step `first` on.

    Kept between steps: x; step k − 1 redone, but for the part of evaluation k (x where that step
    is not redone); its ξ, where it had noise; the stored evaluations, as in `predictor_plan`.
    """
    plan, oldest = [], oldest_used(moves)
    held, again, drawn = list(range(first - 1, oldest[first] - 1, -1)), 0.0, 0.0
    for k in range(first, len(moves)):
        move = moves[k]
        at = Registers(["x", *(["redone"] if k else []), *(["noise"] if drawn else []), *held])
        g.store(at, k, 0)
        start = 0
        if again:
            noise = ((at["noise"], drawn),) if drawn else ()
            rest = ((at[k], again), *noise)
            start = at.push("start", Combination(at["redone"], None, rest, reuse=True))

        def terms(shares: Shares, at: Registers = at) -> tuple[tuple[int, float], ...]:
            return tuple((at[j], share * g.unit(j)) for j, share in shares if share)

        noise = ((at.push("noise", DRAW), move.noise),) if move.noise else ()
        rest = (*terms(move.shares), *noise)
        at.push("x", Combination(start, factor(move.base, dtype), rest))
        keep, again, drawn = ["x", "x"], 0.0, 0.0
        if move.correct is not None:
            base, (newest, *others) = move.correct
            part = Combination(start, factor(base, dtype), terms(others), reuse=start != 0)
            at.push("redone", part)
            keep, again, drawn = ["x", "redone"], newest[1] * g.unit(k + 1), move.noise
            keep += ["noise"] if move.noise else []
        held = [j for j in (k, *held) if j >= oldest[k + 1]]
        plan.append(at.coefficients(k, [*keep, *held]))
    return tuple(plan)


def oldest_used(moves: Sequence[Move]) -> list[int]:
    """Return the oldest time whose g steps from k on use, for every k up to the grid's end."""
    out = [len(moves)]
    for move in reversed(moves):
        used = [*move.shares, *(move.correct[1] if move.correct else ())]
        out.append(min(out[-1], *(j for j, _ in used)))
    return out[::-1]
