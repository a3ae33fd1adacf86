"""Data to noise and back: the exact latents, orders, uniqueness, and what lies between."""

from __future__ import annotations

import math

import pytest
import torch

from tests.exact import F64, gaussian_elementwise, mixture_1d
from tests.solvers.reference import flow_gaussian, flow_mixture, slope
from unnoise.errors import InvalidArgument, Unsupported
from unnoise.fields import Denoiser
from unnoise.likelihood import decode, encode, even_grid, lerp, slerp
from unnoise.networks import Mlp
from unnoise.objectives import Batch, Denoising
from unnoise.paths import EDM, VE, Cosine, Flow, Trigonometric, VPLinear, grids
from unnoise.randomness import Streams
from unnoise.solvers import Adaptive, RungeKutta, get

LATENTS = torch.linspace(-2, 2, 9, dtype=F64)[:, None]
SOLVERS = {
    "ddim": (get("ddim"), 1),
    "heun": (get("heun"), 2),
    "bogacki_shampine": (RungeKutta("bogacki_shampine", "flow"), 3),
    "rk4": (get("rk4"), 4),
}


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("path", [Flow(), VE()], ids=str)
def test_both_ways_converge_at_the_solvers_order(path, name):
    """To the closed-form flow, from and to σ = 0 (where x moves at once on a flow) or σ_min."""
    solver, order = SOLVERS[name]
    field, scale = mixture_1d(path), float(path.sigma(1.0))
    z = LATENTS * scale
    x = flow_mixture(path, z, 1.0, 0.0)
    up, down = [], []
    for steps in (16, 32, 64):
        up.append(float((encode(field, x, steps, solver).x - z).abs().mean()) / scale)
        down.append(float((decode(field, z, steps, solver).x - x).abs().mean()))
    assert slope(up) == pytest.approx(order, abs=0.35)
    assert slope(down) == pytest.approx(order, abs=0.35)


@pytest.mark.parametrize("path", [EDM(), Flow(), Cosine()], ids=str)
def test_the_round_trip_returns(path):
    field = mixture_1d(path)
    x = flow_mixture(path, LATENTS * float(path.sigma(1.0)), 1.0, 0.0)
    latent = encode(field, x, 12)
    back = decode(field, latent.x, 12)
    assert latent.nfe == back.nfe == 50
    assert (latent.t, back.t, latent.finished) == (1.0, 0.0, True)
    assert float((back.x - x).square().mean().sqrt() / x.square().mean().sqrt()) < 1e-3


def test_ddim_inversion_is_its_formula():
    """x₁ = (α₁/α₀)·x + (σ₁ − σ₀α₁/α₀)·ε between times that rise (Song et al. 2021, eq. 13)."""
    path = VPLinear()
    field, grid = mixture_1d(path), [0.9, 0.5, 0.1]
    x = torch.tensor([[0.3], [-1.2]], dtype=F64)
    wanted = x
    for t0, t1 in ((0.1, 0.5), (0.5, 0.9)):
        a0, s0, a1, s1 = (float(f(t)) for t in (t0, t1) for f in (path.alpha, path.sigma))
        eps = field(wanted, torch.tensor(t0, dtype=F64)).eps
        wanted = a1 / a0 * wanted + (s1 - s0 * a1 / a0) * eps
    torch.testing.assert_close(encode(field, x, grid, "ddim").x, wanted, rtol=1e-12, atol=1e-12)


def test_a_latent_belongs_to_the_field_and_to_nothing_else():
    """Two solvers, two grids, and the same model on another path give one latent."""
    path, other = VPLinear(), Trigonometric()
    field = mixture_1d(path)
    x = flow_mixture(path, LATENTS, 1.0, 0.0)
    first = encode(field, x, 60).x
    second = encode(field, x, grids.uniform(1), Adaptive(tol=1e-8)).x
    torch.testing.assert_close(first, second, rtol=0, atol=2e-6)
    start = float(other.time(path.log_snr(1.0)))
    along = encode(field.on_path(other), x, even_grid(other, 60, start), "rk4").x
    size = lambda p, t: float(torch.hypot(p.alpha(t), p.sigma(t)))  # noqa: E731
    torch.testing.assert_close(
        along / size(other, start), first / size(path, 1.0), rtol=0, atol=1e-9
    )


