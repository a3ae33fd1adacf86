"""Guidance by several conditions against a field whose conditions are independent given x."""

import pytest
import torch

from tests.exact import F64
from unnoise.errors import InvalidArgument
from unnoise.fields import LENSES, Condition, Field, Gaussian, Prediction
from unnoise.guidance import classifier_free, composed
from unnoise.paths import EDM, Flow, VPLinear

PRIOR = (torch.tensor([0.3, -0.2], dtype=F64), torch.tensor([0.7, 0.4], dtype=F64))
NOISE = {"class": 0.5, "age": 0.2}  # variances of what each condition measures of x_t itself
MEASURED = {"class": 0, "age": 1}  # the coordinate that each one measures
X = torch.tensor([[0.3, -0.4], [-1.0, 1.5], [2.0, 0.1]], dtype=F64)
GIVEN = {
    "class": torch.tensor([0.0, 1.0, -1.0], dtype=F64),
    "age": torch.tensor([0.4, -0.6, 0.2], dtype=F64),
}


class Measured(Field):
    """The score of p(x_t)·Π N(c_i; x_t[i], v_i): each condition a measurement of x_t with its own
    noise, so that they are independent given x_t."""

    def __init__(self, path, lens="score"):
        self.path, self.lens, self.calls, self.rows = path, lens, 0, 0
        self.prior = Gaussian(*PRIOR, path)

    def likelihood(self, x_t, name, value):
        """∇ log p(c | x_t)."""
        out = torch.zeros_like(x_t)
        at = MEASURED[name]
        out[:, at] = (value - x_t[:, at]) / NOISE[name]
        return out

    def __call__(self, x_t, t, condition=None):
        self.calls, self.rows = self.calls + 1, self.rows + len(x_t)
        score = self.prior(x_t, t).score
        for name in MEASURED if condition is not None else ():
            keep = condition.keep[name][:, None]
            score = score + keep * self.likelihood(x_t, name, condition.values[name])
        prediction = Prediction.of("score", score, x_t, t, self.path)
        return prediction.with_value(self.lens, prediction.as_lens(self.lens))


@pytest.mark.parametrize("path", [VPLinear(), Flow(), EDM(3.0)])
@pytest.mark.parametrize("lens", LENSES)
@pytest.mark.parametrize("t", [0.3, [0.2, 0.5, 0.9]])
def test_each_likelihood_enters_with_its_own_scale(path, lens, t):
    field, t = Measured(path, lens), torch.tensor(t, dtype=F64)
    for scales in ({"class": 2.0, "age": 0.5}, {"age": -1.0, "class": 3.0}, {"age": 1.7}):
        field.calls = field.rows = 0
        guided = composed(field, scales)(X, t, GIVEN)
        wanted = Gaussian(*PRIOR, path)(X, t).score
        for name, scale in scales.items():
            wanted = wanted + scale * field.likelihood(X, name, GIVEN[name])
        torch.testing.assert_close(guided.score, wanted, rtol=1e-9, atol=1e-9)
        assert (guided.lens, guided.nfe) == (lens, 1 + len(scales))
        assert (field.calls, field.rows) == (1, len(X) * guided.nfe)


def test_scales_of_one_give_the_exact_joint_conditional():
    field, t = Measured(Flow(), "velocity"), torch.tensor(0.4, dtype=F64)
    joint = field(X, t, Condition.of(GIVEN, 3))
    guided = composed(field, {"class": 1.0, "age": 1.0})(X, t, GIVEN)
    torch.testing.assert_close(guided.value, joint.value, rtol=1e-10, atol=1e-10)


def test_one_name_alone_is_classifier_free_guidance():
    field, t = Measured(Flow(), "velocity"), torch.tensor(0.4, dtype=F64)
    given = Condition.of(GIVEN, 3).null("age")
    ours, theirs = composed(field, {"class": 2.5}), classifier_free(field, 2.5)
    torch.testing.assert_close(
        ours(X, t, given).value, theirs(X, t, given).value, rtol=1e-12, atol=1e-12
    )


def test_a_sample_that_dropped_a_condition_is_not_guided_by_it():
    field, t = Measured(Flow()), torch.tensor(0.4, dtype=F64)
    given = Condition.of(GIVEN, 3).drop({"age": torch.tensor([True, False, True])})
    guided = composed(field, {"class": 2.0, "age": 3.0})(X, t, given).score
    without = composed(field, {"class": 2.0})(X, t, given).score
    torch.testing.assert_close(guided[[0, 2]], without[[0, 2]], rtol=1e-12, atol=1e-12)
    assert not torch.allclose(guided[1], without[1])


@pytest.mark.parametrize(
    ("scales", "given", "message"),
    [
        ({}, GIVEN, "give a finite number for one name"),
        ({"age": float("nan")}, GIVEN, "nan"),
        ({"agee": 1.0}, GIVEN, "did you mean 'age'"),
        ({"age": 1.0}, None, "conditioned"),
    ],
)
def test_what_cannot_guide_is_refused(scales, given, message):
    with pytest.raises(InvalidArgument, match=message):
        composed(Measured(Flow()), scales)(X, torch.tensor(0.4, dtype=F64), given)
