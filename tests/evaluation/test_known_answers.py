"""The whole card on sets whose distances are known, and on samples spoilt in known ways."""

import math

import numpy as np
import pytest
import torch

from unnoise.data import open_data
from unnoise.errors import InvalidArgument
from unnoise.evaluation import (
    GivenFeatures,
    Part,
    ValuePCA,
    bootstrap,
    evaluate,
    frechet_distance,
    gaussian_frechet,
    subsample,
)
from unnoise.evaluation.intervals import Resampler


class Raw:
    """The raw values as features."""

    name, fingerprint = "raw values", "raw"

    def __init__(self, turn=None):
        self.turn = turn

    def features(self, values):
        flat = np.asarray(values, np.float64).reshape(len(values), -1)
        return flat if self.turn is None else flat @ self.turn


def normal(seed, n, mean=0.0, spread=1.0, d=3):
    x = np.random.default_rng(seed).normal(size=(n, d)) * spread + mean
    return Part(torch.tensor(x, dtype=torch.float32))


def card(samples, train=None, held=None, features=None, **options):
    train, held = train or normal(1, 1500), held or normal(2, 500)
    options = {"replicates": 40} | options
    return evaluate(samples, train, held, features or Raw(), **options)


def test_two_gaussians_have_the_distances_of_their_closed_forms():
    shift, spread = np.array([1.0, -0.5, 0.0]), np.array([1.0, 2.0, 0.5])
    samples = normal(3, 2000, shift, spread)
    got = card(samples, held=normal(2, 1000), train=normal(1, 4000), size=1000, replicates=20)
    m = got.metrics
    truth = gaussian_frechet(np.zeros(3), np.eye(3), shift, np.diag(spread**2))
    assert truth == pytest.approx(1.25 + 1 + 0.25)
    assert abs(m["frechet"].value - truth) < 4 * m["frechet"].error
    assert m["frechet"].error < 0.12 * truth
    # (μ·ν + …)³ by conditioning: E(x·y)², E(x·y)³ with covariances I and D, mean μ of the samples
    d, cov, mu2 = 3, spread**2, shift**2
    real = 1 + 3 * d / d**2
    second, dot = (cov**2).sum() + 2 * (mu2 * cov).sum() + mu2.sum() ** 2, mu2.sum()
    third = dot**3 + 3 * dot * (mu2 * cov).sum()
    third += 3 * (dot * (cov**2).sum() + dot * (mu2 * cov).sum() + 2 * (mu2 * cov**2).sum())
    made = third / d**3 + 3 * second / d**2 + 3 * dot / d + 1
    across = 1 + 3 * (cov.sum() + mu2.sum()) / d**2
    wanted = real + made - 2 * across
    assert abs(m["kid"].value - wanted) < 4 * m["kid"].error + 0.02 * wanted  # scale is measured
    assert m["kid"].error < 0.25 * wanted
    # along θ: W₂² = (θ·Δ)² + (1 − √(θᵀDθ))², averaged over the sphere
    theta = np.random.default_rng(0).normal(size=(20000, 3))
    theta /= np.linalg.norm(theta, axis=1, keepdims=True)
    along = (theta @ shift) ** 2 + (1 - np.sqrt(theta**2 @ cov)) ** 2
    assert m["sliced"].value == pytest.approx(math.sqrt(along.mean()), rel=0.08)
    for name in ("frechet", "kid", "sliced"):
        assert m[name].floor < 0.1 * m[name].value


def test_one_law_reaches_its_floor_in_every_metric():
    m = card(normal(3, 1000)).metrics
    for name in ("frechet", "sliced"):
        assert m[name].floor_low * 0.6 < m[name].value < m[name].floor_high * 1.6
    assert m["kid"].low < 0 < m["kid"].high
    assert m["kid"].floor_low < 0 < m["kid"].floor_high
    assert m["c2st"].value == pytest.approx(0.5, abs=0.04)
    assert m["density"].value == pytest.approx(1, abs=0.12)
    assert m["coverage"].value == pytest.approx(1 - 2**-5, abs=0.03)
    assert m["memorisation"].low < 0.5 < m["memorisation"].high
    assert m["copies"].value == pytest.approx(3**-3, abs=0.02)  # by chance in 3 dimensions


def test_order_of_the_samples_and_rotations_change_nothing():
    samples = normal(3, 500, 0.4)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    plain, shuffled = card(samples), card(Part(samples.values.flip(0)))
    turned = card(samples, features=Raw(turn))
    for name, metric in plain.metrics.items():
        if name == "c2st":  # its folds are drawn by position
            continue
        assert shuffled.metrics[name].value == pytest.approx(metric.value, rel=1e-5), name
        if name not in ("memorisation", "copies", "sliced"):
            assert turned.metrics[name].value == pytest.approx(metric.value, rel=1e-7), name
    assert shuffled.samples_hash != plain.samples_hash


def test_wide_features_take_the_short_way_to_the_same_number():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 60)), 1.5 * rng.normal(size=(30, 60)) + 0.2
    wide = gaussian_frechet(x.mean(0), np.cov(x.T), y.mean(0), np.cov(y.T))
    assert frechet_distance(x, y) == pytest.approx(wide, rel=1e-7)
    assert frechet_distance(x, x + 2) == pytest.approx(4 * 60, rel=1e-9)


