"""Calibrate a solver for one field: weights by least squares, places by search.

A teacher (`auto` with many steps) gives the trajectories y(u) of some starts, y = x/(σ + κα),
whose slope is g/κ. For given places the weights of each prediction and correction in turn are the
least-squares fit to the teacher. Each start is weighted by the inverse of its distance, so that the
few that end in another mode do not decide. The places are searched for the smallest error.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...errors import InvalidArgument, need_count
from ...fields import Field
from ...paths import GaussianPath
from ..linear import FixedWeights
from .auto import Auto, chebyshev
from .tuned import Tuned, places_of, times_of

Progress = Callable[[int, int], None]
PREDICT, CORRECT, MODES, POWER = 5, 6, 5, 1.7
LOOKED_AT = ((0.4, 0.6), (0.82, 0.94))  # ranks of the errors that the search makes small
RIDGE, ROUNDS = 1e-6, 6


@dataclass(frozen=True)
class Calibration:
    """A tuned solver, and errors on starts it was not fitted to, in units of data_std·√numbers.

    before: (median, 90th percentile) of `auto`; after: of the tuned solver; tries: searched grids.
    """

    solver: Tuned
    before: tuple[float, float]
    after: tuple[float, float]
    tries: int


def tune(
    field: Field,
    x: Tensor,
    steps: int,
    data_std: float,
    start: float = 1.0,
    end: float = 0.0,
    tries: int | None = None,
    teacher: int | None = None,
    progress: Progress | None = None,
) -> Calibration:
    """Return a solver of `steps` steps fitted to a field from starts x at time `start`.

    x: (n, *event), n ≥ 16, drawn from the prior; a third is held out to measure by. field must
    treat each sample alone (bind conditions that belong to x). tries: how many grids are tried;
    teacher: steps of the reference walk. Where the fit is no better on the held-out starts than
    `auto`, the numbers of `auto` are kept. Raises InvalidArgument for too few starts or steps.
    """
    need_count("steps", steps)
    if len(x) < 16:
        raise InvalidArgument(f"{len(x)} starts; give at least 16")
    tries = need_count("tries", max(12, min(60, 600 // steps)) if tries is None else tries)
    auto, path = Auto(data_std), field.path
    times = tuple(auto.own_grid(path, steps, start, end).tolist())
    shares = auto.weights(path, times)
    places = places_of(path, shares.kappa, times)
    walk = _Walk(field, x, auto, shares, teacher or 100 + 10 * steps, start, end)
    fitted = torch.arange(len(x)) % 3 != 2
    size = data_std * math.sqrt(x[0].numel())

    def figures(error: Tensor) -> tuple[float, float]:
        held = error[~fitted] / size
        return float(held.median()), float(held.quantile(0.9))

    before = figures(walk.run(places, None)[0])
    best, tried = _search(walk, places, fitted, tries, progress)
    after = figures(best[1])
    if sum(math.log(v + 1e-300) for v in after) >= sum(math.log(v + 1e-300) for v in before):
        return Calibration(Tuned(places, shares), before, before, tried)
    solver = Tuned(best[3], FixedWeights(shares.kappa, *best[2]))
    return Calibration(solver, before, after, tried)


Found = tuple[float, Tensor, tuple, tuple[float, ...]]


def _search(
    walk: _Walk,
    places: tuple[float, ...],
    fitted: Tensor,
    tries: int,
    progress: Progress | None,
) -> tuple[Found, int]:
    """Search over smooth changes of the grid's spacing, coordinate by coordinate."""
    steps = len(places) - 1
    modes = min(MODES, steps - 1)
    even = np.array(places) ** (1 / POWER)
    gaps = np.log(-np.diff(even))
    basis = chebyshev(np.arange(steps) / max(steps - 1, 1), modes + 1)[:, 1:]
    tried = 0

    def attempt(change: np.ndarray) -> Found:
        nonlocal tried
        size = np.exp(gaps + basis @ change)
        inner = even[0] - (even[0] - even[-1]) * np.cumsum(size / size.sum())[:-1]
        at = (places[0], *(inner**POWER).tolist(), places[-1])
        error, rows = walk.run(at, fitted)
        tried += 1
        if progress is not None:
            progress(tried, tries)
        ordered = (error[fitted] + 1e-300).sort().values.log()
        score = sum(
            float(ordered[int(low * len(ordered)) : math.ceil(high * len(ordered))].mean())
            for low, high in LOOKED_AT
        )
        return (score if math.isfinite(score) else math.inf), error, rows, at

    change, way, stride = np.zeros(modes), np.ones(modes), 0.3
    best = attempt(change)
    walk.sparing = 0.6
    other_fit = attempt(change)
    if other_fit[0] < best[0]:
        best = other_fit
    else:
        walk.sparing = 1.2
    while tried < tries and stride > 0.03 and modes:
        moved = False
        for i in range(modes):
            for sign in (way[i], -way[i]):
                if tried >= tries:
                    break
                other = change.copy()
                other[i] += sign * stride
                found = attempt(other)
                if found[0] < best[0] - 1e-3:
                    change, best, moved, way[i] = other, found, True, sign
                    break
        if not moved:
            stride /= 2
    return best, tried


