"""A network made a field: scaling, preconditioning, what the network is shown."""

import math

import pytest
import torch
from torch import nn

from tests.exact import F64, gaussian_elementwise
from unnoise.errors import InvalidArgument, Unsupported
from unnoise.fields import LENSES, Condition, Denoiser, Prediction
from unnoise.paths import EDM, VE, Chain, Cosine, Flow, SubVP, VPLinear

SMOOTH = [
    VPLinear(),
    SubVP(),
    Cosine().restricted(0.01, 0.99),
    VE(),
    EDM(),
    Flow().restricted(0, 0.95),
]


class Echo(nn.Module):
    """A network that answers with a fixed linear function of its input, and remembers it."""

    def __init__(self, on_x=0.3, shift=-0.2, dtype=F64):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([on_x, shift], dtype=dtype))

    def forward(self, x, noise_level, condition):
        self.seen = x, noise_level, condition
        return self.weight[0] * x + self.weight[1]


def batch(path, t, std, n=200_000):
    """x0 of deviation `std`, ε and x_t at one time, standardised so that moments are exact."""
    generator = torch.Generator().manual_seed(0)
    raw = torch.randn(n, 2, generator=generator, dtype=F64)
    white = (raw - raw.mean(0)) @ torch.linalg.inv(
        torch.linalg.cholesky((raw - raw.mean(0)).T @ (raw - raw.mean(0)) / n)
    ).T
    x0, eps = std * white[:, :1], white[:, 1:]
    return x0, eps, path.diffuse(x0, eps, torch.tensor(t, dtype=F64))


@pytest.mark.parametrize("std", [0.5, 1.0, 2.0])
def test_edm_preconditioning_as_published(std):
    # Karras et al. 2022, table 1: D = c_skip·x + c_out·F(c_in·x; log(σ)/4)
    path, network = EDM(80.0), Echo()
    model = Denoiser(network, path, "x0", True, data_std=std, noise_input="log_snr")
    x = torch.linspace(-3, 3, 10, dtype=F64).reshape(5, 2)
    for sigma in (0.002, 0.3, 1.0, 20.0, 80.0):
        said = model(x, torch.tensor(sigma / 80, dtype=F64))
        total = sigma**2 + std**2
        c_skip, c_out = std**2 / total, sigma * std / math.sqrt(total)
        c_in = 1 / math.sqrt(total)
        wanted = c_skip * x + c_out * (0.3 * c_in * x - 0.2)
        torch.testing.assert_close(said.x0, wanted, rtol=1e-12, atol=1e-14)
        shown, level, _ = network.seen
        torch.testing.assert_close(shown, c_in * x)
        assert level.dtype == torch.float32
        torch.testing.assert_close(level, torch.full((5,), -math.log(sigma) / 4))


@pytest.mark.parametrize("path", SMOOTH, ids=str)
@pytest.mark.parametrize("lens", LENSES)
@pytest.mark.parametrize("std", [0.5, 1.7])
def test_the_target_of_a_preconditioned_network_has_unit_variance(path, lens, std):
    # value = c·x_t + d·F, with c and d read off by F = 0 and F = 1
    for t in (0.05, 0.5, 0.95):
        when = torch.tensor(t, dtype=F64)
        x0, eps, x = batch(path, t, std, 2000)

        def said(on_x, shift, x=x, when=when):
            return Denoiser(Echo(on_x, shift), path, lens, True, std)(x, when).value.detach()

        zero = said(0.0, 0.0)
        scale = (said(0.0, 1.0) - zero)[0, 0]
        alpha, sigma = path.alpha(when), path.sigma(when)
        truth = {
            "x0": x0,
            "eps": eps,
            "score": -eps / sigma,
            "v": alpha * eps - sigma * x0,
            "velocity": path.alpha_rate(when) * x0 + path.sigma_rate(when) * eps,
        }[lens]
        target = (truth - zero) / scale
        assert float(target.var(correction=0)) == pytest.approx(1, rel=1e-9)
        # least amplification: what is left to predict is uncorrelated with x_t
        assert float((target * x).mean()) == pytest.approx(0, abs=1e-9 * float(x.std()))


@pytest.mark.parametrize("path", SMOOTH, ids=str)
def test_a_preconditioned_network_means_the_same_whatever_lens_it_predicts(path):
    # the same F gives the same field
    x = torch.linspace(-2, 2, 12, dtype=F64).reshape(4, 3)
    for t in (0.05, 0.5, 0.95):
        when = torch.tensor(t, dtype=F64)
        wanted = Denoiser(Echo(), path, "x0", True, 0.6)(x, when)
        for lens in LENSES:
            said = Denoiser(Echo(), path, lens, True, 0.6)(x, when)
            assert said.lens == lens
            for through in ("x0", "eps", "v"):
                torch.testing.assert_close(
                    said.as_lens(through), wanted.as_lens(through), rtol=1e-8, atol=1e-9
                )


