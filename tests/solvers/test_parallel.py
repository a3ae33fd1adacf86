"""ParaDiGMS: its fixed point is the sequential walk, and the tolerance buys rounds."""

from __future__ import annotations

import math

import pytest
import torch

from tests.exact import Seen, mixture_2d
from unnoise.errors import InvalidArgument
from unnoise.paths import EDM, Flow, VPLinear, grids
from unnoise.randomness import Streams
from unnoise.solvers import Parallel, get

PATHS = {"vp": VPLinear(), "flow": Flow(), "edm": EDM()}


def start(path, n=4):
    return Streams(5, range(n)).normal(2).double() * float(path.sigma(1.0))


def noise(n=4, first=0):
    return Streams(8, range(first, first + n))


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("window", [1, 3, 8, 30])
def test_the_fixed_point_is_the_sequential_walk(name, eta, window):
    path = PATHS[name]
    field, grid = mixture_2d(path), grids.karras(path, 20)
    ours = Parallel(window, 0.0, eta).solve(field, start(path), grid, noise())
    wanted = get("ddim", eta=eta).solve(field, start(path), grid, noise()).x
    torch.testing.assert_close(ours.x, wanted, rtol=1e-10, atol=1e-10)
    assert ours.rounds <= 20
    if window == 1:
        assert ours.rounds == ours.nfe == 20


def plain(field, path, x, times, window, tolerance, eta, draws):
    """Algorithm 1 of the paper for one sample, in its own words: (x, rounds, passes)."""
    alpha, sigma = path.alpha(times).tolist(), path.sigma(times).tolist()
    total = len(times) - 1

    def full(k):
        share = (sigma[k + 1] * alpha[k] / (sigma[k] * alpha[k + 1])) ** 2
        return sigma[k + 1] * math.sqrt(1 - share)

    def ahead(k, x):
        said, spread = field(x, times[k]), eta * full(k)
        toward = (
            alpha[k + 1] * said.x0 + math.sqrt(max(sigma[k + 1] ** 2 - spread**2, 0)) * said.eps
        )
        return toward + spread * draws[k]

    states, first, rounds, passes = {k: x for k in range(total + 1)}, 0, 0, 0
    while first < total:
        last = min(first + window, total)
        drifts = [ahead(k, states[k]) - states[k] for k in range(first, last)]
        rounds, passes = rounds + 1, passes + last - first
        new = {k + 1: states[first] + sum(drifts[: k - first + 1]) for k in range(first, last)}
        stride = 1
        for j in range(first + 2, last + 1):
            change = float(((new[j] - states[j]) ** 2).mean())
            if change > tolerance**2 * full(j - 1) ** 2:
                break
            stride += 1
        states |= new
        states |= {k: new[last] for k in range(last + 1, min(last + stride, total) + 1)}
        first += stride
    return states[total], rounds, passes


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("tolerance", [0.02, 0.3])
@pytest.mark.parametrize("window", [4, 40])
def test_algorithm_1_sample_by_sample(eta, tolerance, window):
    path = VPLinear()
    field, grid = mixture_2d(path), grids.uniform(30, 1.0, 0.02)
    ours = Parallel(window, tolerance, eta).solve(field, start(path), grid, noise())
    rounds, passes = [], []
    for i in range(4):
        stream = noise(1, i)
        draws = [stream.normal(2).double() for _ in range(30)]
        x, r, p = plain(field, path, start(path)[i : i + 1], grid, window, tolerance, eta, draws)
        torch.testing.assert_close(ours.x[i : i + 1], x, rtol=1e-9, atol=1e-9)
        rounds.append(r)
        passes.append(p)
    assert (ours.rounds, ours.nfe) == (max(rounds), max(passes))


def test_the_tolerance_buys_rounds_and_costs_little():
    path = VPLinear()
    field, grid = mixture_2d(path), grids.uniform(100, 1.0, 0.02)
    wanted = get("ddim").solve(field, start(path), grid).x
    counts, errors = [], []
    for tolerance in (0.0, 0.01, 0.1):
        made = Parallel(100, tolerance).solve(field, start(path), grid)
        counts.append(made.rounds)
        errors.append(float((made.x - wanted).abs().max()))
    assert counts[0] > counts[1] > counts[2]
    assert counts[2] <= 20  # of 100 steps
    assert errors[0] < 1e-12
    assert errors[1] < errors[2] < 0.1


def test_each_sample_is_its_own():
    path = VPLinear()
    field, grid = mixture_2d(path), grids.uniform(20, 1.0, 0.02)
    solver = Parallel(6, 0.1, 1.0)
    every = solver.solve(field, start(path, 7), grid, noise(7)).x
    some = solver.solve(field, start(path, 7)[3:5], grid, noise(2, 3)).x
    torch.testing.assert_close(some, every[3:5], rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("lens", ["x0", "eps", "score", "v", "velocity"])
def test_in_any_lens_and_from_pure_noise(lens):
    path = VPLinear()
    field, x, grid = mixture_2d(path), start(path), grids.uniform(10, 1.0, 0.02)
    made = Parallel(4, 0.0).solve(Seen(field, lens), x, grid).x
    torch.testing.assert_close(made, get("ddim").solve(field, x, grid).x, rtol=1e-9, atol=1e-9)
    flow = mixture_2d(Flow())
    made = Parallel(4, 0.0).solve(Seen(flow, "v"), x, grids.uniform(5)).x
    torch.testing.assert_close(made, get("ddim").solve(flow, x, grids.uniform(5)).x)


def test_it_can_be_watched_and_stopped():
    path = VPLinear()
    field, grid, seen = mixture_2d(path), grids.uniform(10, 1.0, 0.02), []
    made = Parallel(4, 0.1).solve(
        field, start(path), grid, on_step=lambda k, said: seen.append((k, said.t))
    )
    assert [k for k, _ in seen] == list(range(len(seen)))
    assert made.rounds == len(seen)
    assert seen[0][1].shape == (16,)
    stopped = Parallel(4, 0.1).solve(field, start(path), grid, on_step=lambda k, said: k < 1)
    assert (stopped.finished, stopped.rounds) == (False, 2)


@pytest.mark.parametrize(
    ("options", "says"),
    [({"window": 0}, "window is 0"), ({"tolerance": -1}, "tolerance"), ({"eta": 2}, "eta is 2")],
)
def test_impossible_settings_are_refused(options, says):
    with pytest.raises(InvalidArgument, match=says):
        Parallel(**options)