class _Walk:
    """The starts, their teacher, and solves that fit weights step by step."""

    def __init__(
        self,
        field: Field,
        x: Tensor,
        auto: Auto,
        shares: FixedWeights,
        teacher: int,
        start: float,
        end: float,
    ) -> None:
        self.field, self.x, self.prior, self.kappa = field, x, shares, shares.kappa
        self.path: GaussianPath = field.path
        self.start, self.end, self.sparing = start, end, 1.2
        grid = auto.own_grid(self.path, teacher, start, end)
        self.nodes = places_of(self.path, self.kappa, tuple(grid.tolist()))
        self.states: list[Tensor] = []
        self.slopes: list[Tensor] = []

        def keep(_: int, prediction) -> None:
            self.states.append(prediction.x_t.double() / self._scale(float(prediction.t)))
            self.slopes.append(
                (self.kappa * prediction.eps.double() - prediction.x0.double()) / self.kappa
            )

        self.goal = auto.solve(field, x, grid, on_step=keep).x.double() / self._scale(end)

    def _scale(self, t: float) -> float:
        return float(self.path.sigma(t)) + self.kappa * float(self.path.alpha(t))

    def teacher(self, u: float) -> Tensor:
        """Return y(u) by cubic Hermite between the teacher's nodes; its last piece by its slope."""
        i = bisect_right([-node for node in self.nodes], -u) - 1
        if i >= len(self.states):
            return self.goal
        low, y, slope = self.nodes[i], self.states[i], self.slopes[i]
        h = self.nodes[i + 1] - low
        t = (u - low) / h
        if i + 1 == len(self.states):  # slope unknown at the end: a parabola through both
            return y + h * t * slope + t * t * (self.goal - y - h * slope)
        after, bend = self.states[i + 1], self.slopes[i + 1]
        return (
            (1 + 2 * t) * (1 - t) ** 2 * y
            + t * (1 - t) ** 2 * h * slope
            + t * t * (3 - 2 * t) * after
            + t * t * (t - 1) * h * bend
        )

    def run(self, places: tuple[float, ...], fitted: Tensor | None) -> tuple[Tensor, tuple]:
        """Return (error of each start at the end in units of x0, (predict, correct)).

        The weights are fitted to the starts marked, or those of `auto` where `fitted` is None.
        """
        steps, kappa = len(places) - 1, self.kappa
        times = times_of(self.path, kappa, places, self.start, self.end)
        history: list[Tensor] = []
        base = y = self.x.double() / self._scale(self.start)
        predict, correct = list[tuple[float, ...]](), list[tuple[float, ...]]([()])

        def mix(rows: list, begin: int, most: int, prior: tuple[float, ...]) -> Tensor:
            parts = torch.stack(history[:most]) * ((places[begin + 1] - places[begin]) / kappa)
            row = torch.zeros(len(parts), dtype=torch.float64)
            row[: len(prior)] = torch.tensor(prior[: len(row)], dtype=torch.float64)
            if fitted is not None:
                wanted = self.teacher(places[begin + 1]) - base
                row = _fit(parts[:, fitted], wanted[fitted], row, self.sparing)
            rows.append(tuple(row.tolist()))
            return base + torch.tensordot(row, parts, 1)

        for k in range(steps):
            t = times[k]
            prediction = self.field((y * self._scale(float(t))).to(self.x.dtype), t)
            history.insert(0, kappa * prediction.eps.double() - prediction.x0.double())
            if k:
                base = mix(correct, k - 1, CORRECT, self.prior.correct[k])
            y = mix(predict, k, PREDICT, self.prior.predict[k])
        error = (y - self.goal).flatten(1).norm(dim=1) * self._scale(self.end)
        return error / float(self.path.alpha(self.end)), (tuple(predict), tuple(correct))


def _fit(parts: Tensor, wanted: Tensor, prior: Tensor, sparing: float) -> Tensor:
    """Return argmin Σᵢ wᵢ‖wantedᵢ − Σⱼ cⱼ·partsⱼᵢ‖² with a light pull to `prior`.

    wᵢ falls as the residual to the power `sparing`, found in a few rounds. parts: (j, n, *event).
    """
    parts, wanted = parts.flatten(2), wanted.flatten(1)
    weight = torch.ones(len(wanted), dtype=torch.float64)
    gram = torch.einsum("jnd,knd->njk", parts, parts)
    mixed = torch.einsum("jnd,nd->nj", parts, wanted)
    for _ in range(ROUNDS):
        a, b = torch.tensordot(weight, gram, 1), weight @ mixed
        pull = RIDGE * a.diagonal().mean() + torch.finfo(torch.float64).tiny
        row = torch.linalg.solve(a + pull * torch.eye(len(a), dtype=a.dtype), b + pull * prior)
        rest = (wanted - torch.tensordot(row, parts, 1)).norm(dim=1)
        if not bool(torch.isfinite(rest).all()):
            return prior
        weight = 1 / (rest + 0.05 * rest.median() + 1e-300) ** sparing
        weight = weight / weight.mean()
    return row
