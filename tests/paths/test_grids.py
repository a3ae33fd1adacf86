"""Grids of times: ends, order, the spacing each promises, and published chain grids."""

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.exact import F64, PATHS
from unnoise.errors import InvalidArgument
from unnoise.paths import EDM, VE, Chain, Cosine, Flow, VPLinear, grids

STEPS = [1, 2, 3, 7, 13, 97, 1000]
PLAIN = {"uniform": grids.uniform, "quadratic": grids.quadratic}
SPACED = {"log_snr": grids.log_snr, "karras": grids.karras}
ON_CHAIN = {"trailing": grids.trailing, "leading": grids.leading, "linspace": grids.linspace}
CHAIN = Chain.linear().as_path()
MANY = 200


def ratio(path, t):
    return path.sigma(t) / path.alpha(t)


def even(values, rel=1e-7):
    """Whether successive differences agree."""
    gaps = values.diff()
    torch.testing.assert_close(gaps, gaps.mean().expand(len(gaps)), rtol=rel, atol=1e-12)


def sound(grid, steps, start, end):
    assert grid.dtype == F64
    assert grid.shape == (steps + 1,)
    assert (float(grid[0]), float(grid[-1])) == (start, end)
    assert bool((grid.diff() < 0).all())


times = st.floats(0, 1, allow_nan=False)


@settings(max_examples=MANY, deadline=None, derandomize=True)
@given(steps=st.integers(1, 300), start=times, end=times, name=st.sampled_from(sorted(PLAIN)))
def test_plain_grids_have_exact_ends(steps, start, end, name):
    assume(start - end > 1e-9)
    sound(PLAIN[name](steps, start, end), steps, start, end)


@settings(max_examples=MANY, deadline=None, derandomize=True)
@given(
    steps=st.integers(1, 200),
    start=st.one_of(st.just(1.0), st.floats(0.02, 0.999)),
    end=st.one_of(st.just(0.0), st.floats(1e-4, 0.99)),
    name=st.sampled_from(sorted(SPACED)),
    case=st.sampled_from(PATHS),
)
def test_spaced_grids_have_exact_ends(steps, start, end, name, case):
    assume(start - end > 1e-2)
    path, make = case.path, SPACED[name]
    if float(path.alpha(start)) == 0:  # the grid starts at σ/α = 80, which must lie above the end
        assume(float(ratio(path, torch.tensor(end, dtype=F64))) < 79)
    grid = make(path, steps, start, end)
    if float(path.alpha(start)) > 0:
        sound(grid, steps, start, end)
    else:
        assert float(ratio(path, grid[0])) == pytest.approx(80.0, rel=1e-6)
        sound(grid, steps, float(grid[0]), end)


@pytest.mark.parametrize("steps", STEPS)
def test_plain_spacings(steps):
    even(grids.uniform(steps, 0.9, 0.1))
    even(grids.quadratic(steps, 0.9, 0.1).sqrt())


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("path", [VPLinear(), VE(), EDM(), Flow(), CHAIN], ids=str)
def test_spacings_in_the_noise_level(path, steps):
    even(path.log_snr(grids.log_snr(path, steps, 0.95, 0.05)))
    for rho in (1.0, 3.0, 7.0):
        grid = grids.karras(path, steps, 0.95, 0.05, rho=rho)
        even(ratio(path, grid) ** (1 / rho))


def test_karras_levels_as_published():
    # Karras et al. 2022, eq. 5: σ_i for N levels from 80 to 0.002, then 0
    n, rho = 18, 7
    a, b = 80 ** (1 / rho), 0.002 ** (1 / rho)
    published = [(a + i / (n - 1) * (b - a)) ** rho for i in range(n)] + [0.0]
    grid = grids.karras(EDM(80.0), n)
    torch.testing.assert_close(
        80 * grid, torch.tensor(published, dtype=F64), rtol=1e-10, atol=1e-15
    )


