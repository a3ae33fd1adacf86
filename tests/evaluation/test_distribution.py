"""Two sets of samples of one law: their metrics differ by chance no more than the errors say."""

import numpy as np

from unnoise.evaluation.distribution import Compared, Features, distribution
from unnoise.evaluation.kernel import Scale


def test_the_error_of_coverage_holds_the_spread_of_the_samples():
    rng = np.random.default_rng(0)
    n, strata = 60, np.zeros(60, int)

    def drawn(spread, shift):
        return Features(rng.normal(size=(n, 4)) * spread + shift, strata)

    gaps = []
    for _ in range(60):
        held, scale = drawn(1, 0), Scale(np.zeros(4), 1.0)
        floor = [Compared(held, drawn(1, 0), scale, 0)]
        a, b = (
            distribution(held, [Compared(held, drawn(1.15, 0.3), scale, 0)], floor, 20, 0)
            for _ in range(2)
        )
        a, b = a["coverage"], b["coverage"]
        assert 0 <= a.low <= a.value <= a.high <= 1
        gaps.append((a.value - b.value) / np.hypot(a.error, b.error))
    # resampling the reference alone gives a deviation of 1.3
    assert 0.4 < np.std(gaps) < 1
