"""The sliced distance of raw values against closed forms and the divergences' own."""

import math

import numpy as np
import pytest
import torch

from unnoise.divergences import sliced
from unnoise.errors import InvalidArgument
from unnoise.evaluation import Slices, sliced_wasserstein
from unnoise.evaluation.intervals import Resampler
from unnoise.evaluation.slices import sliced_distance
from unnoise.randomness import Streams


def unit(d, n=400):
    """Training values whose every channel has deviation 1 exactly."""
    x = np.random.default_rng(9).normal(size=(n, d))
    return torch.tensor((x - x.mean(0)) / x.std(0))


def test_it_is_the_sliced_distance_of_the_divergences():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 5)), rng.normal(size=(50, 5)) + 0.3
    slices = Slices(unit(5), directions=40, seed=3)
    want = sliced(torch.tensor(x), torch.tensor(y), Streams(3, range(40), "slices")).value
    assert sliced_wasserstein(slices(x), slices(y)) == pytest.approx(want, rel=1e-5)


def test_a_shift_in_d_dimensions_is_its_length_over_the_root_of_d():
    x = np.random.default_rng(1).normal(size=(30, 6))
    shift = np.array([1.0, -2.0, 0.5, 0.0, 1.0, 0.3])
    slices = Slices(unit(6), directions=4000)
    got = sliced_wasserstein(slices(x), slices(x + shift))
    assert got == pytest.approx(np.linalg.norm(shift) / math.sqrt(6), rel=0.03)
    assert sliced_wasserstein(slices(x), slices(x[::-1])) == 0


def test_gaussians_on_the_line():
    u = (np.arange(20_000) + 0.5) / 20_000
    z = torch.special.ndtri(torch.tensor(u)).numpy()[:, None]
    slices = Slices(unit(1), directions=2)
    got = sliced_wasserstein(slices(0.3 + 0.5 * z), slices(-1 + 2 * z))
    assert got == pytest.approx(math.hypot(1.3, 1.5), rel=1e-3)


@pytest.mark.parametrize("kind", ["float", "bytes"])
def test_each_channel_is_measured_in_its_own_deviation(kind):
    rng = np.random.default_rng(2)
    train = rng.integers(0, 50, (300, 2, 3, 3)).astype(np.uint8 if kind == "bytes" else np.float64)
    x, y = train[:100], train[100:200]
    plain = Slices(train)
    wide = train.astype(np.float64) * np.array([1.0, 1000.0])[:, None, None]
    scaled = Slices(wide)
    factor = np.array([1.0, 1000.0])[:, None, None]
    assert sliced_wasserstein(scaled(x * factor), scaled(y * factor)) == pytest.approx(
        sliced_wasserstein(plain(x), plain(y)), rel=1e-5
    )
    deviation = train[:, 0].astype(np.float64).std()
    moved = x.astype(np.float64)
    moved[:, 0] += deviation  # one deviation in 9 of 18 numbers
    assert sliced_wasserstein(plain(x), plain(moved)) == pytest.approx(math.sqrt(9 / 18), rel=0.15)
    still = np.concatenate([train, np.full_like(train[:, :1], 7)], 1)
    assert np.isfinite(Slices(still)(still)).all()


def test_directions_are_the_seeds_alone():
    state = torch.get_rng_state()
    a, b = Slices(unit(4), seed=1), Slices(unit(4), seed=1)
    assert np.array_equal(a.directions, b.directions)
    assert not np.array_equal(a.directions, Slices(unit(4), seed=2).directions)
    # more directions do not change the first ones
    assert np.array_equal(a.directions[:10], Slices(unit(4), directions=10, seed=1).directions)
    assert torch.equal(state, torch.get_rng_state())


def test_the_interval_holds_the_distance_of_the_laws():
    rng, held, values, errors = np.random.default_rng(3), 0, [], []
    slices = Slices(unit(1), directions=1)
    for seed in range(150):
        x, y = rng.normal(size=(80, 1)), 1 + rng.normal(size=(80, 1))
        rows = Resampler(80)
        got = sliced_distance(slices(x), [slices(y)], [rows, rows], replicates=100, seed=seed)
        held += got.low <= 1 <= got.high
        values.append(got.value)
        errors.append(got.error)
    assert 0.86 <= held / 150 <= 0.99
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.2)


def test_sets_of_unequal_size_are_refused():
    slices = Slices(unit(3))
    with pytest.raises(InvalidArgument, match="must agree"):
        sliced_wasserstein(slices(np.zeros((4, 3))), slices(np.zeros((5, 3))))
    with pytest.raises(InvalidArgument, match="directions is 0"):
        Slices(unit(3), directions=0)
