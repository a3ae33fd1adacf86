"""The classifier two-sample test: how well a linear classifier separates samples from data."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Shaped

from ..errors import DataError, InvalidArgument


def c2st(
    real: Float[np.ndarray, "n d"],
    samples: Float[np.ndarray, "m d"],
    *,
    real_strata: Shaped[np.ndarray, " n"] | None = None,
    sample_strata: Shaped[np.ndarray, " m"] | None = None,
    folds: int = 5,
    seed: int = 0,
) -> Bool[np.ndarray, " n+m"]:
    """Return, for each point, whether a classifier trained without it classified it correctly.

    Real points come first. The mean is the accuracy of the test, 0.5 for two sets of one
    distribution. Logistic regression (L2, C = 1) on features standardised by the training folds,
    `folds`-fold cross validation, folds stratified by side and by stratum (class) if given; the two
    sides are weighted to balance if n ≠ m. Raises InvalidArgument for fewer than two folds,
    DataError for fewer than two points a fold and side. Source: Lopez-Paz and Oquab 2017.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if folds < 2:
        raise InvalidArgument(f"folds is {folds}; give 2 or more")
    if min(len(real), len(samples)) < 2 * folds:
        raise DataError(
            f"{len(real)} real points and {len(samples)} samples are too few for {folds} folds; "
            f"give {2 * folds} or more of each"
        )
    x = np.concatenate([np.asarray(real, np.float64), np.asarray(samples, np.float64)])
    side = np.repeat([0, 1], [len(real), len(samples)])
    strata = side
    if real_strata is not None and sample_strata is not None:
        names, stratum = np.unique(
            np.concatenate([real_strata, sample_strata]), return_inverse=True
        )
        cell = stratum * 2 + side
        rare = np.bincount(cell, minlength=2 * len(names)) < folds
        common = (
            np.bincount(stratum).argmax() * 2 + side
        )  # rare strata are counted as the commonest one
        strata = np.where(rare[cell], common, cell)
    right = np.zeros(len(x), bool)
    for train, test in StratifiedKFold(folds, shuffle=True, random_state=seed).split(x, strata):
        weight = None if len(real) == len(samples) else "balanced"
        model = make_pipeline(
            StandardScaler(), LogisticRegression(C=1.0, max_iter=500, class_weight=weight)
        )
        model.fit(x[train], side[train])
        right[test] = model.predict(x[test]) == side[test]
    return right
