"""Flow matching under any coupling: smallest losses in closed form, for every path and lens."""

from __future__ import annotations

import pytest
import torch

from tests.exact import F64, IDS, PATHS, Seen, gaussian_elementwise
from unnoise.errors import InvalidArgument, Unsupported
from unnoise.fields import LENSES, Condition, Denoiser, Field, Prediction, lens_row
from unnoise.networks import Mlp
from unnoise.objectives import Batch, Denoising, draw_source, weight
from unnoise.paths import Coupled, Flow, Independent, Optimal, VPLinear
from unnoise.randomness import Streams

every_path = pytest.mark.parametrize("path", [case.path for case in PATHS], ids=IDS)
T = torch.linspace(0.05, 0.95, 7, dtype=F64)
FACING = [lens for lens in LENSES if lens != "score"]
# x0 = MEAN0 + A·u, x1 = MEAN1 + B·u + C·w with u and w of unit variance: a coupled pair
MEAN0, MEAN1, A, B, C = 0.4, -0.7, 0.9, 0.5, 0.8


class JointGaussian(Field):
    """E[x0|x_t] and E[x1|x_t] of that pair, by regression on x_t."""

    def __init__(self, path, across=A * B):
        self.path, self.across = Coupled(path, "data"), across

    def __call__(self, x_t, t, condition=None):
        alpha, sigma = (c(t).reshape(-1, 1) for c in (self.path.alpha, self.path.sigma))
        total = alpha**2 * A**2 + sigma**2 * (B**2 + C**2) + 2 * alpha * sigma * self.across
        off = x_t - alpha * MEAN0 - sigma * MEAN1
        x0 = MEAN0 + (alpha * A**2 + sigma * self.across) / total * off
        x1 = MEAN1 + (alpha * self.across + sigma * (B**2 + C**2)) / total * off
        a, b = (c.reshape(-1, 1) for c in lens_row(self.path, "v", t))
        return Prediction.of("v", a * x0 + b * x1, x_t, t, self.path)


class Prescribed:
    """Times that are given, and noise that must not be drawn."""

    def __init__(self, t):
        self.t = t

    def purpose(self, name):
        return self

    def uniform(self):
        return 1 - self.t


def every_pair():
    """u and w, each one deviation up and down: averages of squares of linear forms are exact."""
    up = torch.tensor([1.0, -1.0], dtype=F64)
    u, w, t = torch.cartesian_prod(up, up, T).unbind(1)
    return (MEAN0 + A * u)[:, None], (MEAN1 + B * u + C * w)[:, None], t


@every_path
@pytest.mark.parametrize("lens", FACING)
def test_the_conditional_means_of_a_coupled_pair_have_the_smallest_loss(path, lens):
    x0, x1, t = every_pair()
    a, b = lens_row(path, lens, T)
    alpha, sigma = path.alpha(T), path.sigma(T)
    # variance left in a·x0 + b·x1 when α·x0 + σ·x1 is known, from the definitions
    on_u, on_w, seen_u, seen_w = a * A + b * B, b * C, alpha * A + sigma * B, sigma * C
    shared = on_u * seen_u + on_w * seen_w
    wanted = on_u**2 + on_w**2 - shared**2 / (seen_u**2 + seen_w**2)
    objective = Denoising(weight(lens if lens != "eps" else "simple"))
    loss = objective(Seen(JointGaussian(path), lens), Batch(x0, source=x1), Prescribed(t))
    got = loss.per_sample.reshape(4, -1).mean(0)
    torch.testing.assert_close(got, wanted, rtol=1e-7, atol=1e-14)
    # the field of the same ends without their coupling loses more
    alone = Seen(JointGaussian(path, across=0.0), lens)
    worse = objective(alone, Batch(x0, source=x1), Prescribed(t)).per_sample.reshape(4, -1).mean(0)
    assert bool((worse > wanted * (1 + 1e-4)).any())
    assert float((worse - wanted).min()) > -1e-12