def test_a_copied_training_set_is_caught_at_the_share_that_was_copied():
    train, held, fresh = normal(1, 1000, d=12), normal(2, 500, d=12), normal(3, 600, d=12)
    mixed = torch.cat([fresh.values, train.values[:200]])
    got = card(Part(mixed), train, held, replicates=100).metrics["copies"]
    assert got.value == pytest.approx(0.25, abs=0.005)
    assert got.low > 0.2
    assert got.floor == 0
    # a slip of a tenth of the usual distance to a neighbour is a copy all the same
    near = train.values[:200] + 0.05 * normal(4, 200, d=12).values
    assert card(Part(torch.cat([fresh.values, near])), train, held).metrics[
        "copies"
    ].value == pytest.approx(0.25, abs=0.01)


def test_a_missing_class_takes_its_share_of_recall_and_coverage():
    rng = np.random.default_rng(0)

    def ten(n, gone=()):
        labels = np.arange(n) % 10
        where = np.where(np.isin(labels, gone), (labels + 1) % 10, labels)
        x = rng.normal(size=(n, 2)) * 0.1 + np.stack([where, where**2 / 9], 1) * 5
        return Part(torch.tensor(x, dtype=torch.float32), torch.tensor(labels))

    train, held = ten(2000), ten(500)
    whole = card(ten(500), train, held).metrics
    for gone in ((4,), (2, 7)):
        m = card(ten(500, gone), train, held).metrics
        for name in ("recall", "coverage"):
            lost = whole[name].value - m[name].value
            assert lost == pytest.approx(len(gone) / 10, abs=0.02), name
        assert m["precision"].value > 0.9
        assert m["frechet"].low > whole["frechet"].high
        assert m["kid"].low > whole["kid"].high


def test_a_shift_of_two_pixels_moves_features_and_pixels(mnist):
    train = Part(mnist.train.values)
    pca = ValuePCA(train.values)
    fresh, held = Part(mnist.validation.values), Part(mnist.test.values)
    moved = Part(torch.roll(fresh.values, 2, -1))
    still = card(fresh, train, held, pca).metrics
    got = card(moved, train, held, pca).metrics
    for name in ("frechet", "kid", "sliced", "c2st"):
        assert got[name].low > still[name].high, name
        assert got[name].value > 1.5 * max(still[name].floor_high, still[name].value, 0.01), name


def test_intervals_of_a_frechet_distance_hold_the_truth():
    held, values, errors = 0, [], []
    rows = Resampler(200)
    for seed in range(100):
        x, y = (normal(2 * seed + k, 200, 1.0 * k, d=2).values.numpy() for k in (0, 1))
        value = frechet_distance(x, y)
        got = bootstrap(
            lambda i, j, x=x, y=y: frechet_distance(x[i], y[j]),
            [rows, rows], value, replicates=60, seed=seed,
        )  # fmt: skip
        held += got.low <= 2 <= got.high
        values.append(value)
        errors.append(got.error)
    assert held / 100 >= 0.86
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.25)


def test_large_training_data_are_searched_in_part_and_the_card_says_so():
    big = Part(torch.arange(3000, dtype=torch.float32)[:, None])
    some = subsample(big, 2000)
    assert len(some.values) == len(some.values.unique()) == 2000
    assert bool((some.values.diff(dim=0) > 0).all())
    assert float(some.values[-1]) > 2900  # from all of it, not its beginning
    assert len(subsample(big, 2000, 4000).values) == 1000  # 4,000 bytes
    assert subsample(big) is big
    assert torch.equal(subsample(big, 2000).values, some.values)
    labelled = subsample(Part(big.values, big.values[:, 0].long()), 1500)
    assert torch.equal(labelled.labels, labelled.values[:, 0].long())
    got = card(normal(3, 100), train_values=7000)
    assert (got.searched, got.train_values) == (1500, 7000)
    assert "among 1500 of 7000, taken at random" in got.protocol
    assert "among all of them" in card(normal(3, 100)).protocol


def test_a_data_set_in_files_is_not_read_whole(tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", np.arange(9000, dtype=np.float32).reshape(3000, 3))
    data = open_data(tmp_path / "x.npy", stream=True)
    assert data.streamed
    monkeypatch.setattr(type(data), "values", property(lambda _: pytest.fail("read whole")))
    some = subsample(data, 1200)
    monkeypatch.undo()
    assert len(some.values) == 1200
    plain = subsample(Part(data.values), 1200)
    assert torch.equal(some.values, plain.values)  # one rule, wherever the values are
    got = card(normal(3, 100), train=data, held=Part(data.values[:200]))
    assert (got.searched, got.train_values) == (3000, 3000)


def test_features_that_are_no_numbers_are_refused_and_named():
    def broken(values):
        return values.numpy() * np.nan

    net = GivenFeatures(broken, "broken", fingerprint="x")
    with pytest.raises(InvalidArgument, match="broken gives NaN or infinity for 100 samples"):
        card(normal(3, 100), features=net)