@pytest.mark.parametrize("make", SPACED.values(), ids=SPACED)
def test_noise_limits(make):
    # infinite at the start: 80; zero at the end: 0.002 and one last step to the end
    grid = make(Flow(), 10)
    levels = ratio(Flow(), grid)
    assert float(levels[0]) == pytest.approx(80)
    assert float(levels[-2]) == pytest.approx(0.002)
    assert float(grid[-1]) == 0
    # given limits
    levels = ratio(Flow(), make(Flow(), 10, sigma_min=0.05, sigma_max=12.0))
    assert float(levels[0]) == pytest.approx(12)
    assert float(levels[-2]) == pytest.approx(0.05)
    # finite ends are kept, and their limits with them
    ve = VE(0.01, 50.0)
    levels = ratio(ve, make(ve, 10))
    assert (float(levels[0]), float(levels[-1])) == pytest.approx((50, 0.01))
    # a limit beyond the path's own is that of the path
    own = make(ve, 10, sigma_min=0.01, sigma_max=float(ve.sigma(1.0)))
    assert torch.allclose(own, make(ve, 10), rtol=1e-12, atol=1e-14)
    with pytest.raises(InvalidArgument, match="sigma_max is 500"):
        make(ve, 10, sigma_max=500.0)
    with pytest.raises(InvalidArgument, match=r"sigma_min is 0\.001"):
        make(ve, 10, sigma_min=0.001)
    # a limit inside it
    grid = make(ve, 10, sigma_min=0.1, sigma_max=20.0)
    levels = ratio(ve, grid)
    assert float(levels[0]) == pytest.approx(20)
    assert float(levels[-2]) == pytest.approx(0.1)
    assert float(grid[-1]) == 0.0
    # an end inside the path is the end of the spacing, with no step after it
    grid = make(VPLinear(), 5, 1.0, 0.01)
    assert (float(grid[0]), float(grid[-1])) == (1.0, 0.01)
    # one step is one step
    assert make(EDM(), 1).tolist() == [1.0, 0.0]
    assert make(VPLinear(), 1).tolist() == [1.0, 0.0]


KNOWN = {
    ("trailing", 1): [1000, 0],
    ("trailing", 2): [1000, 500, 0],
    ("trailing", 3): [1000, 667, 333, 0],
    ("trailing", 7): [1000, 857, 714, 571, 429, 286, 143, 0],
    ("trailing", 13): [1000, 923, 846, 769, 692, 615, 538, 462, 385, 308, 231, 154, 77, 0],
    ("leading", 1): [1, 0],
    ("leading", 2): [501, 1, 0],
    ("leading", 3): [667, 334, 1, 0],
    ("leading", 7): [853, 711, 569, 427, 285, 143, 1, 0],
    ("leading", 13): [913, 837, 761, 685, 609, 533, 457, 381, 305, 229, 153, 77, 1, 0],
    ("linspace", 1): [1000, 0],
    ("linspace", 2): [1000, 1, 0],
    ("linspace", 3): [1000, 501, 1, 0],
    ("linspace", 7): [1000, 833, 667, 501, 334, 167, 1, 0],
    ("linspace", 4): [1000, 667, 334, 1, 0],
    ("linspace", 10): [1000, 889, 778, 667, 556, 445, 334, 223, 112, 1, 0],
    ("linspace", 13): [1000, 917, 833, 750, 667, 584, 501, 417, 334, 251, 167, 84, 1, 0],
}


@pytest.mark.parametrize(("name", "steps"), KNOWN)
def test_chain_grids_as_published(name, steps):
    grid = ON_CHAIN[name](CHAIN, steps)
    assert (grid * 1000).round().long().tolist() == KNOWN[name, steps]
    assert torch.equal(grid, torch.tensor(KNOWN[name, steps], dtype=F64) / 1000)