def test_the_loss_is_that_of_the_rearranged_pairs():
    # on a line: both ends sorted; the target of the velocity is x1 − x0
    path = Coupled(Flow())
    n, noise = 32, Streams(3, range(32))
    x0 = Streams(1, range(n)).normal(1).double() + 2
    zero = Denoiser(Mlp(1, width=4, depth=1), path, "velocity")  # a new network says zero
    loss = Denoising(weight("velocity"), coupling=Optimal())(zero, Batch(x0), noise)
    eps = Streams(3, range(n)).normal(1).double()
    wanted = (eps.sort(0).values - x0.sort(0).values) ** 2
    order = x0[:, 0].argsort()
    torch.testing.assert_close(loss.per_sample[order], wanted[:, 0])
    # less than without: transport shortens the way
    plain = Denoising(weight("velocity"))(zero, Batch(x0), Streams(3, range(n)))
    assert plain.per_sample.mean() > loss.per_sample.mean() * 1.1
    # noise drawn for the times is the same with and without a coupling
    assert torch.equal(plain.t, loss.t)


def test_transport_keeps_to_samples_of_equal_conditions():
    labels = torch.arange(24) % 2
    values = {"class": labels, "more": {"style": (torch.arange(24) // 12)[:, None]}}
    condition = Condition(values, torch.arange(24) % 6 != 5)
    x0 = Streams(1, range(24)).normal(2).double() + 3.0 * labels[:, None]
    x0[5::6] -= torch.arange(0.0, 40.0, 10.0)[:, None]  # best joined in reverse order
    batch = Batch(x0, condition, torch.arange(24.0, dtype=F64)[:, None].expand(24, 2))
    moved = draw_source(batch, Coupled(Flow()), Optimal(), Streams(0, range(24)))[:, 0].long()
    key = [
        (bool(k), int(c) if k else 0, int(s) if k else 0)
        for k, c, s in zip(
            condition.keep["class"], labels, values["more"]["style"][:, 0], strict=True
        )
    ]
    assert sorted(moved.tolist()) == list(range(24))
    assert [key[row] for row in moved.tolist()] == key
    for one in set(key):  # each group optimally, samples without a condition together
        inside = torch.tensor([k == one for k in key])
        x1 = batch.source[inside]
        alone = x1[Optimal().pair(x0[inside], x1, Streams(0, range(24)))]
        torch.testing.assert_close(
            (x0[inside] - batch.source[moved][inside]).square().sum(),
            (x0[inside] - alone).square().sum(),
        )
    weighed = Condition({"size": torch.rand(24)}, condition.keep["class"])
    with pytest.raises(Unsupported, match="not whole numbers"):
        draw_source(Batch(x0, weighed), Coupled(Flow()), Optimal(), Streams(0, range(24)))
    same = draw_source(Batch(x0, weighed), Coupled(Flow()), Independent(), Streams(0, range(24)))
    assert torch.equal(same, Streams(0, range(24)).normal(2).double())


def test_what_a_coupling_needs_is_refused_without():
    x0, noise = torch.zeros(4, 3, dtype=F64), Streams(0, range(4))
    field = gaussian_elementwise(VPLinear())
    with pytest.raises(Unsupported, match=r"Optimal.*build the model on Coupled"):
        Denoising(coupling=Optimal())(field, Batch(x0), noise)
    with pytest.raises(Unsupported, match=r"a given source.*build the model on Coupled"):
        Denoising()(field, Batch(x0, source=x0), noise)
    model = Denoiser(Mlp(3, width=4, depth=1), Coupled(Flow()), "velocity")
    with pytest.raises(Unsupported, match="bounds nothing"):
        Denoising(weight("likelihood"))(model, Batch(x0), noise)
    with pytest.raises(InvalidArgument, match=r"source of shape \(3, 3\)"):
        Denoising()(model, Batch(x0, source=x0[:3]), noise)
    model = Denoiser(Mlp(3, width=4, depth=1), Coupled(Flow(), "data"), "velocity")
    with pytest.raises(InvalidArgument, match="starts from data; give Batch"):
        Denoising()(model, Batch(x0), noise)
    assert Denoising()(model, Batch(x0, source=x0), noise).value >= 0
