"""Distributions of training times: quantiles, truncation, stratification, chains."""

import math

import pytest
import torch
from scipy.stats import norm, truncnorm

from tests.exact import BY_NAME, F64, IDS, PATHS
from unnoise.errors import InvalidArgument
from unnoise.objectives import TIMES, Ladder, LogitNormal, LogNormal, OnChain, OneLevel, Uniform
from unnoise.paths import EDM, VE, Chain, Flow, VPLinear
from unnoise.randomness import Streams

every_path = pytest.mark.parametrize("path", [case.path for case in PATHS], ids=IDS)
U = torch.linspace(0.001, 0.999, 37, dtype=F64)


class Given:
    """Noise whose uniform numbers are given."""

    def __init__(self, u):
        self.u = torch.as_tensor(u, dtype=torch.float32)

    def uniform(self):
        return self.u


def close(got, wanted, rel=1e-9, abs_=1e-12):
    torch.testing.assert_close(got, wanted, rtol=rel, atol=abs_)


def test_uniform():
    assert torch.equal(Uniform().quantile(VPLinear(), U), U)


def test_logit_normal():
    for mean, std in [(0.0, 1.0), (-0.5, 0.7)]:
        t = LogitNormal(mean=mean, std=std).quantile(Flow(), U)
        close(torch.from_numpy(norm.cdf((torch.logit(t) - mean) / std)), U)


@pytest.mark.parametrize(
    "path", [EDM(), VE(), VPLinear(), Flow(), BY_NAME["chain_cosine"].path], ids=str
)
@pytest.mark.parametrize(("mean", "std"), [(-1.2, 1.2), (0.4, 2.0), (5.0, 1.0)])
def test_log_normal_is_truncated_to_the_paths_range(path, mean, std):
    t = LogNormal(mean=mean, std=std).quantile(path, U)
    level = -path.log_snr(t)
    low, high = ((-lam - mean) / std for lam in reversed(path.log_snr_range()))
    share = truncnorm.cdf((level.numpy() - mean) / std, low, high)
    close(torch.from_numpy(share), U, rel=1e-6, abs_=1e-9)
    assert bool(((t > 0) & (t <= 1)).all())


def test_log_normal_on_edm_as_published():
    # Karras et al. 2022: log σ ~ N(−1.2, 1.2²)
    level = EDM(1e6).sigma(LogNormal().quantile(EDM(1e6), U)).log()
    close((level + 1.2) / 1.2, torch.from_numpy(norm.ppf(U.numpy())), rel=1e-7)


def test_on_chain_every_step_has_the_same_share():
    for length in (1, 2, 10, 1000):
        path = Chain.linear(length, 1e-3, 1e-2).as_path()
        u = (torch.arange(length * 5, dtype=F64) + 0.5) / (length * 5)
        n = OnChain().quantile(path, u) * length
        close(n, n.round())
        steps, counts = n.round().unique(return_counts=True)
        assert steps.tolist() == list(range(1, length + 1))
        assert set(counts.tolist()) == {5}
        ends = OnChain().quantile(path, torch.tensor([1e-12, 1.0], dtype=F64))
        assert ends.tolist() == [1 / length, 1.0]
    with pytest.raises(InvalidArgument, match="use uniform times, or a chain's path"):
        OnChain().quantile(VPLinear(), U)


@pytest.mark.parametrize("stratified", [False, True])
@pytest.mark.parametrize("name", TIMES)
@every_path
def test_times_are_never_zero_and_never_beyond_one(path, name, stratified):
    if name == "chain" and "chain" not in str(type(path)).lower():
        path = BY_NAME["chain_linear"].path
    extreme = [0.0, 2**-24, 0.5, 1 - 2**-24, 1 - 2**-24]
    t = TIMES[name](stratified=stratified).sample(path, Given(extreme))
    assert t.dtype == F64
    assert bool(((t > 0) & (t <= 1)).all())
    assert bool((path.sigma(t) > 0).all())


@every_path
@pytest.mark.parametrize("name", TIMES)
def test_quantiles_increase(path, name):
    if name == "chain" and "chain" not in str(type(path)).lower():
        path = BY_NAME["chain_linear"].path
    t = TIMES[name]().quantile(path, U)
    assert bool((t.diff() >= 0).all())


@pytest.mark.parametrize("batch", [1, 2, 7, 64])
def test_stratified_times_fill_every_stratum_once(batch):
    t = Uniform(stratified=True).sample(Flow(), Streams(0, range(batch)))
    strata = (t * batch).ceil().long().sort().values
    assert strata.tolist() == list(range(1, batch + 1))


