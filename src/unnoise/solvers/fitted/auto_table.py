"""The numbers of `auto` by number of steps: learned on random mixtures in 2 to 64 dimensions.

The mixtures' scales, weights and shapes were drawn at random (2 … 12 components, deviations
0.03 … 0.5 of the data's rms). The mean log of the median and 90th-percentile error was minimised
for each number of steps apart. No mixture of benchmarks/ was among them. The unit is the data's
deviation. The numbers are `auto_table.json`, read on first use.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import numpy as np

GRID_SCALE, GRID_POWER = 1.2, 1.7
ROWS = 8  # of deviations: the polynomials 0 … 4, step 1, step 2, the last step


@dataclass(frozen=True, eq=False)
class Anchor:
    """The table at one number of steps.

    points, corrector: past evaluations in a prediction, and in a correction beside the newest.
    scales: log of κ and of c of the predictor's and the corrector's coordinate σ/(σ + cα). gaps:
    log of the grid's gaps, as weights of the Chebyshev polynomials 1, 2 … of k/(N − 1), of the
    first gap, and of the last. predict, correct: deviations of the shares, (ROWS, points) and
    (ROWS, corrector + 1): weights of the polynomials 0, 1 …, of step 1, of step 2 and of the last.
    """

    points: int
    corrector: int
    scales: np.ndarray
    gaps: np.ndarray
    predict: np.ndarray
    correct: np.ndarray


@lru_cache(maxsize=1)
def anchors() -> dict[int, Anchor]:
    """Return the table by number of steps."""
    text = (resources.files(__package__) / "auto_table.json").read_text("utf-8")
    return {int(steps): _anchor(**row) for steps, row in json.loads(text).items()}


def _anchor(points: int, corrector: int, **arrays: list) -> Anchor:
    none = {"predict": np.zeros((ROWS, points)), "correct": np.zeros((ROWS, corrector + 1))}
    return Anchor(points, corrector, **none | {name: np.array(a) for name, a in arrays.items()})