@pytest.mark.parametrize("name", ON_CHAIN)
@pytest.mark.parametrize("length", [1, 2, 10, 997, 1000])
@pytest.mark.parametrize("steps", [*STEPS, 11, 499, 997])
def test_chain_grids_at_any_number_of_steps(name, length, steps):
    path = Chain.linear(length, 1e-3, 1e-2).as_path()
    if steps > length:
        with pytest.raises(InvalidArgument, match=f"on a chain of {length}"):
            ON_CHAIN[name](path, steps)
        return
    numbers = ON_CHAIN[name](path, steps) * length
    whole = numbers.round()
    torch.testing.assert_close(numbers, whole, rtol=0, atol=1e-9)
    assert len(whole) == steps + 1
    assert bool((whole.diff() <= -1).all())
    assert float(whole[-1]) == 0
    if name != "leading":
        assert float(whole[0]) == length
    if name == "trailing":
        wanted = torch.linspace(length, 0, steps + 1, dtype=F64)
        assert float((whole - wanted).abs().max()) <= 0.5
    if name == "linspace" and steps > 1:
        assert float(whole[-2]) == 1
        wanted = torch.linspace(length, 1, steps, dtype=F64)
        assert float((whole[:-1] - wanted).abs().max()) <= 0.5 + 1e-9
    if name == "leading":
        assert set((-whole[:-1].diff()).tolist()) <= {length // steps}
        assert float(whole[-2]) == 1
    if steps == length:
        assert whole.tolist() == list(range(length, -1, -1))


def test_an_explicit_list_is_checked():
    assert grids.check([1.0, 0.5, 0.0]).dtype == F64
    assert grids.check(torch.tensor([0.5, 0.25])).tolist() == [0.5, 0.25]
    for bad, said in [
        ([0.5], "at least two times"),
        ([[1.0, 0.0]], "shape"),
        ([1.0, 0.5, 0.5, 0.0], "time 1 is 0.5, time 2 is 0.5"),
        ([0.1, 0.9], "must decrease"),
        ([1.1, 0.0], "outside"),
        ([1.0, -0.1], "outside"),
        ([1.0, math.nan], "outside"),
        ([math.inf, 0.0], "outside"),
    ]:
        with pytest.raises(InvalidArgument, match=said):
            grids.check(bad)


@pytest.mark.parametrize("steps", [0, -5, 2.5, True, None, math.nan])
def test_impossible_numbers_of_steps(steps):
    for make in PLAIN.values():
        with pytest.raises(InvalidArgument, match="steps is"):
            make(steps)
    for make in SPACED.values():
        with pytest.raises(InvalidArgument, match="steps is"):
            make(VPLinear(), steps)
    for make in ON_CHAIN.values():
        with pytest.raises(InvalidArgument, match="steps is"):
            make(CHAIN, steps)


def test_impossible_spans_and_limits():
    for start, end in [(0.0, 1.0), (0.5, 0.5), (1.5, 0.0), (1.0, -0.1), (math.nan, 0.0)]:
        for make in PLAIN.values():
            with pytest.raises(InvalidArgument, match="need 0 ≤ end < start ≤ 1"):
                make(5, start, end)
        for make in SPACED.values():
            with pytest.raises(InvalidArgument, match="need 0 ≤ end < start ≤ 1"):
                make(VPLinear(), 5, start, end)
    for make in SPACED.values():
        for bad in (-1.0, 0.0, math.nan, math.inf):
            with pytest.raises(InvalidArgument, match="sigma_min is"):
                make(VPLinear(), 5, sigma_min=bad)
            with pytest.raises(InvalidArgument, match="sigma_max is"):
                make(VPLinear(), 5, sigma_max=bad)
        with pytest.raises(InvalidArgument, match="it must fall"):
            make(Flow(), 5, sigma_min=2.0, sigma_max=1.0)
    for rho in (0.0, -7.0, math.nan):
        with pytest.raises(InvalidArgument, match="rho is"):
            grids.karras(VPLinear(), 5, rho=rho)
    for make in ON_CHAIN.values():
        with pytest.raises(InvalidArgument, match="Cosine is none"):
            make(Cosine(), 5)