def test_stratifying_keeps_the_distribution_and_lowers_the_variance():
    # the batch mean of 64 times: same expectation, standard deviation 1/√12/64^1.5 for 1/√12/8
    def means(stratified):
        return torch.stack(
            [
                Uniform(stratified=stratified)
                .sample(Flow(), Streams(seed, range(64)).purpose("times"))
                .mean()
                for seed in range(300)
            ]
        )

    for stratified, std in ((False, 12**-0.5 / 8), (True, 12**-0.5 / 512)):
        got = means(stratified)
        assert abs(float(got.mean()) - 0.5) < 5 * std / math.sqrt(300)
        assert float(got.std()) == pytest.approx(std, rel=5 / math.sqrt(600))


@pytest.mark.parametrize("times", [Uniform(), LogNormal(), LogitNormal()], ids=str)
def test_a_samples_time_does_not_depend_on_its_batch(times):
    whole = times.sample(VPLinear(), Streams(3, range(32)))
    for size in (1, 8):
        parts = [
            times.sample(VPLinear(), Streams(3, range(i, i + size))) for i in range(0, 32, size)
        ]
        if isinstance(times, Uniform):
            assert torch.equal(torch.cat(parts), whole)
        # exp and sigmoid round the last digit by where in a vector register a number stands
        torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-14, atol=0)


def test_impossible_distributions_are_refused():
    for make in (LogNormal, LogitNormal):
        for mean, std in [(math.nan, 1.0), (0.0, 0.0), (0.0, -1.0), (0.0, math.inf)]:
            with pytest.raises(InvalidArgument, match="positive std"):
                make(mean=mean, std=std)


def test_a_ladder_has_geometric_levels_of_equal_shares():
    """NCSN's σ_1 … σ_10 from 1 to 0.01, and the continuous ladder between any limits."""
    u = (torch.arange(50, dtype=F64) + 0.5) / 50
    for path, settings, low, high in (
        (VE(0.01, 1.0), {}, 0.01, 1.0),
        (EDM(), dict(sigma_min=0.05, sigma_max=10.0), 0.05, 10.0),
        (VPLinear(), dict(sigma_min=0.1, sigma_max=2.0), 0.1, 2.0),
        (Flow(), {}, 0.002, 80.0),  # where σ/α is 0 and infinite at the ends
    ):
        level = (-path.log_snr(Ladder(levels=10, **settings).quantile(path, u))).exp()
        close(
            level.unique_consecutive().log().diff(),
            torch.full((9,), math.log(high / low) / 9, dtype=F64),
            1e-6,
        )
        close(level[[0, -1]], torch.tensor([low, high], dtype=F64), 1e-8)
        assert level.log().mul(1e6).round().unique(return_counts=True)[1].tolist() == [5] * 10
        even = -path.log_snr(Ladder(levels=None, **settings).quantile(path, u))
        close(even, math.log(low) + math.log(high / low) * u, 1e-7, 1e-9)


def test_one_level_is_that_level():
    for path in (VE(), EDM(), VPLinear(), Flow(), BY_NAME["chain_linear"].path):
        close(
            -path.log_snr(OneLevel(sigma=0.3).quantile(path, U)), torch.full_like(U, math.log(0.3))
        )
    for path in (EDM(), VPLinear(), Flow(), BY_NAME["chain_linear"].path):
        assert torch.equal(OneLevel(sigma=0.0).quantile(path, U), torch.zeros_like(U))


def test_levels_a_path_does_not_reach_are_refused():
    for make, says in (
        (lambda: OneLevel(sigma=0.0).quantile(VE(), U), "reaches from 0.01 to 50"),
        (lambda: OneLevel(sigma=99.0).quantile(EDM(), U), "reaches from 0 to 80"),
        (lambda: OneLevel(sigma=-1.0), "noise level is -1.0"),
        (lambda: Ladder(levels=1), "levels is 1"),
        (lambda: Ladder(sigma_max=90.0).quantile(EDM(), U), "sigma_max is 90.0"),
        (lambda: Ladder(sigma_min=1e-3).quantile(VE(), U), "sigma_min is 0.001"),
        (lambda: Ladder(sigma_min=2.0, sigma_max=1.0).quantile(EDM(), U), "it must fall"),
    ):
        with pytest.raises(InvalidArgument, match=says):
            make()
