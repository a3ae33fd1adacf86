"""The kernel distance against what a cubic kernel is worth under Gaussians."""

import numpy as np
import pytest

from unnoise.errors import DataError, InvalidArgument
from unnoise.evaluation import kid, polynomial_mmd
from unnoise.evaluation.intervals import Resampler
from unnoise.evaluation.kernel import Kernel, Scale, kernel_distance


def cubic(mu, s, nu, r):
    """E (⟨x, y⟩/d + 1)³ of independent x ~ N(μ, s²I), y ~ N(ν, r²I), by conditioning on y."""
    d, dot = len(mu), mu @ nu
    second = d * s**2 * r**2 + r**2 * (mu @ mu) + s**2 * (nu @ nu) + dot**2
    third = dot**3 + 3 * dot * r**2 * (mu @ mu) + 3 * s**2 * dot * (nu @ nu + (d + 2) * r**2)
    return third / d**3 + 3 * second / d**2 + 3 * dot / d + 1


def mmd(mu, s, nu, r):
    return cubic(mu, s, mu, s) + cubic(nu, r, nu, r) - 2 * cubic(mu, s, nu, r)


MU, NU = np.array([0.5, -0.2, 0.1]), np.array([-0.3, 0.4, 0.9])


def draws(rng, n, m, s=1.0, r=0.7):
    return MU + s * rng.normal(size=(n, 3)), NU + r * rng.normal(size=(m, 3))


def test_the_closed_form_is_that_of_quadrature():
    x, w = np.polynomial.hermite_e.hermegauss(20)
    w = w / w.sum()
    mu, nu = np.array([0.7]), np.array([-0.4])
    grid = ((0.7 + 1.3 * x)[:, None] * (-0.4 + 0.6 * x)[None] + 1) ** 3
    assert cubic(mu, 1.3, nu, 0.6) == pytest.approx(w @ grid @ w, abs=1e-12)


def test_the_estimate_is_unbiased_for_few_points_and_unequal_sizes():
    rng = np.random.default_rng(0)
    for n, m in ((4, 7), (2, 3)):
        got = np.array([polynomial_mmd(*draws(rng, n, m)) for _ in range(3000)])
        error = got.std() / 3000**0.5
        assert abs(got.mean() - mmd(MU, 1.0, NU, 0.7)) < 4 * error


def test_one_law_gives_zero_and_a_large_sample_the_truth():
    rng = np.random.default_rng(1)
    got = np.array([polynomial_mmd(*rng.normal(size=(2, 30, 3))) for _ in range(500)])
    assert abs(got.mean()) < 4 * got.std() / 500**0.5
    assert (got < 0).mean() > 0.3
    x, y = draws(rng, 1500, 1500)
    assert polynomial_mmd(x, y) == pytest.approx(mmd(MU, 1.0, NU, 0.7), rel=0.15)


def test_sets_drawn_class_by_class_are_judged_without_bias():
    rng, strata = np.random.default_rng(2), np.repeat([0, 1], 6)
    centres = np.array([[-2.0, 0], [2.0, 0]])[strata]

    def draw():
        return centres + 0.3 * rng.normal(size=(12, 2))

    by_class, plain = [], []
    for _ in range(800):
        x, y = draw(), draw()
        by_class.append(Kernel(x, y, strata, strata).value())
        plain.append(polynomial_mmd(x, y))
    error = np.std(by_class) / 800**0.5
    assert abs(np.mean(by_class)) < 4 * error
    assert np.mean(plain) < -15 * error  # every pair of unlike classes counts too much
    few = np.arange(12) // 4  # classes of four points are not regarded
    x, y = draw(), draw()
    assert Kernel(x, y, few, few).value() == pytest.approx(polynomial_mmd(x, y), abs=1e-14)


def test_replicates_count_rows_and_leave_out_copies_of_one():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(4, 2)), rng.normal(size=(3, 2))
    kernel = Kernel(x, y)
    c, e = np.array([[2, 1, 0, 1]]), np.array([[1, 0, 2]])
    k = lambda a, b: (a @ b / 2 + 1) ** 3  # noqa: E731
    rows, others = [0, 0, 1, 3], [0, 2, 2]
    within = np.mean([k(x[i], x[j]) for i in rows for j in rows if i != j])
    beside = np.mean([k(y[i], y[j]) for i in others for j in others if i != j])
    across = np.mean([k(x[i], y[j]) for i in rows for j in others])
    want = within + beside - 2 * across
    assert kernel.resampled(c, e)[0] == pytest.approx(want, abs=1e-12)
    order = rng.permutation(4)
    assert Kernel(x[order], y).value() == pytest.approx(kernel.value(), abs=1e-13)


def test_a_rotation_of_the_features_changes_nothing():
    rng = np.random.default_rng(4)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    x, y = draws(rng, 20, 30)
    assert polynomial_mmd(x @ turn, y @ turn) == pytest.approx(polynomial_mmd(x, y), abs=1e-12)


def test_intervals_hold_the_truth_and_errors_are_the_spread():
    rng, truth = np.random.default_rng(5), mmd(MU, 1.0, NU, 0.7)
    held, blocks, values, errors = 0, 0, [], []
    for seed in range(150):
        x, y = draws(rng, 60, 60)
        rows = Resampler(60)
        got = kernel_distance([Kernel(x, y)], rows, [rows], replicates=100, seed=seed)
        held += got.low <= truth <= got.high
        values.append(got.value)
        errors.append(got.error)
        block = kid(x, y, blocks=6)
        blocks += block.low <= truth <= block.high
    assert 0.87 <= held / 150 <= 0.99
    assert 0.90 <= blocks / 150 <= 0.99
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.2)


def test_several_parts_share_one_draw_of_the_real_data():
    rng = np.random.default_rng(6)
    y, x = draws(rng, 40, 40, s=0.5, r=1.2)  # the real data are the wide ones
    rows, kernel = Resampler(40), Kernel(x, y)
    one = kernel_distance([kernel], rows, [rows], replicates=400)
    two = kernel_distance([kernel] * 2, rows, [rows] * 2, replicates=400)
    assert two.value == pytest.approx(one.value)
    # half of the samples' share of the variance, all of the real data's: not √½ of the error
    assert 0.85 < two.error / one.error < 1.02


def test_features_are_centred_and_scaled_by_one_number():
    x = np.random.default_rng(7).normal(size=(50, 4)) * [1, 2, 3, 4] + 7
    scale = Scale.of(x)
    assert np.allclose(scale(x).mean(0), 0, atol=1e-12)
    assert scale(x).var(0).mean() == pytest.approx(1)
    assert np.allclose(scale(x).std(0) * scale.spread, x.std(0))
    assert Scale.of(np.ones((5, 2))).spread == 1


def test_bad_input_is_named():
    with pytest.raises(DataError, match="at least 2 rows"):
        polynomial_mmd(np.zeros((1, 2)), np.zeros((5, 2)))
    with pytest.raises(DataError, match=r"\(3, 2\) and \(3, 4\)"):
        polynomial_mmd(np.zeros((3, 2)), np.zeros((3, 4)))
    with pytest.raises(InvalidArgument, match="1 blocks"):
        kid(np.zeros((9, 2)), np.zeros((9, 2)), blocks=1)
    with pytest.raises(InvalidArgument, match="2 rows or more a block"):
        kid(np.zeros((9, 2)), np.zeros((9, 2)), blocks=5)
