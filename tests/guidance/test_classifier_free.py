"""Classifier-free guidance against the classifier it stands for, in closed form."""

import math

import pytest
import torch

from tests.exact import BY_NAME, F64, Seen
from unnoise.errors import InvalidArgument
from unnoise.fields import LENSES, Condition, Field, Gaussian, Mixture, Prediction
from unnoise.guidance import classifier_free
from unnoise.paths import EDM, Flow, VPLinear

MEANS = torch.tensor([[-1.0, 0.5], [1.2, 1.0]], dtype=F64)
VARIANCES = torch.tensor([[0.2, 0.3], [0.4, 0.1]], dtype=F64)
WEIGHTS = torch.tensor([0.35, 0.65], dtype=F64)


class Labelled(Field):
    """x0 | class is Gaussian; without a class, the mixture. Counts its calls."""

    def __init__(self, path, lens="x0", means=MEANS, variances=VARIANCES):
        self.path, self.calls, self.rows = path, 0, 0
        self.mixture = Mixture(WEIGHTS.to(means.dtype), means, variances, path)
        self.classes = [Gaussian(m, v, path) for m, v in zip(means, variances, strict=True)]
        self.lens = lens

    def __call__(self, x_t, t, condition=None):
        self.calls, self.rows = self.calls + 1, self.rows + len(x_t)
        x0 = self.mixture(x_t, t).x0
        if condition is not None:
            for k, part in enumerate(self.classes):
                chosen = (condition.values["class"] == k) & condition.keep["class"]
                x0 = torch.where(chosen[:, None], part(x_t, t).x0, x0)
        said = Prediction.of("x0", x0, x_t, t, self.path)
        return said.with_value(self.lens, said.as_lens(self.lens))


X = torch.tensor([[0.3, -0.4], [-1.0, 1.5], [2.0, 0.1]], dtype=F64)
CLASSES = {"class": [0, 1, 1]}


def at(t):
    return torch.tensor(t, dtype=F64)


@pytest.mark.parametrize("path", [VPLinear(), Flow(), EDM(3.0), BY_NAME["chain_cosine"].path])
@pytest.mark.parametrize("lens", LENSES)
@pytest.mark.parametrize("scale", [-1.0, 0.0, 0.4, 1.0, 1.5, 4.0])
def test_the_score_leans_by_the_gradient_of_the_classifier(path, lens, scale):
    # ∇log p(x) + scale·∇log p(class | x), the classifier being Bayes' rule on the mixture
    field = Labelled(path, lens)
    for t in (0.2, 0.7):
        x = X.clone().requires_grad_()
        joint = field.mixture._joint(x, at(t))
        log_class = joint.log_softmax(1)[torch.arange(3), torch.tensor([0, 1, 1])]
        (classifier,) = torch.autograd.grad(log_class.sum(), x, retain_graph=True)
        (score,) = torch.autograd.grad(joint.logsumexp(1).sum(), x)
        guided = classifier_free(field, scale)(X, at(t), CLASSES)
        torch.testing.assert_close(guided.score, score + scale * classifier, rtol=1e-8, atol=1e-8)
        assert guided.lens == lens


