"""A solver calibrated for one field and one number of steps: its places and weights."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ...errors import InvalidArgument
from ...paths import GaussianPath, grids
from ..linear import FixedMultistep, FixedWeights

CLOSE = 1e-6
MOST = 8  # evaluations that a step may mix


@dataclass(frozen=True)
class Tuned(FixedMultistep):
    """Step through one grid with fitted weights, both made by `calibration.tune`.

    places: u = σ/(σ + κα) of its times, decreasing, both ends included. It has no order: more
    steps need another one. Raises InvalidArgument for places or shares that do not fit together,
    and for other times.
    """

    places: tuple[float, ...]
    coefficients: FixedWeights
    order = 1

    def __post_init__(self) -> None:
        kappa, steps = self.coefficients.kappa, len(self.places) - 1
        falling = all(a > b for a, b in pairwise(self.places))
        if steps < 1 or not falling or not (self.places[-1] >= 0 and self.places[0] <= 1):
            raise InvalidArgument(
                "places must fall from at most 1 to at least 0; these are "
                f"{[round(p, 6) for p in self.places[:4]]} … "
            )
        if not 0 < kappa < math.inf:
            raise InvalidArgument(f"kappa is {kappa!r}; give a positive number")
        predict, correct = self.coefficients.predict, self.coefficients.correct
        if len(predict) != steps or len(correct) != steps:
            raise InvalidArgument(
                f"{steps} steps with shares for {len(predict)} predictions and {len(correct)} "
                "corrections; give as many of each"
            )
        for what, rows, least in (("predict", predict, 1), ("correct", correct, 0)):
            for k, row in enumerate(rows):
                if not least <= len(row) <= min(k + 1, MOST) or not all(map(math.isfinite, row)):
                    raise InvalidArgument(
                        f"{what}[{k}] has {len(row)} shares; give {least} to {min(k + 1, MOST)} "
                        "finite numbers"
                    )
        if correct[0]:
            raise InvalidArgument("correct[0] must be empty: nothing comes before the first step")

    @property
    def length(self) -> int:
        return len(self.places) - 1

    def own_grid(
        self, path: GaussianPath, steps: int, start: float = 1.0, end: float = 0.0
    ) -> Tensor:
        if steps != self.length:
            raise InvalidArgument(
                f"tuned for {self.length} steps and asked for {steps}; tune again"
            )
        times = times_of(path, self.coefficients.kappa, self.places, start, end)
        self.weights(path, tuple(times.tolist()))
        return times

    def weights(self, path: GaussianPath, times: tuple[float, ...]) -> FixedWeights:
        found = places_of(path, self.coefficients.kappa, times)
        worst = max(abs(a - b) for a, b in zip(found, self.places, strict=False))
        if len(found) != len(self.places) or worst > CLOSE:
            raise InvalidArgument(
                f"a solver tuned for {self.length} steps, σ/α from "
                f"{self._ratio(0):.4g} to {self._ratio(-1):.4g}, walks no other grid; leave the "
                "grid out, or take solver 'auto'"
            )
        return self.coefficients

    def _ratio(self, k: int) -> float:
        u = self.places[k]
        return self.coefficients.kappa * u / (1 - u) if u < 1 else math.inf

    def to_dict(self) -> dict[str, Any]:
        """Return numbers only, for JSON."""
        numbers = {"places": self.places, **asdict(self.coefficients)}
        return json.loads(json.dumps(numbers))  # lists, as JSON has them

    @staticmethod
    def from_dict(tree: Any) -> Tuned:
        """Build from `to_dict`. Raises InvalidArgument for anything else."""
        keys = {"kappa", "places", "predict", "correct"}
        if not isinstance(tree, dict) or set(tree) != keys:
            raise InvalidArgument(f"a tuned solver has exactly the keys {sorted(keys)}")
        rows = {}
        for name in ("predict", "correct"):
            if not isinstance(tree[name], list):
                raise InvalidArgument(f"{name} is no list of lists of numbers")
            rows[name] = tuple(_numbers(name, row) for row in tree[name])
        (kappa,) = _numbers("kappa", [tree["kappa"]])
        return Tuned(_numbers("places", tree["places"]), FixedWeights(kappa, **rows))


def _numbers(name: str, row: Any) -> tuple[float, ...]:
    if not isinstance(row, list) or not all(
        isinstance(v, int | float) and not isinstance(v, bool) for v in row
    ):
        raise InvalidArgument(f"{name} is no list of numbers")
    return tuple(float(v) for v in row)


def places_of(path: GaussianPath, kappa: float, times: tuple[float, ...]) -> tuple[float, ...]:
    """Return u = σ/(σ + κα) at times."""
    t = torch.tensor(times, dtype=torch.float64)
    alpha, sigma = path.alpha(t), path.sigma(t)
    return tuple((sigma / (sigma + kappa * alpha)).tolist())


def times_of(
    path: GaussianPath, kappa: float, places: tuple[float, ...], start: float, end: float
) -> Tensor:
    """Return the times at which a path has these u, its two ends being `start` and `end`."""
    u = torch.tensor(places[1:-1], dtype=torch.float64)
    inner = path.time((1 - u).log() - u.log() - math.log(kappa))
    return grids.check(torch.tensor([start, *inner.tolist(), end], dtype=torch.float64))
