"""Every cell of the support table: what it says works does, what it refuses is refused.

Sweeps take one lens for each path and solver: of the lenses that work with both, and of those that
do not, the one whose turn it is, so that every path and every solver meets every lens that works
with it (tested below). The whole table is swept by `make test-all`.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.exact import F64, Seen
from unnoise import support
from unnoise.errors import InvalidArgument, Unsupported
from unnoise.fields import LENSES, Denoiser, Gaussian
from unnoise.objectives import TIMES, WEIGHTS, Batch, Denoising, weight
from unnoise.paths import grids
from unnoise.randomness import Streams
from unnoise.solvers import EulerMaruyama, PredictorCorrector, ReverseDiffusion, RungeKutta

from .reference import exact_moments, moments

each_path = pytest.mark.parametrize("name", support.PATHS)
whole_too = pytest.mark.parametrize(
    "whole", [False, pytest.param(True, marks=pytest.mark.exhaustive)], ids=["part", "whole"]
)
POINT = torch.tensor([0.7, -2.0], dtype=F64)


def cells(name: str, whole: bool):
    """(lens, solver name, reason) of a path's cells; the reason of a weight is tested apart."""
    turn = list(support.PATHS).index(name)
    for solver_name, solver in support.SOLVERS.items():
        reasons = {
            lens: support.why_unsupported(support.PATHS[name], lens, solver) for lens in LENSES
        }
        works = [lens for lens in LENSES if reasons[lens] is None]
        fails = [lens for lens in LENSES if reasons[lens] is not None]
        for lenses in (works, fails):
            turns = range(len(lenses)) if whole else [turn][: len(lenses)]
            for k in turns:
                lens = lenses[k % len(lenses)]
                yield lens, solver_name, reasons[lens]
        turn += 1


def test_the_part_is_every_path_and_solver_with_every_lens():
    part, whole = (
        {(name, *cell) for name in support.PATHS for cell in cells(name, every)}
        for every in (False, True)
    )
    assert part < whole
    assert len(part) < 0.3 * len(whole)
    for works in (True, False):
        for pair in ((0, 1), (0, 2), (1, 2)):  # path and lens, path and solver, lens and solver
            seen, there = (
                {(c[pair[0]], c[pair[1]]) for c in some if (c[3] is None) == works}
                for some in (part, whole)
            )
            assert seen == there, (works, there - seen)


def plain_ode(solver) -> bool:
    """Not exact for a known point: it integrates dx/dt itself."""
    if isinstance(solver, RungeKutta):
        return solver.coordinate in ("t", "log_snr")
    if isinstance(solver, PredictorCorrector):  # nor does Langevin keep a point's variance
        return not solver.consistent or solver.predictor is None
    return isinstance(solver, EulerMaruyama | ReverseDiffusion)


def test_the_table_is_the_product():
    cells = list(support.cells())
    assert (
        len(cells)
        == len(set(cells))
        == (len(support.PATHS) * len(support.SOLVERS) * len(LENSES) * len(WEIGHTS))
    )
    working = [cell for cell in cells if cell.reason is None]
    assert 0.7 < len(working) / len(cells) < 1
    for cell in cells:
        if cell.reason:
            assert ";" in cell.reason, f"no remedy in {cell.reason!r}"


@whole_too
@each_path
def test_cells_that_work_walk_from_noise_to_data(name, whole):
    """Data at one point, three steps from 1 to 0 in the cell's lens: exact moments where the
    solver is exact for it, finite where it integrates the plain equation."""
    path = support.PATHS[name]
    field, grid = Gaussian(POINT, 0.0, path), grids.uniform(3)
    begin, wanted = exact_moments(field, 1.0), exact_moments(field, 0.0)
    for lens, solver_name, reason in cells(name, whole):
        solver = support.SOLVERS[solver_name]
        if reason is not None:
            continue
        mean, variance = moments(solver, Seen(field, lens), grid, *begin)
        where = f"{name} {lens} {solver_name}"
        assert torch.isfinite(mean).all(), where
        if plain_ode(solver):
            continue
        if solver_name == "ddpm transition":
            variance = wanted[1]  # on its way larger than the marginals: see test_stochastic
        # rounding grows with the square of the largest σ/α a walk in ε begins at
        ratio = float(path.sigma(1.0)) / max(float(path.alpha(1.0)), 1e-3)
        slack = 1e-12 * max(1.0, ratio) ** 2
        assert float((mean - wanted[0]).abs().max()) < slack, where
        assert float((variance - wanted[1]).abs().max()) < slack, where


