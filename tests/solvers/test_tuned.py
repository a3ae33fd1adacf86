"""Calibration: least squares that find the truth, a better walk, numbers that travel."""

from __future__ import annotations

import math

import pytest
import torch

from tests.exact import F64, mixture_2d
from unnoise.errors import InvalidArgument
from unnoise.fields import Gaussian
from unnoise.paths import EDM, Chain, Flow, VPLinear, grids
from unnoise.randomness import Streams
from unnoise.solvers import Auto, Tuned, tune
from unnoise.solvers.fitted.calibration import _fit, _Walk

RMS, STEPS = 1.2, 6


def starts(path, n=60, seed=0, dim=2):
    ratio = math.hypot(float(path.sigma(1.0)), RMS * float(path.alpha(1.0)))
    return Streams(seed, range(n)).normal(dim).double() * ratio


@pytest.fixture(scope="module")
def found():
    path = EDM()
    told = []
    made = tune(mixture_2d(path), starts(path, 120), STEPS, RMS, tries=16,
                progress=lambda done, tries: told.append((done, tries)))  # fmt: skip
    assert told == [(k + 1, 16) for k in range(16)]
    return made


def test_least_squares_find_the_shares_in_spite_of_strays():
    noise = Streams(0, range(30))
    parts = torch.stack([noise.normal(3).double() for _ in range(4)])
    true = torch.tensor([1.7, -1.1, 0.5, -0.1], dtype=F64)
    wanted = torch.tensordot(true, parts, 1)
    torch.testing.assert_close(_fit(parts, wanted, 0 * true, 1.2), true, rtol=1e-4, atol=1e-5)
    wanted[:3] += 5  # a tenth went to another mode
    torch.testing.assert_close(_fit(parts, wanted, 0 * true, 1.2), true, rtol=1e-3, atol=1e-3)


def test_the_teacher_is_known_between_its_nodes():
    """A Gaussian's flow, x/(σ + κα) = start·√(s² + r²)/(r + κ): to h⁴ inside, h³ at its end."""
    path, variance = EDM(), 0.5
    field, x = Gaussian(torch.zeros(2, dtype=F64), variance, path), starts(path, 16)
    auto = Auto(RMS)
    shares = auto.weights(path, tuple(auto.own_grid(path, 5).tolist()))
    walk = _Walk(field, x, auto, shares, 100, 1.0, 0.0)
    for low, high in zip(walk.nodes[1:], walk.nodes, strict=False):
        u = 0.3 * low + 0.7 * high
        r = walk.kappa * u / (1 - u)
        exact = x * math.sqrt((variance + r**2) / (variance + 80**2)) / (r + walk.kappa)
        torch.testing.assert_close(walk.teacher(u), exact, rtol=1e-5, atol=1e-6)


def test_a_linear_flow_is_learned_exactly():
    """Gaussian data: every g is a multiple of the start, so one share would do."""
    path = EDM()
    field = Gaussian(torch.zeros(3, dtype=F64), 0.7, path)
    made = tune(field, starts(path, 30, dim=3), 4, RMS, tries=2)
    x = starts(path, 8, 1, 3)
    reached = made.solver.solve(field, x, made.solver.own_grid(path, 4)).x
    exact = x * math.sqrt(0.7) / math.hypot(80, math.sqrt(0.7))
    torch.testing.assert_close(reached, exact, rtol=1e-4, atol=1e-4)
    assert max(made.after) < 0.1 * min(made.before)


def test_it_is_better_on_starts_it_never_saw(found):
    path = EDM()
    field, x, auto = mixture_2d(path), starts(path, 150, 3), Auto(RMS)
    exact = auto.solve(field, x, auto.own_grid(path, 200)).x
    error = [
        (s.solve(field, x, s.own_grid(path, STEPS)).x - exact).norm(dim=1).median()
        for s in (auto, found.solver)
    ]
    assert float(error[1]) < 0.6 * float(error[0])
    # what was said to be held out is of that size too
    for said, seen in ((found.before, error[0]), (found.after, error[1])):
        assert said[0] == pytest.approx(float(seen) / (RMS * math.sqrt(2)), rel=0.6)