def test_images_encode_sample_by_sample():
    path = Cosine()
    field = gaussian_elementwise(path, (2, 3, 3))
    x = field.sample(Streams(0, range(3)))
    latent = encode(field, x, 24).x
    exact = flow_gaussian(field, latent, 1.0, 0.0)
    torch.testing.assert_close(exact, x, rtol=0, atol=1e-4)
    assert torch.equal(encode(field, x[1:2], 24).x[0], latent[1])


def test_a_trained_model_returns_what_it_was_given():
    """A small network trained on the digits of scikit-learn, 50 evaluations each way."""
    from sklearn.datasets import load_digits

    digits = torch.from_numpy(load_digits().data).float() / 8 - 1
    model = Denoiser(Mlp(64, 64, 1, seed=1), Cosine(), "v", preconditioned=True, data_std=0.75)
    optimiser, objective = torch.optim.Adam(model.parameters(), 3e-3), Denoising()
    for step in range(150):
        rows = torch.arange(step * 64, step * 64 + 64) % len(digits)
        loss = objective(model, Batch(digits[rows]), Streams(step, range(64))).value
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    x = digits[:16]
    model.eval()
    for solver, steps in (("rk4", 12), ("heun", 24)):
        latent = encode(model, x, steps, solver)
        back = decode(model, latent.x, steps, solver)
        assert latent.nfe == back.nfe == 50
        error = (back.x - x).square().mean().sqrt() / x.square().mean().sqrt()
        assert float(error) < 1e-2
    assert 0.7 < float(latent.x.std()) < 1.3


def test_slerp_keeps_the_norm_and_the_plane():
    a, b = (Streams(seed, range(3)).normal(2, 4).double() for seed in (1, 2))
    size = lambda x: x.flatten(1).norm(dim=1)  # noqa: E731
    a, b = (x / size(x).reshape(-1, 1, 1) * 3 for x in (a, b))
    theta = torch.acos((a * b).flatten(1).sum(1) / 9)
    for w in (0.0, 0.25, 0.5, 1.0):
        between = slerp(a, b, w)
        torch.testing.assert_close(size(between), torch.full((3,), 3.0, dtype=F64))
        turned = torch.acos(((a * between).flatten(1).sum(1) / 9).clamp(-1, 1))
        torch.testing.assert_close(turned, w * theta, rtol=0, atol=1e-7)
    each = torch.tensor([0.0, 0.5, 1.0], dtype=F64)
    torch.testing.assert_close(slerp(a, b, each)[2], b[2])
    torch.testing.assert_close(lerp(a, b, each)[1], (a[1] + b[1]) / 2)
    # towards equal directions it is linear
    torch.testing.assert_close(slerp(a, a * (1 + 1e-6), 0.5), a * (1 + 5e-7))
    assert float(size(lerp(a, b, 0.5)).max()) < 3


def test_what_is_refused():
    a = torch.ones(2, 3, dtype=F64)
    for b, says in ((-a, "opposite ways"), (0 * a, "norm 0"), (a[:1], "of one shape")):
        with pytest.raises(InvalidArgument, match=says):
            slerp(a, b, 0.5)
    with pytest.raises(InvalidArgument, match=r"weight has shape \(3,\) for 2 samples"):
        lerp(a, a, [0.1, 0.2, 0.3])
    field = mixture_1d(Flow())
    with pytest.raises(Unsupported, match="one deterministic flow"):
        encode(field, LATENTS, 4, "ddpm")
    with pytest.raises(Unsupported, match="log-SNR, which is infinite at t = 0"):
        encode(field, LATENTS, 4, "dpmpp_2m")
    with pytest.raises(InvalidArgument, match="must decrease"):
        encode(field, LATENTS, [0.0, 0.5, 1.0])
    with pytest.raises(InvalidArgument, match="steps is 0"):
        decode(field, LATENTS, 0)
    assert math.isfinite(float(decode(field, LATENTS, 8, "dpmpp_2m").x.sum()))
