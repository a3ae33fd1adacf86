"""Fokker–Planck, continuity and the reverse SDE on every path, and what a wrong term leaves."""

import dataclasses

import pytest
import torch

from tests.exact import BY_NAME, EVENTS, F64, FIELDS, IDS, PATHS, Seen
from unnoise.errors import InvalidArgument, Unsupported
from unnoise.fields import Field, dynamics
from unnoise.paths import VPLinear
from unnoise.randomness import Streams

every_path = pytest.mark.parametrize("path", [case.path for case in PATHS], ids=IDS)
every_field = pytest.mark.parametrize("name", FIELDS)
TIMES = torch.tensor([0.0437, 0.2113, 0.5057, 0.7831, 0.9713], dtype=F64)
LIMIT = 1e-9
EQUATIONS = {
    "fokker_planck": dynamics.fokker_planck,
    "continuity": dynamics.continuity,
    "reverse": dynamics.reverse_sde,
    "half": lambda field, x, t: dynamics.reverse_sde(field, x, t, 0.5),
    "double": lambda field, x, t: dynamics.reverse_sde(field, x, t, 2.0),
}


def points(name, path, t):
    """Typical points of a field: exact samples at each time would need a loop."""
    size = (path.alpha(t) ** 2 + path.sigma(t) ** 2).sqrt()
    draw = Streams(0, range(len(t)), name).normal(*EVENTS[name]).double()
    return size.reshape(-1, *(1,) * (draw.ndim - 1)) * draw


def worst(field, x, t):
    return {name: float(f(field, x, t).relative.max()) for name, f in EQUATIONS.items()}


@every_path
@every_field
def test_densities_obey_their_equations(name, path):
    left = worst(FIELDS[name](path), points(name, path, TIMES), TIMES)
    assert max(left.values()) < LIMIT, left


def test_one_time_for_all_and_any_lens():
    field = FIELDS["mixture_2d"](VPLinear())
    x = points("mixture_2d", field.path, TIMES)
    for t in (0.3, torch.tensor(0.3, dtype=F64)):
        left = dynamics.continuity(field, x, t)
        assert left.value.shape == (5,)
        assert float(left.relative.max()) < LIMIT
    seen = Seen(field, "eps")
    seen.log_density = field.log_density
    assert float(dynamics.reverse_sde(seen, x, 0.3).relative.max()) < LIMIT


class Wrong(Field):
    """A field whose score is off by a factor, with the right density."""

    def __init__(self, field, factor):
        self.field, self.path, self.factor = field, field.path, factor

    def log_density(self, x, t):
        return self.field.log_density(x, t)

    def __call__(self, x_t, t, condition=None):
        said = self.field(x_t, t)
        return said.with_value("score", self.factor * said.score)


def broken(method, factor):
    """A VP path with one coefficient off."""

    def wrong(self, t):
        return factor * getattr(VPLinear, method)(self, t)

    return dataclasses.dataclass(frozen=True)(type("Broken", (VPLinear,), {method: wrong}))()


@pytest.mark.parametrize(
    ("method", "equations"),
    [
        ("drift", ("fokker_planck", "reverse", "half", "double")),
        ("diffusion", ("fokker_planck", "reverse", "half", "double")),
        ("alpha_rate", ("continuity",)),
        ("sigma_rate", ("continuity",)),
    ],
)
def test_a_wrong_coefficient_shows(method, equations):
    path = broken(method, 1.01)
    field = FIELDS["mixture_2d"](path)
    left = worst(field, points("mixture_2d", path, TIMES), TIMES)
    for name in EQUATIONS:
        assert (left[name] > 1e-4) == (name in equations), (name, left)


def test_a_wrong_score_shows_wherever_it_is_used():
    field = Wrong(FIELDS["mixture_2d"](VPLinear()), 1.01)
    left = worst(field, points("mixture_2d", field.path, TIMES), TIMES)
    assert left.pop("fokker_planck") < LIMIT  # asks the density alone
    assert min(left.values()) > 1e-4


def test_the_residual_is_in_units_of_the_equation():
    # a density whose drift is taken 1 % too large: −0.01·f·(d + x·∇log p)
    path = broken("drift", 1.01)
    field = FIELDS["gaussian_3d"](path)
    x = points("gaussian_3d", path, TIMES).requires_grad_()
    (gradient,) = torch.autograd.grad(field.log_density(x, TIMES).sum(), x)
    wanted = 0.01 * VPLinear().drift(TIMES) * (3 + (x * gradient).sum(1))
    got = dynamics.fokker_planck(field, x.detach(), TIMES).value
    torch.testing.assert_close(got, wanted.detach(), rtol=1e-8, atol=1e-10)


def test_what_cannot_be_asked_is_refused():
    field = FIELDS["gaussian_3d"](BY_NAME["flow"].path)
    with pytest.raises(Unsupported, match="log_density"):
        dynamics.continuity(Seen(field, "v"), torch.zeros(2, 3, dtype=F64), 0.5)
    with pytest.raises(InvalidArgument, match="float64"):
        dynamics.continuity(field, torch.zeros(2, 3), 0.5)
    with pytest.raises(InvalidArgument, match="eta is -1"):
        dynamics.reverse_sde(field, torch.zeros(2, 3, dtype=F64), 0.5, -1)