def test_one_evaluation_a_step_and_the_same_on_every_path(found):
    made = []
    model = mixture_2d(EDM())
    for path in (EDM(), Chain.linear().as_path(), Flow()):
        t = float(path.time(torch.tensor(-math.log(80), dtype=F64)))
        x = starts(EDM(), 5) * float(path.alpha(t))
        grid = found.solver.own_grid(path, STEPS, t)
        solution = found.solver.solve(model.on_path(path), x, grid)
        assert solution.nfe == STEPS
        made.append(solution.x)
    for other in made[1:]:
        torch.testing.assert_close(other, made[0], rtol=1e-8, atol=1e-9)


def test_numbers_travel(found):
    import json

    again = Tuned.from_dict(json.loads(json.dumps(found.solver.to_dict(), allow_nan=False)))
    assert again == found.solver
    path, x = EDM(), starts(EDM(), 4)
    a, b = (s.solve(mixture_2d(path), x, s.own_grid(path, STEPS)).x for s in (found.solver, again))
    assert torch.equal(a, b)


def test_another_grid_is_refused(found):
    path = EDM()
    with pytest.raises(InvalidArgument, match="tuned for 6 steps and asked for 7"):
        found.solver.own_grid(path, 7)
    for grid in (grids.karras(path, 6), grids.karras(path, 5)):
        with pytest.raises(InvalidArgument, match="walks no other grid; leave the grid out"):
            found.solver.solve(mixture_2d(path), starts(path, 4), grid)
    with pytest.raises(InvalidArgument, match="no other grid"):
        found.solver.own_grid(VPLinear(), 6)  # it begins at another noise level


GOOD = {"kappa": 0.5, "places": [0.9, 0.5, 0.0], "predict": [[1.0], [1.5, -0.5]],
        "correct": [[], [0.5, 0.5]]}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kappa": 0}, "kappa is 0"),
        ({"kappa": "a"}, "kappa is no list of numbers"),
        ({"kappa": True}, "kappa is no list"),
        ({"places": [0.5, 0.9, 0.0]}, "must fall"),
        ({"places": [1.5, 0.9, 0.0]}, "must fall"),
        ({"places": [0.9, 0.5, -0.1]}, "must fall"),
        ({"places": [0.9]}, "must fall"),
        ({"places": 3}, "places is no list"),
        ({"places": [0.9, 0.0]}, "1 steps with shares for 2"),
        ({"predict": [[1.0]]}, "shares for 1 predictions"),
        ({"predict": [[], [1.0]]}, r"predict\[0\] has 0 shares"),
        ({"predict": [[1.0], [1.0, 0.1, 0.2]]}, r"predict\[1\] has 3 shares; give 1 to 2"),
        ({"predict": [[1.0], [math.inf, 0.1]]}, r"predict\[1\]"),
        ({"predict": [[1.0], None]}, "predict is no list"),
        ({"predict": "ab"}, "predict is no list of lists"),
        ({"correct": [[1.0], [1.0]]}, r"correct\[0\] must be empty"),
        ({"extra": 1}, "exactly the keys"),
    ],
)
def test_malformed_numbers_are_refused(change, says):
    assert Tuned.from_dict(GOOD).length == 2
    with pytest.raises(InvalidArgument, match=says):
        Tuned.from_dict(GOOD | change)
    for key in GOOD:
        with pytest.raises(InvalidArgument, match="exactly the keys"):
            Tuned.from_dict({k: v for k, v in GOOD.items() if k != key})


def test_what_cannot_be_tuned():
    path = EDM()
    with pytest.raises(InvalidArgument, match="8 starts; give at least 16"):
        tune(mixture_2d(path), starts(path, 8), 5, RMS)
    for name, options in (("steps", {"steps": 0}), ("tries", {"steps": 5, "tries": 0})):
        with pytest.raises(InvalidArgument, match=f"{name} is 0"):
            tune(mixture_2d(path), starts(path, 16), data_std=RMS, **options)


def test_a_fit_that_fails_on_held_out_starts_is_thrown_away(monkeypatch):
    from unnoise.solvers.fitted import calibration

    monkeypatch.setattr(calibration, "_fit", lambda parts, wanted, prior, sparing: prior * 1.05)
    path = EDM()
    made = tune(mixture_2d(path), starts(path, 30), 5, RMS, tries=2)
    auto = Auto(RMS)
    grid = auto.own_grid(path, 5)
    assert made.after == made.before
    assert made.solver.coefficients == auto.weights(path, tuple(grid.tolist()))
    torch.testing.assert_close(made.solver.own_grid(path, 5), grid)
