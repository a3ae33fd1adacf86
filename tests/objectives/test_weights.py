"""Weights: published forms, and one meaning whatever lens the network predicts."""

import math

import pytest
import torch

from tests.exact import F64, IDS, PATHS, inner_times
from unnoise.errors import InvalidArgument
from unnoise.fields import LENSES, Prediction
from unnoise.objectives import WEIGHTS, weight
from unnoise.paths import EDM, Cosine, Flow, VPLinear

every_path = pytest.mark.parametrize("path", [case.path for case in PATHS], ids=IDS)
T = torch.linspace(0.02, 0.98, 25, dtype=F64)


def close(got, wanted, rel=1e-9):
    torch.testing.assert_close(got, wanted, rtol=rel, atol=0, check_dtype=False)


@every_path
@pytest.mark.parametrize("name", WEIGHTS)
def test_a_wrong_prediction_costs_the_same_in_every_lens(name, path):
    t = inner_times(path, least=1e-2)
    generator = torch.Generator().manual_seed(0)
    x0, eps, wrong = torch.randn(3, len(t), 4, generator=generator, dtype=F64)
    x = path.diffuse(x0, eps, t)
    truth = Prediction.of("x0", x0, x, t, path)
    guess = Prediction.of("x0", wrong, x, t, path)
    costs = [
        weight(name).on(lens, path, t)
        * (guess.as_lens(lens) - truth.as_lens(lens)).square().mean(1)
        for lens in LENSES
    ]
    for cost in costs[1:]:
        close(cost, costs[0], rel=1e-8)


def parts(path):
    return path.alpha(T), path.sigma(T), (path.alpha(T) / path.sigma(T)) ** 2


def test_edm_weight_as_published():
    # Karras et al. 2022, table 1: λ(σ) = (σ² + s²)/(σ·s)² on the denoiser's output
    path = EDM(80.0)
    sigma = path.sigma(T)
    close(weight("edm").on("x0", path, T), (sigma**2 + 0.25) / (sigma * 0.5) ** 2)
    close(weight("edm", 1.3).on("x0", path, T), (sigma**2 + 1.69) / (sigma * 1.3) ** 2)


@pytest.mark.parametrize("path", [VPLinear(), Cosine()], ids=str)
@pytest.mark.parametrize("gamma", [1.0, 5.0])
def test_min_snr_as_published(path, gamma):
    # Hang et al. 2023: min(SNR, γ) on x0, /SNR on ε, /(SNR + 1) on v
    snr = parts(path)[2]
    clipped = torch.minimum(snr, torch.tensor(gamma, dtype=F64))
    rule = weight("min_snr", gamma)
    close(rule.on("x0", path, T), clipped)
    close(rule.on("eps", path, T), clipped / snr)
    close(rule.on("v", path, T), clipped / (snr + 1))
    assert bool((snr > gamma).any())
    assert bool((snr < gamma).any())
    if gamma == 5:
        close(weight("min_snr").on("v", path, T), rule.on("v", path, T))


def test_snr_truncated_snr_v_and_simple_as_published():
    # Salimans & Ho 2022: SNR, max(SNR, 1) and SNR + 1 on x0
    path = Cosine()
    snr = parts(path)[2]
    for name in ("snr", "simple"):
        close(weight(name).on("x0", path, T), snr)
        close(weight(name).on("eps", path, T), torch.ones_like(T))
    close(weight("truncated_snr").on("x0", path, T), snr.clamp(min=1))
    close(weight("v").on("x0", path, T), snr + 1)
    close(weight("v").on("v", path, T), torch.ones_like(T))
    close(weight("x0").on("x0", path, T), torch.ones_like(T))
    close(weight("velocity").on("velocity", path, T), torch.ones_like(T))


def test_flow_matching_weight():
    # ‖v − (ε − x0)‖² with x0 = x_t − t·v: an x0 error counts 1/t²
    close(weight("velocity").on("x0", Flow(), T), T**-2)
    close(weight("velocity").on("eps", Flow(), T), (1 - T) ** -2)


@pytest.mark.parametrize("bias", [0.0, 2.0, -1.0])
def test_sigmoid_weight(bias):
    # sigmoid(b − log SNR) on ε, log SNR = log(α²/σ²)
    for path in (VPLinear(), Cosine(), EDM()):
        snr = parts(path)[2]
        wanted = 1 / (1 + snr * math.exp(-bias))
        close(weight("sigmoid", bias).on("eps", path, T), wanted)
    close(weight("sigmoid").on("eps", Cosine(), T), 1 / (1 + parts(Cosine())[2]))


@every_path
def test_likelihood_weight_is_half_the_rate_of_the_log_snr(path):
    # Kingma et al. 2021, eq. 17: ½·(−d log SNR/dt)·‖ε − ε̂‖²; as eq. 14: −½·dSNR/dt·‖x0 − x̂0‖²
    t = ((inner_times(path, least=1e-2)[1:-1] * 1000).floor() + 0.4) / 1000
    t = t.clamp(min=1e-3).unique().requires_grad_()
    snr = (path.alpha(t) / path.sigma(t)) ** 2
    (rate,) = torch.autograd.grad(snr.log().sum(), t, retain_graph=True)
    (snr_rate,) = torch.autograd.grad(snr.sum(), t)
    at = t.detach()
    close(weight("likelihood").on("eps", path, at), -0.5 * rate, rel=1e-7)
    close(weight("likelihood").on("x0", path, at), -0.5 * snr_rate, rel=1e-7)


@every_path
@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_are_positive_and_finite_inside(name, path):
    t = inner_times(path, least=1e-3)
    for lens in LENSES:
        value = weight(name).on(lens, path, t)
        assert value.shape == t.shape
        assert bool((torch.isfinite(value) & (value > 0)).all())


def test_impossible_weights_are_refused():
    with pytest.raises(InvalidArgument, match="unknown weight 'minsnr'; did you mean 'min_snr'"):
        weight("minsnr")
    for name in ("simple", "snr", "x0", "v", "velocity", "truncated_snr", "likelihood"):
        with pytest.raises(InvalidArgument, match="has no parameter"):
            weight(name, 2.0)
    for name, bad in [("min_snr", 0.0), ("min_snr", -1.0), ("edm", 0.0), ("edm", math.inf)]:
        with pytest.raises(InvalidArgument, match=f"parameter of weight '{name}' is {bad!r}"):
            weight(name, bad)
    with pytest.raises(InvalidArgument, match="nan"):
        weight("sigmoid", math.nan)
    assert weight("sigmoid", -3.0).parameter == -3.0