@pytest.mark.parametrize("lens", LENSES)
def test_a_plain_network_says_its_lens(lens):
    path, network = Flow().restricted(0, 0.95), Echo()
    model = Denoiser(network, path, lens, data_std=0.5)
    x, t = torch.ones(3, 2, dtype=F64), torch.tensor([0.2, 0.5, 0.9], dtype=F64)
    said = model(x, t)
    assert isinstance(said, Prediction)
    assert said.lens == lens
    size = (path.alpha(t) ** 2 * 0.25 + path.sigma(t) ** 2).sqrt()[:, None]
    torch.testing.assert_close(network.seen[0], x / size)
    torch.testing.assert_close(said.value, 0.3 * x / size - 0.2)


@pytest.mark.parametrize("path", SMOOTH, ids=str)
def test_the_networks_input_has_unit_variance(path):
    for std in (0.5, 2.0):
        network = Echo()
        for t in (0.05, 0.5, 0.95):
            x = batch(path, t, std, 2000)[2]
            Denoiser(network, path, "x0", data_std=std)(x, torch.tensor(t, dtype=F64))
            assert float(network.seen[0].var(correction=0)) == pytest.approx(1, rel=1e-9)


def test_what_the_network_is_told_of_the_noise():
    network = Echo()
    x = torch.zeros(3, 2, dtype=F64)
    Denoiser(network, Cosine(), "v")(x, torch.tensor(0.25, dtype=F64))
    assert network.seen[1].tolist() == [0.25] * 3
    times = torch.tensor([0.0, 0.4, 1.0], dtype=F64)
    Denoiser(network, Cosine(), "v", noise_input="log_snr")(x, times)
    level = network.seen[1]
    assert level.dtype == torch.float32
    assert level.tolist()[::2] == [5.0, -5.0]
    assert float(level[1]) == pytest.approx(float(Cosine().log_snr(0.4)) / 4)
    # low-precision times are not rounded further
    Denoiser(network, Cosine(), "v")(x, torch.tensor(0.75, dtype=torch.bfloat16))
    assert network.seen[1].tolist() == [0.75] * 3


def test_dtypes_of_network_and_state():
    network = Echo(dtype=torch.float32)
    model = Denoiser(network, VPLinear(), "v")
    said = model(torch.ones(2, 2, dtype=F64), torch.tensor(0.5, dtype=F64))
    assert network.seen[0].dtype == torch.float32
    assert said.value.dtype == F64
    half = model.bfloat16()
    said = half(torch.ones(2, 2), torch.tensor(0.752))
    assert network.seen[0].dtype == torch.bfloat16
    assert network.seen[1].dtype == torch.float32
    assert float(network.seen[1][0]) == pytest.approx(0.752)
    assert said.value.dtype == torch.float32


def test_conditions_reach_the_network_as_conditions():
    network = Echo()
    model = Denoiser(network, Flow(), "velocity")
    x, t = torch.zeros(3, 2, dtype=F64), torch.tensor(0.5, dtype=F64)
    model(x, t)
    assert network.seen[2] is None
    model.conditioned({"class": 4})(x, t)
    seen = network.seen[2]
    assert isinstance(seen, Condition)
    assert seen.values["class"].tolist() == [4, 4, 4]
    assert seen.keep["class"].tolist() == [True] * 3


def test_gradients_reach_the_network():
    for preconditioned in (False, True):
        model = Denoiser(Echo(), VPLinear(), "eps", preconditioned)
        said = model(torch.ones(2, 2, dtype=F64), torch.tensor(0.5, dtype=F64))
        said.x0.sum().backward()
        assert bool((model.network.weight.grad.abs() > 0).all())


def test_the_exact_answer_of_a_network_is_the_exact_field():
    class Ideal(nn.Module):
        def forward(self, x, noise_level, condition):
            t = noise_level.double()
            size = (path.alpha(t) ** 2 * 0.25 + path.sigma(t) ** 2).sqrt()[:, None]
            return field(x * size, t).v

    path = VPLinear()
    field = gaussian_elementwise(path)
    x = torch.linspace(-1, 1, 6, dtype=F64).reshape(2, 3)
    t = torch.tensor([0.25, 0.75], dtype=F64)
    said = Denoiser(Ideal(), path, "v", data_std=0.5)(x, t)
    torch.testing.assert_close(said.x0, field(x, t).x0)


def test_impossible_models_are_refused():
    zero = Chain.linear().with_zero_terminal_snr().as_path()
    for path in (Cosine(), Flow(), zero):
        for lens in ("eps", "score"):
            for preconditioned in (False, True):
                with pytest.raises(Unsupported, match=r"predict v, velocity or x0.*restricted"):
                    Denoiser(Echo(), path, lens, preconditioned)
    with pytest.raises(InvalidArgument, match="unknown lens 'epsilon'"):
        Denoiser(Echo(), VPLinear(), "epsilon")
    with pytest.raises(InvalidArgument, match="unknown noise input 'sigma'"):
        Denoiser(Echo(), VPLinear(), "v", noise_input="sigma")
    for std in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(InvalidArgument, match="data_std"):
            Denoiser(Echo(), VPLinear(), "v", data_std=std)
    wide = Denoiser(nn.Flatten(0), VPLinear(), "v")
    wide.network.forward = lambda x, level, condition: x.flatten()
    with pytest.raises(InvalidArgument, match=r"v of shape \(6,\)"):
        wide(torch.zeros(2, 3), torch.tensor(0.5))
