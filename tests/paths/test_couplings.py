"""Couplings: the least cost there is, both marginals kept, groups respected."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch

from tests.exact import F64
from unnoise.errors import InvalidArgument, Unsupported
from unnoise.paths import COUPLINGS, Independent, Optimal, coupling
from unnoise.randomness import Streams


def ends(n, size=2, seed=0):
    noise = Streams(seed, range(n))
    return noise.normal(size).double() * 0.7 + 1.0, noise.normal(size).double()


class Given:
    """Uniform numbers that are given."""

    def __init__(self, u):
        self.u = u

    def purpose(self, name):
        assert name == "coupling"
        return self

    def uniform(self):
        return self.u


def cost(x0, x1):
    return float((x0 - x1).square().sum())


def test_the_exact_assignment_is_the_cheapest_of_all():
    x0, x1 = ends(6)
    rows = Optimal().pair(x0, x1, Streams(0, range(6)))
    best = min(cost(x0, x1[list(p)]) for p in permutations(range(6)))
    assert cost(x0, x1[rows]) == pytest.approx(best, rel=1e-12)
    assert rows.sort().values.tolist() == list(range(6))


def test_the_exact_assignment_costs_what_pot_finds():
    ot = pytest.importorskip("ot", reason="POT is not installed")
    x0, x1 = ends(60, 5)
    rows = Optimal().pair(x0.reshape(60, 1, 5), x1.reshape(60, 1, 5), Streams(0, range(60)))
    wanted = ot.emd2([], [], ot.dist(x0.numpy(), x1.numpy()))
    assert cost(x0, x1[rows]) / 60 == pytest.approx(float(wanted), rel=1e-10)


def test_on_a_line_transport_sorts():
    x0, x1 = ends(50, 1)
    x1 = x1[Optimal().pair(x0, x1, Streams(0, range(50)))]
    order = x0[:, 0].argsort()
    assert bool((x1[order].diff(dim=0) > 0).all())


def test_rows_move_inside_their_group_only():
    x0, x1 = ends(40)
    groups = torch.arange(40) % 3
    rows = Optimal().pair(x0, x1, Streams(0, range(40)), groups)
    assert torch.equal(groups[rows], groups)
    assert rows.sort().values.tolist() == list(range(40))
    for label in range(3):  # and optimally there
        inside = groups == label
        alone = Optimal().pair(x0[inside], x1[inside], Streams(0, range(int(inside.sum()))))
        assert cost(x0[inside], x1[inside][alone]) == pytest.approx(
            cost(x0[inside], x1[rows][inside])
        )


@pytest.mark.parametrize("entropy", [0.05, 0.5, 5.0])
def test_an_entropic_pair_is_drawn_from_the_plan(entropy):
    ot = pytest.importorskip("ot", reason="POT is not installed")
    n = 12
    x0, x1 = ends(n)
    distance = torch.cdist(x0, x1) ** 2
    mass = [1 / n] * n
    plan = n * torch.from_numpy(
        ot.sinkhorn(
            mass, mass, distance.numpy(), entropy * float(distance.mean()), "sinkhorn_log",
            numItermax=5000, stopThr=1e-10,
        )
    )  # fmt: skip
    # every row's shares, by asking one row's draw at many places of [0, 1)
    shots = 400
    counts = torch.zeros(n, n, dtype=F64)
    for k in range(shots):
        rows = Optimal(entropy).pair(x0, x1, Given(torch.full((n,), (k + 0.5) / shots)))
        counts[torch.arange(n), rows] += 1 / shots
    torch.testing.assert_close(counts, plan, rtol=0, atol=1.01 / shots)
    torch.testing.assert_close(plan.sum(0), torch.ones(n, dtype=F64), rtol=0, atol=1e-6)


def test_entropy_goes_from_the_assignment_to_independence():
    x0, x1 = ends(30)
    exact = Optimal().pair(x0, x1, Streams(0, range(30)))
    nearly = Optimal(0.002).pair(x0, x1, Streams(0, range(30)))
    assert float((nearly == exact).double().mean()) > 0.6
    far = Optimal(1e4).pair(x0, x1, Given(torch.linspace(0, 1, 31)[:-1] + 1e-3))
    assert far.tolist() == list(range(30))
    # a sample's draw is its own: another stream changes that row alone
    streams = Streams(0, range(30)).purpose("coupling").uniform().double()
    rows = Optimal(0.5).pair(x0, x1, Given(streams))
    assert torch.equal(rows, Optimal(0.5).pair(x0, x1, Streams(0, range(30))))
    moved = streams.clone()
    moved[3] = (moved[3] + 0.5) % 1
    changed = Optimal(0.5).pair(x0, x1, Given(moved)) != rows
    assert changed.nonzero()[:, 0].tolist() == [3]


def test_independence_leaves_pairs_as_they_are():
    x0, x1 = ends(5)
    assert Independent().pair(x0, x1, Streams(0, range(5))).tolist() == list(range(5))


def test_bad_couplings_are_refused():
    assert set(COUPLINGS) == {"independent", "optimal"}
    assert coupling("optimal", entropy=0.1) == Optimal(0.1)
    with pytest.raises(InvalidArgument, match="unknown coupling 'optimum'; did you mean 'optimal'"):
        coupling("optimum")
    with pytest.raises(InvalidArgument, match="option of coupling 'optimal' 'eps'"):
        coupling("optimal", eps=0.1)
    for bad in (-1.0, float("nan"), float("inf")):
        with pytest.raises(InvalidArgument, match="entropy"):
            Optimal(bad)
    x0, x1 = ends(8)
    with pytest.raises(InvalidArgument, match="equal shapes"):
        Optimal().pair(x0, x1[:, :1], Streams(0, range(8)))
    with pytest.raises(Unsupported, match="raise the entropy"):
        Optimal(1e-5).pair(x0, x1, Streams(0, range(8)))
