"""Reflow: pairs that a field joins, and a straighter field learned from them."""

from __future__ import annotations

import pytest
import torch

from tests.exact import F64, mixture_2d
from tests.small import Drawn, Small
from unnoise.errors import InvalidArgument, Unsupported
from unnoise.fields import Condition, Denoiser
from unnoise.objectives import Denoising, weight
from unnoise.paths import EDM, Coupled, Flow, VPLinear, grids
from unnoise.randomness import Streams
from unnoise.solvers import get, sample
from unnoise.transport import Pairs, reflow, straightness, translate

from .pairs import sliced_w2


@pytest.mark.parametrize("path", [Flow(), VPLinear(), EDM()], ids=str)
def test_pairs_are_unit_noise_and_what_sampling_makes_of_it(path):
    field, solver = mixture_2d(path), get("dpmpp_2m")
    grid = grids.karras(path, 6)
    pairs = reflow(field, Streams(4, range(10)), (2,), solver, grid, chunk=4)
    assert torch.equal(pairs.x1, Streams(4, range(10)).normal(2))
    wanted = sample(field, Streams(4, range(10)), (2,), solver, grid)
    torch.testing.assert_close(pairs.x0, wanted.x, rtol=1e-5, atol=1e-5)
    batch = pairs.batch(torch.tensor([7, 2]))
    assert torch.equal(batch.x0, pairs.x0[[7, 2]])
    assert torch.equal(batch.source, pairs.x1[[7, 2]])


def test_pairs_keep_what_they_were_made_under():
    class Leaning(Denoiser):
        def forward(self, x_t, t, condition=None):
            shift = condition.values["class"].to(x_t)[:, None]
            return super().forward(x_t, t, condition).with_value("x0", shift + 0 * x_t)

    field = Leaning(Small(), Flow())
    labels = Condition({"class": torch.arange(9)}, torch.ones(9, dtype=torch.bool))
    solver = get("ddim")
    pairs = reflow(field, Streams(0, range(9)), (2,), solver, grids.uniform(2), labels, chunk=4)
    torch.testing.assert_close(pairs.x0, torch.arange(9.0)[:, None].expand(9, 2))
    assert pairs.batch(slice(3, 5)).condition.values["class"].tolist() == [3, 4]


def test_reflow_straightens_and_keeps_the_marginals():
    teacher = mixture_2d(Flow())
    n, solver = 2048, get("dpmpp_2m")
    pairs = reflow(teacher, Streams(0, range(n)), (2,), solver, grids.uniform(20))
    student = Denoiser(Small(width=64), Coupled(Flow()), "velocity")
    optimizer = torch.optim.Adam(student.parameters(), 1e-2)
    rate = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, 300)
    objective = Denoising(weight("velocity"))
    noise = Drawn(1, 256)
    for step in range(300):
        rows = torch.arange(step * 256, step * 256 + 256) % n
        loss = objective(student, pairs.batch(rows), noise)
        optimizer.zero_grad()
        loss.value.backward()
        optimizer.step()
        rate.step()
    x1 = Streams(2, range(1000)).normal(2)
    grid = torch.linspace(1, 0.002, 41, dtype=F64)
    ways = {name: straightness(f, x1, grid) for name, f in (("t", teacher), ("s", student))}
    assert ways["s"].value < 0.25 * ways["t"].value
    assert float(ways["s"].detour.mean() - 1) < 0.3 * float(ways["t"].detour.mean() - 1)
    jumps = {
        name: translate(f, x1, [1.0, 0.002], "euler")
        for name, f in (("t", teacher), ("s", student))
    }
    errors = {
        name: float((jump - ways[name].end).square().sum(1).mean().sqrt())
        for name, jump in jumps.items()
    }
    assert errors["s"] < 0.4 * errors["t"]
    # the same law: in many steps, and nearly so in one
    data = teacher.sample(Streams(3, range(1000))).float()
    floor = sliced_w2(teacher.sample(Streams(5, range(1000))).float(), data)
    assert sliced_w2(ways["s"].end, data) < 0.05 + 2 * floor
    assert sliced_w2(jumps["s"], data) < 0.3 * sliced_w2(jumps["t"], data)
    # the same map as the teacher's: reflow keeps the pairs of a deterministic coupling
    assert float((ways["s"].end - ways["t"].end).square().mean().sqrt()) < 0.25


def test_what_makes_no_pairs_is_refused():
    field, grid = mixture_2d(VPLinear()), grids.uniform(3)
    with pytest.raises(Unsupported, match=r"draws noise.*deterministic"):
        reflow(field, Streams(0, range(2)), (2,), get("ddpm"), grid)
    labels = Condition({"class": torch.arange(3)}, torch.ones(3, dtype=torch.bool))
    with pytest.raises(InvalidArgument, match="for 3 samples, and noise for 2"):
        reflow(field, Streams(0, range(2)), (2,), get("ddim"), grid, labels)
    with pytest.raises(InvalidArgument, match="must agree"):
        Pairs(torch.zeros(2, 3), torch.zeros(2, 2))
    assert len(Pairs(torch.zeros(2, 3), torch.zeros(2, 3))) == 2
