import pytest
import torch
from torch import nn

from unnoise.errors import InvalidArgument
from unnoise.training import Ema


def walked(n, **options):
    """(weights w_0…w_n of one parameter, its average after n updates)."""
    g = torch.Generator().manual_seed(0)
    w = torch.randn(n + 1, 3, generator=g)
    p = nn.Parameter(w[0].clone())
    ema = Ema([p], **options)
    for k in range(1, n + 1):
        p.data.copy_(w[k])
        ema.update()
    return w.double(), ema


@pytest.mark.parametrize("gamma", [1.0, 6.94, 16.97])
def test_power_average_in_closed_form(gamma):
    n = 40
    w, ema = walked(n, gamma=gamma)
    k = torch.arange(n + 1, dtype=torch.float64)
    share = (k[1:] ** (gamma + 1) - k[:-1] ** (gamma + 1)) / n ** (gamma + 1)
    expected = (share[:, None] * w[1:]).sum(0)  # the first weights are forgotten
    torch.testing.assert_close(ema.averages[0].double(), expected, rtol=1e-5, atol=1e-6)


def test_constant_average_in_closed_form():
    w, ema = walked(30, decay=0.9, warmup=10.0)
    expected = w[0]
    for k in range(1, 31):
        d = min(0.9, k / (10 + k - 1))
        expected = d * expected + (1 - d) * w[k]
    torch.testing.assert_close(ema.averages[0].double(), expected, rtol=1e-5, atol=1e-6)


def test_warm_says_when_the_beginning_is_left():
    assert not walked(79, decay=0.9)[1].warm
    assert walked(80, decay=0.9)[1].warm  # k / (9 + k) is 0.9 at the 81st
    assert not walked(199, gamma=1.0)[1].warm
    assert walked(200, gamma=1.0)[1].warm


def test_only_parameters_are_averaged_and_in_float32():
    layer = nn.BatchNorm1d(3).bfloat16()
    ema = Ema(layer.parameters(), decay=0.5)
    layer(torch.randn(8, 3).bfloat16())
    assert len(ema.averages) == 2  # not the running mean, variance and count
    ema.update()
    assert {a.dtype for a in ema.averages} == {torch.float32}


def test_applied_gives_the_averages_and_brings_the_weights_back_bitwise():
    p = nn.Parameter(torch.randn(100))
    ema = Ema([p], decay=0.5)
    with torch.no_grad():
        p.mul_(1.1)
    ema.update()
    before, average = p.detach().clone(), ema.averages[0].clone()
    inside = []

    def fail():
        with ema.applied():
            inside.append((p.detach().clone(), torch.is_grad_enabled()))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert torch.equal(inside[0][0], average)
    assert inside[0][1]
    assert torch.equal(p, before)
    assert torch.equal(ema.averages[0], average)
    assert not torch.equal(before, average)


@pytest.mark.parametrize(
    "options",
    [{}, {"gamma": 1, "decay": 0.9}, {"gamma": 0}, {"gamma": float("nan")}, {"decay": 1.0},
     {"decay": -0.1}, {"decay": float("nan")}, {"decay": 0.9, "warmup": 0.5}],
)  # fmt: skip
def test_lengths_that_cannot_be_are_refused(options):
    with pytest.raises(InvalidArgument, match="EMA"):
        Ema([nn.Parameter(torch.zeros(1))], **options)


@pytest.mark.parametrize("options", [{"gamma": 5.0}, {"decay": 0.9, "warmup": 4.0}])
def test_a_cadence_keeps_the_length(options):
    # every 4th update taken in for all four: the weights of an average of every update, that saw
    # the 4th of each four only
    n, every = 41, 4
    w, ema = walked(n, every=every, **options)
    like = Ema([nn.Parameter(torch.zeros(1))], **options)
    expected = w[0]
    for k in range(1, 41):
        like.updates = k - 1
        seen = w[-(-k // every) * every]
        expected = like.rate() * expected + (1 - like.rate()) * seen
    torch.testing.assert_close(ema.averages[0].double(), expected, rtol=1e-5, atol=1e-6)
    assert ema.updates == 41
    averages = ema.current()
    like.updates = 40
    expected = like.rate() * expected + (1 - like.rate()) * w[41]
    torch.testing.assert_close(averages[0].double(), expected, rtol=1e-5, atol=1e-6)
    assert not torch.equal(averages[0], ema.averages[0])  # a run that goes on is left as it is


def test_a_cadence_that_cannot_be_is_refused():
    for every in (0, -1, 1.5, True):
        with pytest.raises(InvalidArgument, match="every"):
            Ema([nn.Parameter(torch.zeros(1))], gamma=1.0, every=every)
