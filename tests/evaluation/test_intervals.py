import numpy as np
import pytest

from unnoise.errors import DataError, InvalidArgument
from unnoise.evaluation import bootstrap, bootstrap_mean
from unnoise.evaluation.intervals import Resampler


def test_interval_of_a_mean_covers_at_its_level():
    rng = np.random.default_rng(0)
    held = 0
    for i in range(200):
        x = rng.exponential(size=80)
        got = bootstrap_mean(x, replicates=200, seed=i)
        assert got.value == pytest.approx(x.mean())
        held += got.low <= 1.0 <= got.high
    assert 0.87 <= held / 200 <= 0.985


def test_width_is_that_of_the_normal_theory():
    x = np.random.default_rng(1).normal(size=2000)
    got = bootstrap_mean(x, replicates=2000)
    assert got.high - got.low == pytest.approx(2 * 1.96 * x.std() / 2000**0.5, rel=0.06)


def test_strata_keep_their_sizes_and_narrow_the_interval():
    strata = np.repeat([0, 1, 2], [50, 30, 20])
    rows = Resampler(100, strata)(np.random.default_rng(0))
    assert np.bincount(strata[rows]).tolist() == [50, 30, 20]
    assert len(set(rows.tolist())) < 80
    got = bootstrap_mean(strata.astype(float), strata)
    assert got.low == got.high == got.value


def test_shares_of_none_and_all_are_bounded_by_the_binomial():
    got = bootstrap_mean(np.zeros(100))
    assert (got.value, got.low) == (0, 0)
    assert got.high == pytest.approx(1 - 0.025**0.01)
    got = bootstrap_mean(np.ones(100, bool))
    assert (got.value, got.high) == (1, 1)
    assert got.low == pytest.approx(0.025**0.01)


def test_a_biased_statistic_is_centred_and_seeded():
    x = np.random.default_rng(2).normal(size=50)
    spread = lambda rows: float(np.var(x[rows]))  # noqa: E731
    args = dict(replicates=400, seed=3)
    got = bootstrap(spread, [Resampler(50)], 10.0, **args)
    assert got.low < 10 < got.high
    assert got == bootstrap(spread, [Resampler(50)], 10.0, **args)
    assert got != bootstrap(spread, [Resampler(50)], 10.0, replicates=400, seed=4)
    assert bootstrap(spread, [Resampler(50)], 0.01, floor=0.0, **args).low == 0


def test_bad_input_is_named():
    with pytest.raises(InvalidArgument, match="replicates is 3"):
        bootstrap_mean(np.ones(9), replicates=3)
    with pytest.raises(InvalidArgument, match="level is 95"):
        bootstrap_mean(np.ones(9), level=95)
    with pytest.raises(DataError, match="nothing"):
        bootstrap_mean(np.ones(0))
    with pytest.raises(InvalidArgument, match="3 strata for 4"):
        Resampler(4, np.zeros(3))
