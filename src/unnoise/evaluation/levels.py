"""The loss by noise level on held-out data, beside the loss of the linear baseline."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ..errors import DataError
from .intervals import Resampler, centred
from .metric import Level, Metric


class LevelLoss(NamedTuple):
    """Loss of value i at its j-th noise level t (n, draws), and the baseline's loss there."""

    t: Float[np.ndarray, "n draws"]
    loss: Float[np.ndarray, "n draws"]
    trivial: Float[np.ndarray, "n draws"]


class NoiseLevels(NamedTuple):
    """The loss in bins of t, its mean ratio to the baseline's loss, the protocol in words."""

    levels: tuple[Level, ...]
    share: Metric
    protocol: str


def noise_levels(
    held: LevelLoss,
    train: LevelLoss,
    *,
    bins: int = 10,
    replicates: int = 500,
    seed: int = 0,
    about: str = "",
) -> NoiseLevels:
    """Return the mean loss in `bins` equal bins of t, and its ratio to the baseline's loss.

    The baseline (`trivial`) is the best linear predictor of white data of the same mean and
    deviation. share: the geometric mean over the bins of Σ loss/Σ trivial, which depends neither on
    the lens nor on a weight of the loss: both scale numerator and denominator alike. 1 is a model
    no better than the baseline. Its floor is the share on training values: well below the value,
    the model has learned those by heart. 95 % intervals resample values, with all their draws.
    Raises DataError if a bin is empty or a baseline loss is not above 0.
    """
    edges = np.linspace(0, 1, bins + 1)
    sums = [_sums(side, edges) for side in (held, train)]
    times = Resampler(len(held.t)).times(np.random.default_rng(seed), replicates)
    loss, trivial, count = (times @ part for part in sums[0])
    levels = []
    for b in range(bins):
        got, mark, n = (float(part[:, b].sum()) for part in sums[0])
        seen = count[:, b] > 0
        within = centred(loss[seen, b] / count[seen, b], got / n, floor=0.0)
        on_train = float(sums[1][0][:, b].sum() / sums[1][2][:, b].sum())
        levels.append(
            Level(
                low=float(edges[b]),
                high=float(edges[b + 1]),
                n=int(n),
                loss=got / n,
                loss_low=within.low,
                loss_high=within.high,
                trivial=mark / n,
                train=on_train,
            )
        )
    whole = (count > 0).all(1)
    drawn = np.exp(np.log(loss[whole] / trivial[whole]).mean(1))
    value, floor = (float(np.exp(np.log(s[0].sum(0) / s[1].sum(0)).mean())) for s in sums)
    share = Metric.of(centred(drawn, value, floor=0.0), [floor])
    n, draws = held.t.shape
    protocol = (
        f"Loss by noise level: the mean squared error of the network's own output{about}, a "
        f"number, on {n} held-out values at {draws} noise levels each, spread evenly over the "
        "bins; trivial is the best linear predictor of white data of the same deviation. Held-out "
        "loss ÷ trivial is the geometric mean of that share over the bins; its floor is the share "
        f"on {len(train.t)} training values."
    )
    return NoiseLevels(tuple(levels), share, protocol)


def _sums(side: LevelLoss, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return, for every value and bin, summed loss, summed baseline loss and number of draws."""
    n, bins = len(side.t), len(edges) - 1
    where = np.clip(np.searchsorted(edges, side.t, side="left") - 1, 0, bins - 1)
    cell = (np.arange(n)[:, None] * bins + where).ravel()

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(cell, values.ravel(), minlength=n * bins).reshape(n, bins)

    out = total(side.loss), total(side.trivial), total(np.ones_like(side.t))
    if not (out[1].sum(0) > 0).all() or not np.isfinite(out[0]).all():
        raise DataError(
            f"a noise level of {bins} has no loss to compare with (n = {n}); give more values"
        )
    return out