@pytest.mark.parametrize("lens", LENSES)
@pytest.mark.parametrize("t", [0.4, [0.2, 0.5, 0.9]])
def test_affine_in_every_lens(lens, t):
    field = Labelled(VPLinear(), lens)
    t = at(t)
    condition = Condition.of(CLASSES, 3)
    cond, uncond = field(X, t, condition), field(X, t)
    guided = classifier_free(field, 2.5)(X, t, CLASSES)
    for through in LENSES:
        wanted = uncond.as_lens(through) + 2.5 * (cond.as_lens(through) - uncond.as_lens(through))
        torch.testing.assert_close(guided.as_lens(through), wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("t", [0.4, [0.2, 0.5, 0.9]])
@pytest.mark.parametrize("lens", LENSES)
def test_scale_one_and_zero_are_the_models_own_answers(lens, t):
    t, condition = at(t), Condition.of(CLASSES, 3)
    for scale, wanted in ((1.0, condition), (0.0, condition.null()), (0.0, None)):
        field = Labelled(VPLinear(), lens)
        said = classifier_free(field, scale)(X, t, CLASSES)
        assert (field.calls, field.rows, said.nfe) == (1, 3, 1)
        assert torch.equal(said.value, field(X, t, wanted).value)
    # at scale 1 a rescale has nothing to do; at scale 0 it still has
    field = Labelled(VPLinear(), lens)
    said = classifier_free(field, 1.0, rescale=0.7)(X, t, CLASSES)
    assert torch.equal(said.value, field(X, t, condition).value)
    said = classifier_free(field, 0.0, rescale=0.7)(X, t, CLASSES)
    near = classifier_free(field, 1e-9, rescale=0.7)(X, t, CLASSES)
    torch.testing.assert_close(said.x0, near.x0, rtol=1e-6, atol=1e-6)


def test_one_batched_evaluation():
    field = Labelled(VPLinear())
    said = classifier_free(field, 2.0).conditioned(CLASSES)(X, at(0.5))
    assert (field.calls, field.rows, said.nfe) == (1, 6, 2)
    assert torch.equal(said.x_t, X)


@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
def test_outside_the_interval_is_the_conditional_model(scale):
    condition = Condition.of(CLASSES, 3)
    for t, inside in [(0.1, False), (0.2, True), (0.5, True), (0.7, True), (0.71, False)]:
        field = Labelled(VPLinear())
        said = classifier_free(field, scale, interval=(0.2, 0.7))(X, at(t), CLASSES)
        if inside:
            wanted = classifier_free(Labelled(VPLinear()), scale)(X, at(t), CLASSES)
        else:
            wanted = Labelled(VPLinear())(X, at(t), condition)
            assert (field.rows, said.nfe) == (3, 1)
        assert torch.equal(said.value, wanted.value)


@pytest.mark.parametrize("rescale", [0.0, 0.6])
@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
def test_an_interval_with_a_time_per_sample(scale, rescale):
    t = at([0.1, 0.5, 0.9])
    said = classifier_free(Labelled(VPLinear()), scale, (0.2, 0.7), rescale)(X, t, CLASSES)
    for row in range(3):
        alone = classifier_free(Labelled(VPLinear()), scale, (0.2, 0.7), rescale)(
            X[row : row + 1], t[row], {"class": CLASSES["class"][row]}
        )
        torch.testing.assert_close(said.x0[row], alone.x0[0], rtol=1e-12, atol=1e-12)


def test_rescale_sets_the_deviation_of_x0():
    generator = torch.Generator().manual_seed(0)
    means, variances = torch.randn(2, 50, generator=generator, dtype=F64), torch.full((2, 50), 0.3)
    field = Labelled(VPLinear(), "v", means, variances.double())
    x = torch.randn(3, 50, generator=generator, dtype=F64)
    cond = field(x, at(0.6), Condition.of(CLASSES, 3)).x0.std(1)
    plain = classifier_free(field, 5.0)(x, at(0.6), CLASSES)
    assert bool(((plain.x0.std(1) / cond - 1).abs() > 0.05).all())
    for phi in (0.3, 1.0):
        said = classifier_free(field, 5.0, rescale=phi)(x, at(0.6), CLASSES)
        wanted = phi * cond + (1 - phi) * plain.x0.std(1)
        torch.testing.assert_close(said.x0.std(1), wanted)
        ratio = said.x0 / plain.x0  # a scaling of x0 and nothing else
        torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio))
        assert said.nfe == 2
        for lens in LENSES:  # the same whatever the network predicts
            other = classifier_free(Seen2(field, lens), 5.0, rescale=phi)(x, at(0.6), CLASSES)
            torch.testing.assert_close(other.x0, said.x0, rtol=1e-9, atol=1e-9)


