"""The loss by noise level: bins, shares, and errors of values that are looked at several times."""

import numpy as np
import pytest

from unnoise.errors import DataError
from unnoise.evaluation import LevelLoss, noise_levels


def side(rng, n, share, draws=4, spread=0.0):
    """Losses whose mean is `share` of a trivial loss 1 + t, values differing by e^±spread."""
    t = (np.arange(n)[:, None] * draws + np.arange(draws)) % 10 / 10 + rng.uniform(
        1e-3, 0.1, (n, draws)
    )
    trivial = 1 + t
    each = np.exp(spread * rng.normal(size=(n, 1)) - spread**2 / 2)
    return LevelLoss(t, share(t) * trivial * each, trivial)


def test_bins_shares_and_the_loss_on_training_values():
    rng = np.random.default_rng(0)
    got = noise_levels(side(rng, 100, lambda t: 0.2 + 0 * t), side(rng, 100, lambda t: 0.1 + 0 * t))
    assert [round(v.low, 1) for v in got.levels] == [k / 10 for k in range(10)]
    assert sum(v.n for v in got.levels) == 400
    for v in got.levels:
        assert v.low < v.high == pytest.approx(v.low + 0.1)
        assert v.loss == pytest.approx(0.2 * v.trivial, rel=1e-12)
        assert v.trivial == pytest.approx(1 + (v.low + v.high) / 2, abs=0.02)
        assert v.train == pytest.approx(0.1 * v.trivial, rel=0.02)
        assert v.loss_low <= v.loss <= v.loss_high
    assert got.share.value == pytest.approx(0.2)
    assert got.share.floor == pytest.approx(0.1)


def test_ends_of_a_bin_belong_to_the_bin_below():
    t = np.array([[0.5, 1.0], [0.25, 0.75], [0.5, 0.8], [0.5, 0.9]])
    one = LevelLoss(t, np.ones((4, 2)), np.ones((4, 2)))
    got = noise_levels(one, one, bins=2)
    assert [v.n for v in got.levels] == [4, 4]


def test_the_share_is_a_geometric_mean_free_of_lens_and_weight():
    rng = np.random.default_rng(1)
    held = side(rng, 60, lambda t: np.where(t <= 0.5, 0.1, 0.4))
    plain = noise_levels(held, held)
    assert plain.share.value == pytest.approx((0.1 * 0.4) ** 0.5)
    weight = np.floor(held.t * 10) + 0.5  # as another lens scales both losses, here bin by bin
    weighed = held._replace(loss=held.loss * weight, trivial=held.trivial * weight)
    assert noise_levels(weighed, weighed).share.value == pytest.approx(plain.share.value)


def test_draws_of_one_value_are_not_counted_as_independent():
    rng, truth = np.random.default_rng(2), 0.3
    values, errors, held, level_held = [], [], 0, 0
    for seed in range(120):
        got = noise_levels(
            side(rng, 80, lambda t: truth + 0 * t, spread=0.5),
            side(rng, 80, lambda t: truth + 0 * t),
            replicates=150,
            seed=seed,
        )
        values.append(got.share.value)
        errors.append(got.share.error)
        held += got.share.low <= truth <= got.share.high
        level = got.levels[4]
        level_held += level.loss_low <= truth * level.trivial <= level.loss_high
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.2)  # half of it if they were
    assert held / 120 >= 0.85
    assert level_held / 120 >= 0.83


def test_empty_levels_are_refused():
    rng = np.random.default_rng(3)
    good, few = side(rng, 40, lambda t: 0.5 + 0 * t), side(rng, 1, lambda t: 0.5 + 0 * t)
    with pytest.raises(DataError, match="give more values"):
        noise_levels(few, good)
    with pytest.raises(DataError, match="no loss to compare"):
        noise_levels(good._replace(trivial=0 * good.t), good)
