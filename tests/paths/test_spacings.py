"""Grids by name: each is its function, and impossible ones are refused."""

from __future__ import annotations

import pytest
import torch

from tests.exact import F64
from unnoise.errors import InvalidArgument
from unnoise.paths import GRIDS, Chain, Flow, grid_for, grids, peer_grids

LINEAR = Chain.linear().as_path()


@pytest.mark.parametrize("spacing", GRIDS)
def test_grids_by_name(spacing):
    made = grid_for(LINEAR, spacing, 7)
    assert made.dtype == F64
    assert len(made) == 8
    assert float(made[-1]) == 0
    direct = getattr(grids, spacing, None) or getattr(peer_grids, spacing)
    same = direct(7) if spacing in ("uniform", "quadratic") else direct(LINEAR, 7)
    assert torch.equal(made, same)


def test_grid_options_reach_the_grid():
    for name, options in {
        "uniform": {"start": 0.9, "end": 0.2},
        "quadratic": {"start": 0.9, "end": 0.2},
        "log_snr": {"start": 0.9, "sigma_min": 0.1, "sigma_max": 5.0},
        "karras": {"end": 0.01, "rho": 3.0},
    }.items():
        assert not torch.equal(grid_for(LINEAR, name, 5, **options), grid_for(LINEAR, name, 5))
    assert float(grid_for(LINEAR, "uniform", 5, start=0.9)[0]) == 0.9


@pytest.mark.parametrize(
    ("path", "spacing", "steps", "options", "says"),
    [
        (LINEAR, "karas", 5, {}, "did you mean 'karras'"),
        (LINEAR, "karras", 0, {}, "steps is 0"),
        (LINEAR, "karras", -5, {}, "steps is -5"),
        (LINEAR, "karras", 2.5, {}, "steps is 2.5"),
        (Flow(), "trailing", 5, {}, "counts the steps of a chain"),
        (LINEAR, "trailing", 2000, {}, "2000 steps on a chain of 1000"),
        (LINEAR, "uniform", 5, {"rho": 7.0}, "unknown option of grid 'uniform' 'rho'"),
        (LINEAR, "trailing", 5, {"start": 0.9}, "unknown option"),
        (LINEAR, "karras", 5, {"rho": float("nan")}, "rho is nan"),
        (LINEAR, "uniform", 5, {"start": 0.2, "end": 0.4}, "0 ≤ end < start ≤ 1"),
    ],
)
def test_grids_that_cannot_be(path, spacing, steps, options, says):
    with pytest.raises(InvalidArgument, match=says):
        grid_for(path, spacing, steps, **options)