class Seen2(Seen):
    """`Seen`, with conditions."""

    def __call__(self, x_t, t, condition=None):
        said = self.field(x_t, t, condition)
        return said.with_value(self.lens, said.as_lens(self.lens))


def test_guidances_nest():
    # inner: u + 2(c − u); outer with that as the conditional answer and u as the null one
    field = Labelled(VPLinear(), "eps")
    inner = classifier_free(field, 2.0)
    said = classifier_free(inner, 1.5)(X, at(0.5), CLASSES)
    cond, uncond = field(X, at(0.5), Condition.of(CLASSES, 3)).eps, field(X, at(0.5)).eps
    torch.testing.assert_close(said.eps, uncond + 3.0 * (cond - uncond))
    assert said.nfe == 4


def test_samples_without_their_condition_are_not_guided():
    condition = Condition.of(CLASSES, 3).drop(torch.tensor([False, True, False]))
    field = Labelled(VPLinear())
    said = classifier_free(field, 3.0)(X, at(0.5), condition)
    torch.testing.assert_close(said.x0[1], field(X, at(0.5)).x0[1])
    assert not torch.allclose(said.x0[0], field(X, at(0.5)).x0[0])


@pytest.mark.parametrize("t", [0.5, [0.3, 0.5, 0.8]])
def test_guidance_is_the_same_on_another_path(t):
    x, t = 0.7 * X, at(t)
    native = classifier_free(Labelled(Flow()), 2.0)(x, t, CLASSES)
    for field in (
        classifier_free(Labelled(VPLinear()), 2.0).on_path(Flow()),
        classifier_free(Labelled(VPLinear()).on_path(Flow()), 2.0),
    ):
        said = field.conditioned(CLASSES)(x, t)
        torch.testing.assert_close(said.x0, native.x0, rtol=1e-7, atol=1e-8)
        assert said.nfe == 2


@pytest.mark.parametrize("size", [2, 3, 17])
def test_bitwise_at_any_batch(size):
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(2, size, generator=generator)

    class One(Field):
        """Elementwise: the class moves the mean of a Gaussian."""

        path = VPLinear()

        def __call__(self, x_t, t, condition=None):
            rows = torch.where(condition.keep["class"], condition.values["class"], 0)
            centre = means[rows]
            return Prediction.of("x0", centre + 0.3 * (x_t - centre), x_t, t, self.path)

    x = torch.randn(64, size, generator=generator)
    labels = torch.arange(64) % 2
    guided = classifier_free(One(), 1.7)

    def run(rows):
        return guided(x[rows], at(0.4), {"class": labels[rows]}).eps

    whole = run(slice(None))
    for step in (1, 8):
        parts = torch.cat([run(slice(i, i + step)) for i in range(0, 64, step)])
        assert torch.equal(parts, whole)


def test_impossible_guidance_is_refused():
    field = Labelled(VPLinear())
    for scale in (math.nan, math.inf, -math.inf):
        with pytest.raises(InvalidArgument, match="guidance scale is"):
            classifier_free(field, scale)
    for interval in [(0.7, 0.2), (0.5, 0.5), (-0.1, 0.5), (0.2, 1.1), (math.nan, 0.5)]:
        with pytest.raises(InvalidArgument, match="guidance interval is"):
            classifier_free(field, 2.0, interval)
    for rescale in (-0.1, 1.1, math.nan):
        with pytest.raises(InvalidArgument, match="guidance rescale is"):
            classifier_free(field, 2.0, rescale=rescale)
    with pytest.raises(InvalidArgument, match=r"bind one with \.conditioned"):
        classifier_free(field, 2.0)(X, at(0.5))
    narrow = Labelled(VPLinear(), "x0", MEANS[:, :1], VARIANCES[:, :1])
    with pytest.raises(InvalidArgument, match=r"\(1,\) holds one number"):
        classifier_free(narrow, 2.0, rescale=0.5)(X[:, :1], at(0.5), CLASSES)