@each_path
def test_the_plain_equation_converges_to_the_data(name):
    path = support.PATHS[name]
    field = Gaussian(POINT, 0.3, path)
    begin, wanted = exact_moments(field, 1.0), exact_moments(field, 0.0)
    for lens, solver_name, reason in cells(name, whole=True):
        solver = support.SOLVERS[solver_name]
        if reason is not None or lens != "v" or not plain_ode(solver):
            continue
        if "annealed" in solver_name:  # keeps noise of coarse levels: see test_predictor_corrector
            continue
        mean, variance = moments(solver, field, grids.karras(path, 100), *begin)
        assert float((mean - wanted[0]).abs().max()) < 0.1, solver_name
        assert float((variance / wanted[1] - 1).abs().max()) < 0.25, solver_name


@whole_too
@each_path
def test_cells_that_do_not_refuse_with_their_reason(name, whole):
    path = support.PATHS[name]
    field, grid = Gaussian(POINT, 0.0, path), grids.uniform(3)
    x = torch.zeros(2, 2, dtype=F64)

    def build_and_walk(path, lens, solver):
        Denoiser(nn.Identity(), path, lens)
        solver.solve(field, x, grid, Streams(0, range(2)))

    for lens, solver_name, reason in cells(name, whole):
        if reason is None:
            continue
        solver = support.SOLVERS[solver_name]
        with pytest.raises((Unsupported, InvalidArgument)) as refused:
            build_and_walk(path, lens, solver)
        assert reason in str(refused.value)


@each_path
def test_every_solver_starts_somewhere(name):
    """What is refused at t = 1 works from `default_start`."""
    path = support.PATHS[name]
    field = Gaussian(POINT, 0.3, path)
    for solver_name, solver in support.SOLVERS.items():
        start = support.default_start(path, solver)
        assert (start < 1) == (solver.why_unsupported(path, 1.0, 0.0) is not None)
        if start < 1:
            assert solver.why_unsupported(path, start, 0.0) is None
            x = torch.zeros(2, 2, dtype=F64)
            reached = solver.solve(field, x, grids.uniform(3, start), Streams(0, range(2))).x
            assert torch.isfinite(reached).all(), solver_name


@each_path
def test_every_weight_trains_every_lens_with_one_loss(name):
    """The exact mean of other data as a network: each weight counts its error alike in every
    lens, and what the table refuses is refused."""
    path = support.PATHS[name]
    field = Gaussian(POINT, 0.3, path)
    batch = Batch(Streams(1, range(16)).normal(2).double())
    for weight_name in WEIGHTS:
        for times_name, kind in TIMES.items():
            reason = support.why_untrainable(path, weight_name, times_name)
            if reason is not None:
                with pytest.raises((Unsupported, InvalidArgument)) as refused:
                    Denoising(weight=weight(weight_name), times=kind())(
                        field, batch, Streams(0, range(16))
                    )
                assert reason == str(refused.value)
                continue
            objective = Denoising(weight=weight(weight_name), times=kind())
            losses = []
            for lens in LENSES:
                if support.lens_refusal(path, lens):
                    continue
                losses.append(objective(Seen(field, lens), batch, Streams(0, range(16))).per_sample)
            for loss in losses:
                assert torch.isfinite(loss).all()
                torch.testing.assert_close(loss, losses[0], rtol=1e-4, atol=1e-8)


def test_what_is_refused_in_words():
    why_unsupported, paths, solvers = support.why_unsupported, support.PATHS, support.SOLVERS
    assert why_unsupported(paths["vp_linear"], "eps", solvers["lms"]) is None
    assert "restricted" in why_unsupported(paths["flow"], "eps", solvers["ddim"])
    assert "direction (1, 1)" in why_unsupported(paths["flow"], "v", solvers["lms"])
    assert why_unsupported(paths["flow"], "v", solvers["lms"], start=0.999) is None
    assert why_unsupported(paths["flow restricted"], "eps", solvers["lms"]) is None
    assert "infinite at t = 1" in why_unsupported(paths["cosine"], "v", solvers["euler_maruyama"])
    table = {(p, w, t): reason for p, w, t, reason in support.training_cells()}
    assert "uniform" in table["flow", "likelihood", "log_normal"]
    assert table["flow", "likelihood", "uniform"] is None
    assert "is none" in table["flow", "simple", "chain"]
    assert table["chain linear", "simple", "chain"] is None
