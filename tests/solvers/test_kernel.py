"""Transition kernels of one-step solvers: the step itself, and the laws in closed form."""

import math

import pytest
import torch

from tests.exact import F64, Seen, mixture_2d
from unnoise.errors import Unsupported
from unnoise.fields import Prediction
from unnoise.paths import VE, Chain, Cosine, Flow, VPLinear
from unnoise.randomness import Streams
from unnoise.solvers import DDIM, get

PATHS = {"vp": VPLinear(), "chain": Chain.linear(30, 1e-3, 0.3).as_path(), "ve": VE(),
         "flow": Flow(), "cosine": Cosine()}  # fmt: skip
NAMES = (
    "ddim", "ddim:eta=0.4", "sde first", "ddpm", "ddpm:variance=transition",
    "ddpm:variance=learned",
    "ddim:eta=0.7", "euler_maruyama", "euler_maruyama:eta=0.6", "euler_maruyama:eta=0",
    "reverse_diffusion", "consistent_annealing",
)  # fmt: skip


class WithShare(Seen):
    """A field with a variance fraction of its own in every number."""

    def __call__(self, x_t, t, condition=None):
        prediction = super().__call__(x_t, t)
        prediction.variance_fraction = torch.linspace(0, 1, x_t.numel()).reshape(x_t.shape)
        return prediction


def at(path, t, lens="v") -> Prediction:
    x = 0.8 * Streams(2, range(5)).normal(2).double()
    return WithShare(mixture_2d(path), lens)(x, torch.tensor(t, dtype=F64))


@pytest.mark.parametrize("lens", ["x0", "v"])
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", NAMES)
def test_the_step_is_the_mean_and_the_deviation_times_its_noise(name, path, lens):
    solver = DDIM(2.0, "sde") if name == "sde first" else get(name)
    path, noise = PATHS[path], Streams(0, range(5))
    field = WithShare(mixture_2d(path), lens)
    for t, s in ((0.9, 0.6), (0.5, 0.4), (0.2, 0.0)):
        prediction = at(path, t, lens)
        mean, std = solver.kernel(prediction, t, s)
        draw = noise.normal(2).double()
        made = solver.solve(field, prediction.x_t, [t, s], Drawn(draw)).x
        torch.testing.assert_close(made, mean + std * draw, rtol=1e-13, atol=1e-13)
        if not solver.stochastic:
            assert float(std) == 0


class Drawn:
    """Noise that is known."""

    def __init__(self, draw):
        self.draw = draw

    def normal(self, *event):
        return self.draw.clone()

    def mark(self):
        return 0

    def rewound(self, mark=0):
        return self


@pytest.mark.parametrize("path", PATHS)
def test_ancestral_is_the_posterior_of_bayes_rule(path):
    """q(x_s|x_t, x0) ∝ q(x_t|x_s)·q(x_s|x0): precisions add up."""
    path, t, s = PATHS[path], 0.8, 0.5
    prediction = at(path, t)
    a_t, s_t, a_s, s_s = (float(f(v)) for v in (t, s) for f in (path.alpha, path.sigma))
    k = a_t / a_s
    beta = s_t**2 - (k * s_s) ** 2  # q(x_t|x_s) = N(k·x_s, β)
    precision = k**2 / beta + 1 / s_s**2
    mean = (k * prediction.x_t / beta + a_s * prediction.x0 / s_s**2) / precision
    for name in ("ddpm", "ddim:eta=1.0"):
        got, std = get(name).kernel(prediction, t, s)
        torch.testing.assert_close(got, mean, rtol=1e-11, atol=1e-11)
        assert float(std) == pytest.approx(precision**-0.5, rel=1e-11)
    same_mean, wide = get("ddpm:variance=transition").kernel(prediction, t, s)
    torch.testing.assert_close(same_mean, mean, rtol=1e-11, atol=1e-11)
    assert float(wide) == pytest.approx(math.sqrt(beta), rel=1e-11)
    _, learned = get("ddpm:variance=learned").kernel(prediction, t, s)
    share = prediction.variance_fraction.double()
    wanted = (share * math.log(beta) - (1 - share) * math.log(precision)).mul(0.5).exp()
    torch.testing.assert_close(learned, wanted, rtol=1e-6, atol=0)  # the fraction is float32


@pytest.mark.parametrize("eta", [0.3, 1.0])
def test_ddim_and_the_reverse_sde_in_closed_form(eta):
    path, t, s = PATHS["vp"], 0.7, 0.55
    prediction = at(path, t, "eps")
    a_s, s_s = float(path.alpha(s)), float(path.sigma(s))
    h = float(path.log_snr(s)) - float(path.log_snr(t))
    spread = eta * s_s * math.sqrt(1 - math.exp(-2 * h))
    mean, std = get("ddim", eta=eta).kernel(prediction, t, s)
    wanted = a_s * prediction.x0 + math.sqrt(s_s**2 - spread**2) * prediction.eps
    torch.testing.assert_close(mean, wanted, rtol=1e-12, atol=1e-12)
    assert float(std) == pytest.approx(spread, rel=1e-12)
    x, score, gap = prediction.x_t, prediction.score, t - s
    f, g = float(path.drift(t)), float(path.diffusion(t))
    mean, std = get("euler_maruyama", eta=eta).kernel(prediction, t, s)
    drift = f * x - 0.5 * (1 + eta**2) * g**2 * score
    torch.testing.assert_close(mean, x - gap * drift, rtol=1e-12, atol=1e-12)
    assert float(std) == pytest.approx(eta * g * math.sqrt(gap), rel=1e-12)
    k = float(path.alpha(t)) / a_s
    gone = float(path.sigma(t)) ** 2 - (k * s_s) ** 2
    mean, std = get("reverse_diffusion").kernel(prediction, t, s)
    torch.testing.assert_close(mean, (2 - k) * x + gone * score, rtol=1e-12, atol=1e-12)
    assert float(std) == pytest.approx(math.sqrt(gone), rel=1e-12)


def test_solvers_of_several_evaluations_have_no_kernel():
    prediction = at(PATHS["vp"], 0.5)
    for name in (
        "dpmpp_2m_sde",
        "dpmpp_sde",
        "heun",
        "unipc",
        "sa_solver",
        "er_sde",
        "auto",
        "rk45",
    ):
        with pytest.raises(Unsupported, match="no transition kernel"):
            get(name).kernel(prediction, 0.5, 0.4)
    plain = mixture_2d(PATHS["vp"])(prediction.x_t, prediction.t)
    with pytest.raises(Unsupported, match="learned no variance"):
        get("ddpm:variance=learned").kernel(plain, 0.5, 0.4)
